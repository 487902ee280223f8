"""What commands with several runs of one prompt share: making them, and saving them as one tree."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from manako.cli.console import note, while_read
from manako.cli.running import Interrupts, run_through
from manako.engines.generation import Generation
from manako.files import megabytes, write_file
from manako.trace.record import Trace
from manako.trace.tree import Branch, Tree, tree_bytes


def run_each(generations: Iterable[Generation], show: Callable[[Trace], None]) -> tuple[list[Trace], int]:
    """One run after another, each shown when it is made: to the end, to Ctrl-C, to a failure, or while somebody reads.

    Returns the records of all that was made, the last of them maybe in part, and the exit code. What comes before a
    run, such as loading its model, ends at once with Ctrl-C. Raises KeyboardInterrupt where nothing was made before,
    and for a second one.
    """
    traces: list[Trace] = []
    interrupts, code = Interrupts(), 0
    try:
        with while_read():
            for generation in generations:
                with interrupts:
                    code = run_through(generation, interrupts)
                    traces.append(generation.trace())
                    show(traces[-1])
                if code or interrupts.seen:
                    break
    except KeyboardInterrupt:
        if interrupts.seen or not traces:
            raise
        interrupts.seen = True
    return traces, interrupts.answered(code)


def save_tree(traces: Sequence[Trace], path: Path, force: bool) -> None:
    """All of them as texts that begin by themselves; the first is the one that is shown."""
    data = tree_bytes(Tree(tuple(Branch(str(n), None, 0, trace) for n, trace in enumerate(traces, 1)), "1"))
    write_file(path, data, replace=force)
    note("notice.saved", file=path, size=megabytes(len(data)))
