"""A tree of texts that go on from each other, as one file: every branch a whole trace. See docs/tree-format.md.

Special here: branches share no bytes, though each begins with its parent's tokens. So any of them is a record by
itself, to verify or export alone, and reading a tree is reading traces; only how they hang together is checked here.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.numpy

from manako.errors import LoadError, UsageError
from manako.files import strict_json
from manako.trace.file import TREE_KEY, header_digest, read_bytes, read_parts, to_bytes, trace_of
from manako.trace.record import Trace

SCHEMA = "manako.tree/1"
MOST_BRANCHES = 10_000
_ID = re.compile("[A-Za-z0-9_-]{1,32}")
_NO_ID = "__metadata__"  # where safetensors keeps the header


@dataclass(frozen=True)
class Branch:
    """One text of a tree."""

    id: str
    """At most 32 ASCII letters, digits, "-" and "_"."""
    parent: str | None
    """The branch that it goes on from; None where a text begins."""
    keep: int
    """How many of the parent's own steps it keeps; what was put in behind them ends its `prompt_ids`."""
    trace: Trace


@dataclass(frozen=True)
class Tree:
    """Texts that go on from each other, parents in front of their children. Raises UsageError for what is no tree."""

    branches: tuple[Branch, ...]
    current: str
    """The branch that is shown."""

    def __post_init__(self) -> None:
        if part := _misfit(self.branches, self.current):
            raise UsageError("tree_unfit", part=part)

    @property
    def only(self) -> Trace | None:
        """The trace, where there is a single one."""
        first, *others = self.branches
        return None if others else first.trace


def open_tree(path: str | Path) -> Tree:
    """Read a tree and check it whole, each trace too; of a single trace, a tree with one branch "1".

    Raises LoadError as `manako.open` does, naming the branch.
    """
    file = str(path)
    parts, metadata = read_parts(read_bytes(Path(path)), file)
    if TREE_KEY not in metadata:
        return Tree((Branch("1", None, 0, trace_of((parts, metadata), file)),), "1")
    meta = strict_json(metadata[TREE_KEY], file)
    if meta.get("schema") != SCHEMA:
        if str(meta.get("schema")).startswith(TREE_KEY + "/"):
            raise LoadError("trace_newer", file=file, found=meta["schema"], known=SCHEMA)
        raise LoadError("trace_damaged", file=file, part="schema")
    if meta.get("sha256") != header_digest(meta):
        raise LoadError("trace_damaged", file=file, part="__metadata__")
    try:
        return Tree(tuple(_branches(meta, dict(parts), file)), meta["current"])
    except ValueError as error:
        raise LoadError("trace_damaged", file=file, part=error) from None
    except UsageError as error:
        raise LoadError("trace_damaged", file=file, part=error.values["part"]) from None


def tree_bytes(tree: Tree) -> bytes:
    """The file's content; the same tree gives the same bytes."""
    meta: dict[str, Any] = {
        "schema": SCHEMA,
        "branches": [{"id": b.id, "parent": b.parent, "keep": b.keep} for b in tree.branches],
        "current": tree.current,
        "sha256": "",
    }
    meta["sha256"] = header_digest(meta)
    text = json.dumps(meta, ensure_ascii=False, sort_keys=True)
    arrays = {b.id: np.frombuffer(to_bytes(b.trace), dtype=np.uint8) for b in tree.branches}
    return safetensors.numpy.save(arrays, metadata={TREE_KEY: text})


def _branches(meta: dict[str, Any], arrays: dict[str, dict[str, Any]], file: str) -> Iterator[Branch]:
    """The branches out of JSON and arrays that anyone may have written."""
    if meta.keys() != {"schema", "branches", "current", "sha256"}:
        raise ValueError("__metadata__")
    if type(meta["current"]) is not str or type(meta["branches"]) is not list:
        raise ValueError("current or branches")
    for values in cast("list[Any]", meta["branches"]):
        if type(values) is not dict or values.keys() != {"id", "parent", "keep"}:
            raise ValueError("branches")
        id, parent, keep = values["id"], values["parent"], values["keep"]
        if type(id) is not str or type(parent) not in (str, type(None)) or type(keep) is not int:
            raise ValueError("branches")
        array = arrays.pop(id, None)  # each is taken once, so a short file cannot ask for long work
        if array is None or array["dtype"] != "U8" or len(array["shape"]) != 1:
            raise ValueError(f"branch {id}")
        yield Branch(id, parent, keep, _trace_of(id, array["data"], file))
    if arrays:
        raise ValueError("branches")


def _trace_of(branch: str, data: bytes, file: str) -> Trace:
    try:
        return trace_of(read_parts(bytes(data), file), file)
    except LoadError as error:
        if error.key == "trace_newer":
            raise
        why = error.values.get("part") or error.values.get("reason")
        raise ValueError(f"branch {branch}: {why}" if why else f"branch {branch}") from None


def _misfit(branches: tuple[Branch, ...], current: str) -> str | None:
    """The first thing that does not fit, as an error names it."""
    if not 1 <= len(branches) <= MOST_BRANCHES:
        return "branches"
    known: dict[str, Trace] = {}
    for branch in branches:
        fits = not branch.keep if branch.parent is None else _goes_on(known.get(branch.parent), branch)
        named = _ID.fullmatch(branch.id) and branch.id != _NO_ID and branch.id not in known
        if not (named and fits):
            return f"branch {branch.id}"
        known[branch.id] = branch.trace
    return None if current in known else "current"


def _goes_on(parent: Trace | None, child: Branch) -> bool:
    """Whether the child begins with its parent's tokens and counts its steps on from there."""
    if parent is None or not 0 <= child.keep <= len(parent):
        return False
    ids, before = child.trace.columns.prompt_ids, len(parent.columns.prompt_ids) + child.keep
    first_step = parent.header.first_step + child.keep + len(ids) - before
    return (
        len(ids) >= before
        and child.trace.header.first_step == first_step
        and np.array_equal(ids[:before], parent.all_ids[:before])
    )
