"""How to train: every setting, declared once; flags, help and config.toml follow from it."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from manako.checks import Rule, plain
from manako.corpus.packed import is_packed
from manako.corpus.settings import check_range
from manako.errors import CapabilityError, LoadError, UsageError
from manako.files import exists, printable, read_regular
from manako.formats.run_folder import CONFIG

CHOICES = {
    "optimizer": ("muon", "adamw"),
    "schedule": ("linear", "cosine", "wsd"),
    "dtype": ("auto", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 192, "block_size": 256}
PRESETS: dict[str, dict[str, Any]] = {  # for a machine and a patience; every setting that is given goes before them
    "laptop-5min": {
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "block_size": 128,
        "max_minutes": 5,
        "eval_interval": 200,
    },
    "laptop-1h": {"n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 256, "max_minutes": 60, "eval_interval": 500},
    "gpu-30min": {
        "n_layer": 8,
        "n_head": 8,
        "n_embd": 512,
        "block_size": 512,
        "batch_size": 64,
        "max_minutes": 30,
        "eval_interval": 500,
    },
}
_COUNT: Rule = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}  # what PyTorch takes
POSITIVE: Rule = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e300}  # beyond it would be no float
_RANGES: dict[str, Rule] = {  # one that is None by default may be None
    **dict.fromkeys(("steps", "batch_size", "micro_batch", "eval_interval", "keep"), _COUNT),
    "warmup_steps": _COUNT | {"minimum": 0},
    "seed": {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
    "snapshots": {"type": "integer", "minimum": 0, "maximum": 10_000},
    **dict.fromkeys(("learning_rate", "muon_rate", "grad_clip", "max_minutes"), POSITIVE),
    "weight_decay": {"type": "number", "minimum": 0, "maximum": 1e300},
    "replay": {"type": "string"},
}


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the shape of the model is ModelConfig's. Messages named option.FIELD say the same to a user."""

    steps: int | None = None
    """Optimizer steps. None: as many as come into max_minutes, or 2,000."""
    max_minutes: float | None = None
    """Stop, with a checkpoint, when this time is over; the learning rate is at its end by then."""
    replay: str | None = None
    """The folder of a run whose schedule this one follows step by step, in place of steps and clock."""
    batch_size: int = 16
    """Sequences of block_size tokens a step, over all processes."""
    micro_batch: int | None = None
    """Sequences that go through the model at once; None: as many as keep the logits below 256 MB."""
    optimizer: str = "muon"
    """muon for the matrices inside the blocks and AdamW for the rest, or adamw for all."""
    learning_rate: float = 2.5e-3
    """Peak rate of AdamW."""
    muon_rate: float = 0.02
    """Peak rate of Muon."""
    warmup_steps: int = 100
    """Steps of linear warm-up, at most a fifth of the run."""
    schedule: str = "linear"
    """How the rate falls: linear, cosine or wsd."""
    weight_decay: float = 0.1
    """AdamW decay of matrices; vectors and Muon's matrices have none."""
    grad_clip: float = 1.0
    """Largest gradient norm."""
    eval_interval: int = 250
    """Steps between two evaluations; each leaves a checkpoint."""
    keep: int | None = None
    """How many checkpoints to keep beside the best; None keeps all."""
    snapshots: int = 48
    """How many snapshots of the weights to leave at most, dense at the beginning and then evenly; 0 for none."""
    seed: int = 0
    """Seed of weights and batches."""
    dtype: str = "auto"
    """Type of the matrix products: bfloat16 where the device computes in it, else float32. Weights are float32."""
    device: str = "auto"
    """cuda where there is one, else cpu."""

    def __post_init__(self) -> None:
        for name, rule in _RANGES.items():
            if getattr(self, name) is not None or getattr(TrainingConfig, name) is not None:
                object.__setattr__(self, name, check_range(name, getattr(self, name), rule))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError("cli_choice", name=name, choices=", ".join(allowed))


def moved_by_muon(name: str, dimensions: int) -> bool:
    """Whether Muon, where it is chosen, moves a weight: the matrices inside the blocks."""
    return name.startswith("h.") and dimensions == 2


def to_toml(settings: Mapping[str, Any]) -> bytes:
    """Flat settings as TOML; those that are None are left out.

    >>> to_toml({"steps": 5, "kana": "any", "keep": None})
    b'steps = 5\\nkana = "any"\\n'
    """
    # A JSON number, string or boolean is one of TOML's, too, but for U+007F, which JSON leaves as it is.
    said = {k: json.dumps(_readable(plain(v)), ensure_ascii=False) for k, v in settings.items() if v is not None}
    text = "".join(f"{k} = {v}\n" for k, v in said.items()).replace("\x7f", "\\u007f")
    assert tomllib.loads(text) == {k: json.loads(v) for k, v in said.items()}  # or a run could never go on
    return text.encode("utf-8")


def _readable(value: Any) -> Any:
    """Text that came from the system as text that a file can hold."""
    if isinstance(value, list):
        return [_readable(each) for each in cast("Iterable[Any]", value)]
    return printable(value) if isinstance(value, str) else value


def read_toml(path: Path) -> dict[str, Any]:
    """Flat settings from a TOML file. Raises LoadError naming the file."""
    try:
        return tomllib.loads(read_regular(path, limit=1 << 20).decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: also of a number of thousands of digits
        raise LoadError("toml_invalid", file=path, reason=error) from None


def training_settings(settings: Mapping[str, Any]) -> TrainingConfig:
    """The part of flat settings that is TrainingConfig's."""
    return TrainingConfig(**{f.name: settings[f.name] for f in fields(TrainingConfig) if f.name in settings})


def preset_settings(name: str | None) -> dict[str, Any]:
    """The settings of a preset, none of them without one. Raises UsageError for a name that is not known."""
    if name is not None and (not isinstance(name, str) or name not in PRESETS):
        raise UsageError("cli_choice", name="preset", choices=", ".join(PRESETS))
    return {} if name is None else PRESETS[name]


def recorded_corpus(run: Path) -> Path:
    """The packed corpus of a run: the one inside it, else the one that it names.

    Raises CapabilityError where it names none, LoadError where there is none any more.
    """
    if exists(inside := run / "corpus"):
        return inside
    said = read_toml(run / CONFIG).get("data")
    first = said[0] if isinstance(said, list) and said else said  # one may have written one name, or none
    if not isinstance(first, str):
        raise CapabilityError("evidence_no_corpus", ref=run)
    folder = Path(first)
    if not is_packed(folder):
        raise LoadError("evidence_corpus_moved", run=run, folder=folder)
    return folder
