"""What `train` and `resume` share: a line of progress, and what is shown of each checkpoint."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from manako.cli.console import note, say
from manako.messages.numbers import fixed
from manako.model import load

_SAMPLE_TOKENS = 40


@contextlib.contextmanager
def status_line(trainer: Any) -> Iterator[None]:
    """One line below the others, rewritten after each step, where stderr is a terminal."""
    if not (trainer.here.first and sys.stderr.isatty()) or os.environ.get("TERM") == "dumb":
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def tick(loss: float) -> None:
        line = say("train.status", loss=fixed(loss, 3), **trainer.status())
        live.update(Text(line, style="dim"))

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
        trainer.tick = tick
        yield


@contextlib.contextmanager
def progress_line(passing: str) -> Iterator[Callable[..., None]]:
    """What reports the lines of a long work: those with the key `passing` replace each other in a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
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


def watcher(run: Path, prompt: str, keep: bool) -> Callable[[Path, int], None]:
    """What to do with each evaluated checkpoint: let it write a little, always with the same random numbers."""

    def watch(folder: Path, step: int) -> None:
        trace = load(folder).trace(prompt, max_new_tokens=_SAMPLE_TOKENS, seed=0)
        note("train.sample", text=trace.text)
        if keep:
            (run / "traces").mkdir(exist_ok=True)
            path = run / "traces" / f"step-{step:06d}.manako"
            path.unlink(missing_ok=True)
            trace.save(path)

    return watch
