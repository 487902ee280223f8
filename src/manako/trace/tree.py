"""A tree of texts that go on from each other, as one file: every branch a whole trace. See docs/tree-format.md.

Special here: branches share no bytes, though each begins with its parent's tokens. So any of them is a record by
itself, to verify or export alone, and reading a tree is reading traces; only how they hang together is checked here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manako.checks import check_properties, fits
from manako.errors import LoadError, UsageError
from manako.trace.file import Parts, container, read_bytes, read_header, read_parts, to_bytes, trace_of
from manako.trace.record import Trace
from manako.trace.schema import TREE

_LISTED = TREE.header["branches"]
_ID = _LISTED["items"]["properties"]["id"]
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
    def shown(self) -> Trace:
        """The trace that is shown."""
        return next(branch.trace for branch in self.branches if branch.id == self.current)

    @property
    def only(self) -> Trace | None:
        """The trace, where there is a single one."""
        first, *others = self.branches
        return None if others else first.trace


def open_tree(path: str | Path) -> Tree:
    """Read a tree and check it whole, each trace too; of a single trace, a tree with one branch "1".

    Raises LoadError as `manako.open` does, naming the branch.
    """
    return tree_of(read_parts(read_bytes(Path(path)), str(path)), str(path))


def tree_of(read: Parts, file: str) -> Tree:
    """The tree in the parts of a file, checked whole. Raises LoadError as `open_tree` does."""
    parts, metadata = read
    if TREE.name not in metadata:
        return Tree((Branch("1", None, 0, trace_of((parts, metadata), file)),), "1")
    meta, version = read_header(TREE, metadata, file)
    try:
        check_properties(meta, TREE.rules(version), "")
        return Tree(tuple(_branches(meta["branches"], dict(parts), file)), meta["current"])
    except ValueError as error:
        raise LoadError("trace_damaged", file=file, part=error) from None
    except UsageError as error:
        raise LoadError("trace_damaged", file=file, part=error.values["part"]) from None


def tree_bytes(tree: Tree) -> bytes:
    """The file's content; the same tree gives the same bytes."""
    branches = [{"id": b.id, "parent": b.parent, "keep": b.keep} for b in tree.branches]
    arrays = {b.id: np.frombuffer(to_bytes(b.trace), dtype=np.uint8) for b in tree.branches}
    return container(TREE, {"branches": branches, "current": tree.current}, arrays)


def _branches(listed: list[dict[str, Any]], arrays: dict[str, dict[str, Any]], file: str) -> Iterator[Branch]:
    """The branches out of arrays that anyone may have written; what the header lists is checked already."""
    for branch in listed:
        array = arrays.pop(branch["id"], None)  # each is taken once, so a short file cannot ask for long work
        if array is None or array["dtype"] != "U8" or len(array["shape"]) != 1:
            raise ValueError(f"branch {branch['id']}")
        yield Branch(**branch, trace=_trace_of(branch["id"], array["data"], file))
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
    if not _LISTED["minItems"] <= len(branches) <= _LISTED["maxItems"]:
        return "branches"
    known: dict[str, Trace] = {}
    for branch in branches:
        goes_on = not branch.keep if branch.parent is None else _goes_on(known.get(branch.parent), branch)
        named = fits(branch.id, _ID) and branch.id != _NO_ID and branch.id not in known
        if not (named and goes_on):
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
