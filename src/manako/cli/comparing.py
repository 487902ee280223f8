"""What commands with several runs of one prompt share: saving them as one tree."""

from collections.abc import Sequence
from pathlib import Path

from manako.cli.console import note
from manako.files import megabytes, write_file
from manako.trace.record import Trace
from manako.trace.tree import Branch, Tree, tree_bytes


def save_tree(traces: Sequence[Trace], path: Path, force: bool) -> None:
    """All of them as texts that begin by themselves; the first is the one that is shown."""
    data = tree_bytes(Tree(tuple(Branch(str(n), None, 0, trace) for n, trace in enumerate(traces, 1)), "1"))
    write_file(path, data, replace=force)
    note("notice.saved", file=path, size=megabytes(len(data)))
