"""How a run is shown, while it is made or out of a file: every step in full, a line for each, or the text alone.

Special here: lines of a fast run are printed together, a few times a second, since printing costs more than deciding; a
slow run has each at once.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.text import Text

from manako.analysis.overview import Brief, Summary, brief
from manako.cli.console import note, say
from manako.cli.output import Screen, print_json
from manako.sampling import Distribution
from manako.settings import RunSettings
from manako.trace.record import Header, Step, Trace
from manako.views.terminal.again import command_line, hint
from manako.views.terminal.glyphs import is_partial
from manako.views.terminal.overview import TINTS, row_lines, summary_lines, text_lines, title_line, window_lines
from manako.views.terminal.steps import characters, final_lines, header_lines, step_lines

F = TypeVar("F", bound=Callable[..., Any])
VIEWS = ("steps", "lines", "text")
_TOGETHER = 0.05  # seconds for which lines may wait for others


def view_options(command: F) -> F:
    """--view and --tint."""
    tint = click.option("--tint", type=click.Choice([*TINTS]), default="p", show_default=True, help=say("option.tint"))
    return click.option("--view", type=click.Choice(VIEWS), help=say("option.view"))(tint(command))


class Show:
    """A run on a screen: `begin`, then `step` for each, then `end`.

    view: one of VIEWS; None for the first step in full and a line for each other one. file: what it was read from.
    number: the one step to show, counted from 1, at the end; nothing where the run did not come so far.
    """

    def __init__(
        self, screen: Screen, view: str | None, tint: str, file: Path | None = None, number: int | None = None
    ) -> None:
        self._screen, self._view, self._tint, self._file, self._number = screen, view, tint, file, number
        self.steps: list[Brief] = []
        self._waiting: list[Brief] = []
        self._printed = 0.0
        self._titled = False

    def begin(self, header: Header) -> None:
        """Before the first step."""
        self._screen.lines(header_lines(header, self._screen.look))

    def step(self, trace: Trace, index: int, full: Callable[[], Step], known: Distribution | None = None) -> None:
        """One step. trace: as far as it is made. full: the step with its candidates, which asking for costs."""
        if self._number is not None:
            return
        self.steps.append(brief(trace, index, known))
        if self._view == "steps" or (self._view is None and not index):
            step = full()
            parts = characters(trace) if is_partial(step.chosen.bytes) else {}
            self._screen.lines(step_lines(step, self._screen.look, parts.get(index), legend=not index))
        elif self._view != "text":
            self._waiting.append(self.steps[-1])
            if time.monotonic() - self._printed > _TOGETHER:
                self._print(trace)

    def end(self, trace: Trace) -> None:
        """After the last step, wherever that was."""
        look = self._screen.look
        if self._number is not None:
            self._one(trace, self._number - 1)
            return
        self._print(trace)
        if self._view == "text" and self.steps:
            self._screen.lines(text_lines(trace, self.steps, look, self._tint))
        elif self._view != "steps" and self.steps:
            self._screen.lines([Text("")])
        self._screen.lines(final_lines(trace, look, text=self._view != "text" or not self.steps))
        if self.steps:
            summary = Summary.of(self.steps)
            self._screen.lines(summary_lines(summary, look))
            if self._view != "steps":
                self._screen.lines(window_lines(trace, look))
                self._screen.lines([self._more(trace, summary)])

    def _one(self, trace: Trace, index: int) -> None:
        if index < len(trace):
            part = characters(trace).get(index)
            self._screen.lines(step_lines(trace.steps[index], self._screen.look, part, legend=True))

    def _more(self, trace: Trace, summary: Summary) -> Text:
        """The command that shows more."""
        look, asked = self._screen.look, trace.header.max_new_tokens
        if self._file is not None:
            command = command_line(["manako", "view", str(self._file), "--step", str(summary.surprised.index + 1)])
            return Text(look.say("overview.one", command=command), "dim", no_wrap=True)
        count = None if asked == RunSettings.max_new_tokens else asked
        return hint("overview.more", look, trace, "watch", "--view", "steps", count=count)

    def _print(self, trace: Trace) -> None:
        if self._waiting:
            if not self._titled:
                self._screen.lines(title_line(trace, self._screen.look))
            self._titled = True
            self._screen.lines(row_lines(trace, self._waiting, self._screen.look))
            self._waiting, self._printed = [], time.monotonic()


class ShowJson:
    """The same for a program: one document at the end, or one line a step as it happens. number: as in `Show`."""

    def __init__(self, top: int, each: bool, number: int | None = None) -> None:
        self._top, self._each, self._number = top, each, number

    def begin(self, header: Header) -> None:
        """Before the first step: the one thing to know for the same run again that no line of it says."""
        if self._each and header.seed is not None:
            note("notice.seed", seed=header.seed)

    def step(self, trace: Trace, index: int, full: Callable[[], Step], known: Distribution | None = None) -> None:
        """As in `Show`."""
        if self._each and self._number in (None, index + 1):
            from manako.views.document import step_record  # what a screen never needs

            print_json(step_record(full(), self._top))

    def end(self, trace: Trace) -> None:
        """After the last step."""
        if not self._each:
            from manako.views.document import trace_document

            document = trace_document(trace, self._top)
            wanted = slice(None) if self._number is None else slice(self._number - 1, self._number)
            print_json(document | {"steps": document["steps"][wanted]})


def show_trace(trace: Trace, show: Show | ShowJson) -> None:
    """A trace that is made already."""
    show.begin(trace.header)
    for index in range(len(trace)):
        show.step(trace, index, lambda index=index: trace.steps[index])
    show.end(trace)
