"""What a person sees of work that takes long: a training on a terminal and elsewhere, a line of progress."""

import contextlib
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from manako.cli.console import chosen_language, note, say, tell_aside
from manako.errors import UsageError
from manako.formats import run_folder
from manako.messages.numbers import fixed
from manako.model import Model, load
from manako.tokenizer import utf8
from manako.views.terminal import glyphs
from manako.views.terminal.steps import Look
from manako.views.terminal.training import Probe, Told, panel_lines, summary_lines

_SAMPLE_TOKENS = 40
_REFRESHES = 2  # a second: a curve that creeps, not a flicker
_IN_PANEL = ("train.step", "train.step_without_validation", "train.sample")


def probe_option(command: Any) -> Any:
    """--probe TEXT=NEXT, as often as one likes."""
    return click.option("--probe", multiple=True, metavar="TEXT=NEXT", help=say("option.probe"))(command)


@contextlib.contextmanager
def progress_line(passing: str, plain: bool = False) -> Iterator[Callable[..., None]]:
    """What reports the lines of a long work: those with the key `passing` replace each other in a terminal."""
    if plain or not _redraws():
        yield lambda key, **values: None if key == passing else note(key, **values)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:

        def report(key: str, **values: object) -> None:
            if key == passing:
                live.update(Text(say(key, **values), style="dim"))
            else:
                note(key, **values)

        yield report


def _redraws() -> bool:
    """Whether stderr is a terminal where a line can be replaced."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def status_line(trainer: Any, plain: bool = False) -> Iterator[None]:
    """One training of many: a line that each step replaces, where stderr is a terminal."""
    with progress_line("train.status", plain) as report:
        trainer.tick = lambda loss: report("train.status", loss=fixed(loss, 3), **trainer.status())
        yield


class Watched:
    """A training as it is seen: a live panel where stderr is a terminal, else a line for each evaluation.

    Each evaluated checkpoint writes a sample, always with the same random numbers, and answers the probes. Raises
    UsageError for a probe that is not TEXT=NEXT. plain: lines on a terminal too. color: of the panel.
    """

    def __init__(self, run: Path, prompt: str, traces: bool, probes: Sequence[str], *, plain: bool, color: str) -> None:
        self.run, self.prompt, self.traces, self.plain, self.color = run, prompt, traces, plain, color
        self.told = Told(str(run), probes=tuple(_probe(said) for said in probes))
        self._glyphs = glyphs.choose(sys.stderr.encoding, os.environ, None)
        self._live = False

    def report(self, key: str, **values: object) -> None:
        """A line that a person should see, unless the panel shows it already."""
        if not (self._live and key in _IN_PANEL):
            note(key, **values)

    def watch(self, folder: Path, step: int) -> None:
        """Let a checkpoint write a little, and ask it the probes."""
        model = load(folder)
        trace = model.trace(self.prompt, max_new_tokens=_SAMPLE_TOKENS, seed=0)
        self.told.samples.append((step, trace.text))
        self.report("train.sample", text=trace.text)
        for probe in self.told.probes:
            probe.found.append((step, *_answer(model, probe)))
        if self.traces:
            (self.run / "traces").mkdir(exist_ok=True)
            path = self.run / "traces" / f"step-{step:06d}.manako"
            path.unlink(missing_ok=True)
            trace.save(path)

    @contextlib.contextmanager
    def show(self, trainer: Any) -> Iterator[None]:
        """The panel while it trains, and a summary at the end."""
        if not trainer.here.first:
            yield
            return
        self._stands(trainer)
        trainer.logged = self._logged
        trainer.tick = lambda loss: self._ticked(trainer, loss)
        self._live = not self.plain and _redraws()
        try:
            with self._panel() if self._live else contextlib.nullcontext():
                self.watch(run_folder.step_folder(self.run, trainer.progress.step), trainer.progress.step)
                yield
        finally:
            self._live = False
            for line in summary_lines(self.told, self._look()):
                tell_aside(line.plain)

    @contextlib.contextmanager
    def _panel(self) -> Iterator[None]:
        from rich.console import Console, Group
        from rich.live import Live

        def drawn() -> Group:
            return Group(*panel_lines(self.told, self._look(), shutil.get_terminal_size().lines - 1))

        no_color = {"never": True, "always": False}.get(self.color)  # None: as NO_COLOR says
        console = Console(stderr=True, highlight=False, emoji=False, markup=False, no_color=no_color)
        with Live(console=console, transient=True, refresh_per_second=_REFRESHES, get_renderable=drawn):
            yield

    def _ticked(self, trainer: Any, loss: float) -> None:
        self._stands(trainer)
        self.told.losses.append((self.told.step, loss))

    def _stands(self, trainer: Any) -> None:
        status = trainer.status()
        self.told.step, self.told.steps = status["step"], status["steps"]
        self.told.left = status["left"] if trainer.progress.seconds else ""
        self.told.share = trainer.share()

    def _look(self) -> Look:
        return Look(chosen_language(), shutil.get_terminal_size().columns, self._glyphs)

    def _logged(self, line: Mapping[str, Any]) -> None:
        told = self.told
        told.tokens_s, told.mfu = line["tokens_s"], line["mfu"]
        if "validation_loss" in line:
            told.held_out.append((line["step"], line["validation_loss"]))
            told.bits.append((line["step"], line["bits_per_character"]))


def _probe(said: str) -> Probe:
    text, _, wanted = said.partition("=")
    if not (text and wanted):
        raise UsageError("probe", got=said)
    utf8(said)  # it will be asked, in some minutes
    return Probe(text, wanted)


def _answer(model: Model, probe: Probe) -> tuple[float, int]:
    """(probability that the text goes on so, rank of the first token of it), over the whole vocabulary.

    Where the tokenizer joins the end of the text and what shall follow, that token counts as a whole.
    """
    _, spans = model.tokenizer.aligned(probe.text + probe.wanted)
    steps = model.score(probe.text + probe.wanted).steps
    wanted = steps[-sum(end > len(probe.text) for _, end in spans) :]
    return math.prod(step.chosen.p_model for step in wanted), wanted[0].chosen.rank
