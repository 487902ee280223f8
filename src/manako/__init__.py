"""manako 眼: train a small GPT on your own text, then watch every choice it makes.

>>> import manako
>>> manako.Sampling(temperature=0.8).active
('temperature',)

Everything here is loaded when it is first used, so that `import manako` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manako import corpus
    from manako.analysis.compare import Comparison, compare
    from manako.analysis.evidence import evidence
    from manako.analysis.tokens import tokens
    from manako.analysis.verification import verify
    from manako.errors import CapabilityError, LoadError, ManakoError, MissingExtraError, UsageError
    from manako.experiments.dynamics import dynamics
    from manako.experiments.training_step import training_step
    from manako.model import Model, load
    from manako.sampling import Sampling
    from manako.settings import RunSettings
    from manako.trace.file import open
    from manako.trace.record import Candidate, Step, Trace
    from manako.training.run import train

__version__ = "0.1.0"

_HOMES = {
    "Candidate": "manako.trace.record",
    "CapabilityError": "manako.errors",
    "Comparison": "manako.analysis.compare",
    "LoadError": "manako.errors",
    "ManakoError": "manako.errors",
    "MissingExtraError": "manako.errors",
    "Model": "manako.model",
    "RunSettings": "manako.settings",
    "Sampling": "manako.sampling",
    "Step": "manako.trace.record",
    "Trace": "manako.trace.record",
    "UsageError": "manako.errors",
    "compare": "manako.analysis.compare",
    "dynamics": "manako.experiments.dynamics",
    "corpus": "manako",
    "evidence": "manako.analysis.evidence",
    "load": "manako.model",
    "open": "manako.trace.file",
    "tokens": "manako.analysis.tokens",
    "train": "manako.training.run",
    "training_step": "manako.experiments.training_step",
    "verify": "manako.analysis.verification",
}
__all__ = [  # noqa: PLE0604  the same names, spelled for tools that read source
    "Candidate",
    "CapabilityError",
    "Comparison",
    "LoadError",
    "ManakoError",
    "MissingExtraError",
    "Model",
    "RunSettings",
    "Sampling",
    "Step",
    "Trace",
    "UsageError",
    "compare",
    "corpus",
    "dynamics",
    "evidence",
    "load",
    "open",
    "tokens",
    "train",
    "training_step",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'manako' has no attribute {name!r}")
    if _HOMES[name] == __name__:  # a room, such as corpus, whose own functions are public
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
