"""Everything that a run can be told, each with its one default: `RunSettings`, and the parts of a model to switch off.

Special here: Python's keywords, the flags of a command, the request of a page and the changes of a fork all go through
`RunSettings.changed`, so that a setting has one name, one range and one meaning. None says "as it is" there, but for
a sampler stage that may be left out, which it leaves out.
"""

import numbers
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeGuard

from manako.checks import plain
from manako.errors import Names, UsageError
from manako.sampling import Sampling, check_seed, listed, ordered
from manako.trace.schema import CAPTURES

COMPARED = (0.3, 0.8, 1.2)
"""The temperatures of a comparison that names none."""
_FORM = re.compile(r"(head:(\d{1,4})\.(\d{1,4})|(mlp|layer):(\d{1,4}))(=mean|=zero)?")


@dataclass(frozen=True)
class RunSettings:
    """What a run is told beside its model and its text. Raises UsageError naming value and range.

    >>> RunSettings().changed(top_k=5) == RunSettings(sampling=Sampling(top_k=5))
    True
    """

    max_new_tokens: int = 15
    """How many tokens to draw at most."""
    seed: int | None = None
    """Of the random numbers, 0 to 2^64 - 1; None for a fresh one."""
    stop: tuple[str, ...] = ()
    """Texts that end the run once generated."""
    capture: tuple[str, ...] = ()
    """What else to record of each step, names out of CAPTURES."""
    ablate: tuple[str, ...] = ()
    """Parts of the model to switch off, each in the form that `Ablation.parse` reads."""
    special: bool = False
    """Whether the name of a special token in the prompt is read as that token."""
    chat: bool = False
    """Whether the prompt is what a user says, to be put into the model's own chat template."""
    system: str = ""
    """What the template says to the model before that, where `chat` is on."""
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        check_type("sampling", self.sampling, Sampling)
        put: dict[str, Any] = {
            "max_new_tokens": check_count(self.max_new_tokens),
            "seed": None if self.seed is None else check_seed(self.seed),
            "stop": check_stop(self.stop),
            "capture": check_captures(self.capture),
            "ablate": tuple(str(Ablation.parse(part)) for part in listed(self.ablate)),
        }
        put |= {name: plain(getattr(self, name)) for name in ("special", "chat", "system")}
        for name in ("special", "chat"):
            if type(put[name]) is not bool:
                raise UsageError("setting_switch", name=name, got=put[name])
        if not isinstance(put["system"], str):
            raise UsageError("setting_text", name="system", got=put["system"])
        if put["system"] and not put["chat"]:
            raise UsageError("system_without_chat")
        for name, value in put.items():
            object.__setattr__(self, name, value)

    def changed(self, **given: Any) -> "RunSettings":
        """With these settings in place of its own: fields by their names, and those of its sampling by theirs.

        sampling gives all of that at once. Raises UsageError for an unknown name, and for a sampling given twice.
        """
        if unknown := sorted(given.keys() - SETTINGS - {"sampling"}):
            raise UsageError("sampling_key", got=", ".join(unknown), known=Names(sorted(SETTINGS)))
        given = {name: value for name, value in given.items() if value is not None or name in _OPTIONAL}
        own = {name: given.pop(name) for name in [*given] if name in _OWN}
        if "sampling" in own and given:
            raise UsageError("sampling_twice", got=", ".join(given))
        if given and "order" not in given:  # one that was made without a stage that is wanted now
            used = [name for name, value in given.items() if value is not None]
            given["order"] = ordered(self.sampling.order, used)
        return replace(self, **{"sampling": replace(self.sampling, **given)} | own)

    def refuse_mean(self) -> None:
        """Raise UsageError for a mean over a text that a record holds in part: nobody could compute its rows again."""
        for part in self.ablate:
            if Ablation.parse(part).mean:
                raise UsageError("ablate_mean_text", got=part)

    def seeded(self) -> "RunSettings":
        """With a fresh seed where it has none."""
        return self if self.seed is not None else replace(self, seed=int.from_bytes(os.urandom(4)))


_OWN = frozenset(f.name for f in fields(RunSettings))
_OPTIONAL = frozenset(f.name for f in fields(Sampling) if f.default is None)
SETTINGS = _OWN - {"sampling"} | {f.name for f in fields(Sampling)}
"""The names of all settings, those of a Sampling by themselves."""


@dataclass(frozen=True)
class Ablation:
    """One part to switch off."""

    kind: str
    """head, mlp or layer."""
    layer: int
    head: int | None
    mean: bool
    """Whether the average over the prompt takes its place, rather than zero."""

    @classmethod
    def parse(cls, text: str) -> "Ablation":
        """From "head:3.5", "mlp:2" or "layer:4", with "=mean" behind it or not. Raises UsageError.

        >>> Ablation.parse("head:3.5"), str(Ablation.parse("mlp:2=mean"))
        (Ablation(kind='head', layer=3, head=5, mean=False), 'mlp:2=mean')
        """
        found = _FORM.fullmatch(text.strip()) if isinstance(text, str) and text.isascii() else None
        if found is None:
            raise UsageError("ablate_form", got=text)
        _, layer, head, kind, other, how = found.groups()
        return cls(kind or "head", int(layer or other), None if head is None else int(head), how == "=mean")

    def __str__(self) -> str:
        place = f"{self.layer}" if self.head is None else f"{self.layer}.{self.head}"
        return f"{self.kind}:{place}" + ("=mean" if self.mean else "")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or NumPy; True is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_type(name: str, value: object, kind: type) -> None:
    """Raise UsageError for an argument that is no such object."""
    if not isinstance(value, kind):
        raise UsageError("setting_type", name=name, kind=kind.__name__, got=value)


def check_count(max_new_tokens: object) -> int:
    """A number of tokens to draw: a whole number of at least 0 that a record has room for. Raises UsageError."""
    if not is_whole(max_new_tokens) or not 0 <= max_new_tokens < 2**64:
        raise UsageError("max_new_tokens", got=max_new_tokens)
    return int(max_new_tokens)


def check_stop(stop: Sequence[str]) -> tuple[str, ...]:
    """Texts to stop at, none of them empty, all of them Unicode. Raises UsageError."""
    if isinstance(stop, str | Mapping) or not isinstance(stop, Iterable):
        raise UsageError("stop", got=repr(stop))
    texts = tuple(stop)
    for text in texts:
        if not isinstance(text, str) or not text or any("\ud800" <= ch <= "\udfff" for ch in text):
            raise UsageError("stop", got=ascii(text))
    return texts


def check_captures(wanted: Sequence[str]) -> tuple[str, ...]:
    """The names, each once and in the order of CAPTURES. Raises UsageError for another one."""
    names = listed(wanted)
    for name in names:
        if name not in CAPTURES:
            raise UsageError("capture_unknown", got=name, known=", ".join(CAPTURES))
    return tuple(name for name in CAPTURES if name in names)
