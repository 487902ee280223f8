"""The table of what a trace file may hold: schema.json, which the page reads too. `about` in it says how it is read.

Special here: a new column, header key or version is a line of that file. What no table can say, such as which columns
must agree with each other, is in file.py and captures.py.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.checks import Rule

TABLE: Mapping[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_bytes())
DTYPES: Mapping[str, str] = TABLE["dtypes"]  # NumPy's name -> that of safetensors
FULL_ROW_LIMIT: int = TABLE["largest_whole_row"]  # vocabularies up to this size keep the whole row of logits
PART: int = TABLE["largest_part"]  # candidates kept of each step above that; a file may have fewer
ENDS: Mapping[str, list[str]] = TABLE["trace"]["ends"]
CHECKS: Mapping[str, Any] = TABLE["self_checks"]
_ROUNDING: Mapping[str, float] = TABLE["rounding"]


@dataclass(frozen=True)
class Column:
    """One column of a trace: its dtype, its named axes and the range of its numbers."""

    dtype: str
    axes: tuple[str | int, ...]
    """Letters of TABLE["axes"], also with a number to add ("L+1"), or a number alone."""
    numbers: str | None = None
    """A range of TABLE["numbers"]; None where other rules hold."""
    rounded: bool = False
    """Whether a compact export may round it."""
    chosen_first: bool = False
    """Whether the first number of each step is its token id."""
    since: int = 1
    """The first version of the format that has it. Where that is not the first, a file may lack it."""

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape where the letters have these sizes."""
        split = [axis.partition("+") if isinstance(axis, str) else axis for axis in self.axes]
        return tuple(axis if isinstance(axis, int) else sizes[axis[0]] + int(axis[2] or 0) for axis in split)

    def empty(self, sizes: Mapping[str, int]) -> npt.NDArray[Any]:
        """An array of that shape, its numbers not yet set."""
        return np.empty(self.shape(sizes), self.dtype)

    def bytes(self, sizes: Mapping[str, int]) -> int:
        """How much room it takes then."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape(sizes))


@dataclass(frozen=True)
class Format:
    """What a file of one kind says in its header: a trace, or a tree of traces."""

    name: str
    """Key of the header among the metadata of the file."""
    version: int
    """The newest one, which is written; all before it are read."""
    digest: str
    """Key of the header's SHA-256 among the metadata; older versions have it inside the header."""
    header: Mapping[str, Rule]

    @property
    def id(self) -> str:
        """The schema that the header of a new file names."""
        return f"{self.name}/{self.version}"

    def rules(self, version: int) -> dict[str, Rule]:
        """Key -> rule of everything in a header of this version."""
        known = self.header.items()
        return {k: r for k, r in known if r.get("since", 1) <= version <= r.get("until", self.version)}

    def defaults(self, version: int) -> dict[str, Any]:
        """What the header of a file of this version means by the keys that it does not have yet."""
        return {key: rule["default"] for key, rule in self.header.items() if rule.get("since", 1) > version}


def _format(values: Mapping[str, Any]) -> Format:
    return Format(values["name"], values["version"], values["digest"], values["header"])


def _columns(group: Mapping[str, Any]) -> dict[str, Column]:
    return {name: Column(**values | {"axes": tuple(values["axes"])}) for name, values in group.items()}


TRACE, TREE = _format(TABLE["trace"]), _format(TABLE["tree"])
MODEL = _format(TABLE["model"])  # of a model that a page carries
RUN = _format(TABLE["run"])  # of a training that the page saved
DYNAMICS = _format(TABLE["dynamics"])  # of one text under the snapshots of a training
DYNAMICS_COLUMNS = {group: _columns(columns) for group, columns in TABLE["dynamics"]["columns"].items()}
COLUMNS = {group: _columns(columns) for group, columns in TABLE["columns"].items()}  # "all", "whole", "part"
CAPTURE_COLUMNS = {capture: _columns(columns) for capture, columns in TABLE["captures"].items()}
CAPTURES = tuple(CAPTURE_COLUMNS)


def step_columns(group: str) -> dict[str, Column]:
    """The columns of "all", "whole" or "part" that have a row for each step."""
    return {name: column for name, column in COLUMNS[group].items() if column.axes[0] == "S"}


def check_limit(name: str, dtype: str, rounded: Mapping[str, float] = MappingProxyType({})) -> float:
    """The largest error that a self-check allows, for a model that computed in `dtype`. rounded: as a header has it.

    >>> check_limit("attention_rows_sum_to_1", "float32"), check_limit("attention_rows_sum_to_1", "bfloat16")
    (1e-06, 0.03125)
    """
    known = CHECKS[name]
    return max(known["limit"], known["units"] * _ROUNDING.get(dtype, 0.0)) + rounded.get(known.get("of", ""), 0.0)
