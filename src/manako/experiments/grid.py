"""What a sweep varies: the settings of each run of a grid, checked before any text is read.

Special here: the held-out text must be the same for all runs, so nothing that says how text is read or split can vary;
neither can a time, since two runs of ten minutes have as much compute as the machine happened to have left.
"""

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from manako.checks import plain
from manako.corpus.documents import Reading
from manako.corpus.settings import KINDS, RULES, CorpusSettings, check_names, check_range
from manako.errors import Names, UsageError, near
from manako.files import printable
from manako.training.config import read_toml, to_toml, training_settings
from manako.training.run import DEFAULTS, checked_shape

SWEEP = "sweep.toml"
SHARE, FLOPS = "data", "flops"  # what a sweep has beside the settings of a training
_OWN: dict[str, Any] = {SHARE: 1, FLOPS: None}
_SHARED: dict[str, Any] = DEFAULTS | {"snapshots": 0}  # of every run they would fill the disk
_TIMED = ("max_minutes", "replay")
_FIXED = {f.name for f in fields(Reading)} | {"validation", "device"}
_IGNORED = ("sample", "traces")  # of the config.toml of a run: what it shows meanwhile
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)


@dataclass(frozen=True)
class Point:
    """One run of a grid."""

    name: str
    """Of its folder: its number, and what varies."""
    varied: Mapping[str, Any]
    """Name -> value of what varies."""
    settings: Mapping[str, Any]
    """All of its settings under the names of DEFAULTS, and SHARE and FLOPS."""


@dataclass(frozen=True)
class Grid:
    """Text, settings that all runs share, and the values of those that vary. Raises UsageError, before any run."""

    data: Sequence[str]
    base: Mapping[str, Any]
    """Name -> value; what is not named has its default."""
    vary: Mapping[str, Sequence[Any]]
    """Name -> values, each of them in combination with all others."""

    def __post_init__(self) -> None:
        for part in ("base", "vary"):
            object.__setattr__(self, part, {name: plain(value) for name, value in getattr(self, part).items()})
        known = [*DEFAULTS, *_OWN]
        check_names([*self.base, *self.vary], known)
        if not self.data or "-" in self.data:
            raise UsageError("sweep_data")
        for name in (*self.base, *self.vary):
            if name in _TIMED:
                raise UsageError("sweep_timed", name=name)
        for name, values in self.vary.items():
            if name in _FIXED:
                raise UsageError("sweep_fixed", name=name, known=Names(sorted(set(known) - _FIXED - set(_TIMED))))
            if name in self.base:
                raise UsageError("sweep_twice", name=name)
            if not values or len({repr(value) for value in values}) < len(values):
                raise UsageError("sweep_values", name=name)
        if SHARE in self.base:
            raise UsageError("sweep_share_set")
        if {"steps", FLOPS} <= {*self.base, *self.vary}:
            raise UsageError("sweep_budgets")

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.vary.values())

    def points(self) -> Iterator[Point]:
        """Every run, the last setting varying fastest. Raises UsageError for one that makes no sense."""
        digits = len(str(len(self)))
        for number, values in enumerate(itertools.product(*self.vary.values()), 1):
            varied = dict(zip(self.vary, values, strict=True))
            settings = _checked(_SHARED | _OWN | dict(self.base) | varied)
            words = [f"{number:0{digits}}", *(f"{name}={_clean(value)}" for name, value in varied.items())]
            yield Point("_".join(words)[:150], varied, settings)

    def to_toml(self) -> bytes:
        """All of it, with what defaults are today: a run that is added tomorrow has the same."""
        data = {"data": [printable(Path(source).absolute()) for source in self.data]}
        base = {name: value for name, value in (_SHARED | dict(self.base)).items() if name not in self.vary}
        return to_toml(data | base) + b"\n[vary]\n" + to_toml(self.vary)


def read_grid(path: Path, data: Sequence[str], base: Mapping[str, Any], vary: Mapping[str, Sequence[Any]]) -> Grid:
    """A grid out of a TOML file, flat settings and a table [vary]; what is given here takes precedence.

    The config.toml of a run is such a file. Raises LoadError for a file that is no TOML, UsageError for a wrong name.
    """
    said = {name: value for name, value in read_toml(path).items() if name not in _IGNORED}
    table, sources = said.pop("vary", {}), said.pop("data", [])
    sources = [sources] if isinstance(sources, str) else sources
    if not isinstance(table, Mapping) or not isinstance(sources, list):
        raise UsageError("sweep_toml", file=path)
    listed = {name: values if isinstance(values, list) else [values] for name, values in table.items()}
    known = [*DEFAULTS, *_OWN]
    for name in (*said, *listed):
        if name not in known:
            raise UsageError("config_key", file=path, name=name, near=near(name, known))
    said = {name: value for name, value in said.items() if name not in vary and name not in listed}
    listed = {name: values for name, values in listed.items() if name not in base}
    budgets = {"steps", FLOPS} & {*base, *vary}  # one that is given here takes the place of the other
    said = {name: value for name, value in said.items() if not (budgets and name in ("steps", FLOPS))}
    return Grid(data or [str(source) for source in sources], said | dict(base), listed | dict(vary))


def read_values(text: str) -> tuple[str, list[Any]]:
    """The name and the values of NAME=VALUE,VALUE. Raises UsageError.

    >>> read_values("n_embd=64,128"), read_values("no_residual=false,true"), read_values("tokenizer=char,bpe:2048")
    (('n_embd', [64, 128]), ('no_residual', [False, True]), ('tokenizer', ['char', 'bpe:2048']))
    """
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not values.strip(","):
        raise UsageError("sweep_form", got=text)
    check_names([name], [*DEFAULTS, *_OWN])
    return name, [_value(name, value.strip()) for value in values.split(",")]


def _value(name: str, text: str) -> Any:
    if isinstance((DEFAULTS | _OWN)[name], str) or "string" in RULES.get(name, {"type": ()})["type"]:
        return text  # the name of an encoding may be a number
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text) and text.isascii():
        with contextlib.suppress(ValueError):  # more digits than Python reads
            return int(text) if text.lstrip("+-").isdigit() else float(text)
    return text


def _checked(told: dict[str, Any]) -> dict[str, Any]:
    """The settings of one run, "bpe:2048" taken apart, each in its range."""
    kind, colon, size = str(told["tokenizer"]).partition(":")
    if colon and kind in KINDS[1:]:
        if not size.isascii() or not size.isdigit():
            raise UsageError("sweep_tokenizer", got=told["tokenizer"])
        told |= {"tokenizer": kind, "vocab_size": _value("vocab_size", size)}
    elif kind not in KINDS[1:]:
        told["vocab_size"] = CorpusSettings.vocab_size  # that of another tokenizer of the grid
    if kind != KINDS[0]:
        told["min_count"] = CorpusSettings.min_count
    if type(told[SHARE]) not in (int, float) or not 0 < told[SHARE] <= 1:
        raise UsageError("sweep_share", got=told[SHARE])
    if told[FLOPS] is not None:
        check_range(FLOPS, told[FLOPS], {"type": "number", "exclusiveMinimum": 0, "maximum": 1e30})
    checked_shape(told)
    training_settings(told)
    CorpusSettings(**{f.name: told[f.name] for f in fields(CorpusSettings)}).make_vocabulary()
    return told


def _clean(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^\w.+-]+", "-", text)[-40:]
