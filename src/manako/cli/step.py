"""`manako step`: step through a text by hand, on the whole screen."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from manako.cli.console import say
from manako.cli.options import check_step, check_top, is_trace, look_options, step_option
from manako.cli.output import Screen
from manako.cli.running import model_option, opened, settings_options
from manako.errors import MissingExtraError, UsageError
from manako.model import load
from manako.settings import RunSettings
from manako.trace.tree import open_tree


@click.command("step", help=say("help.step"))
@click.argument("source", default="", metavar="[PROMPT|FILE]")
@model_option
@settings_options(count=1000)
@step_option("option.step_at")
@look_options
def command(source: str, ref: str, settings: RunSettings, step: int | None, **rest: Any) -> None:
    top = check_top(rest["top"])
    if rest["plain"]:
        raise UsageError("step_plain")
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        raise UsageError("step_no_terminal")
    if find_spec("textual") is None:
        raise MissingExtraError("missing_textual")
    screen = Screen(top, False, rest["color"])
    os.environ.pop("NO_COLOR", None)  # Textual reads no more than whether it is there
    if not screen.look.color:
        os.environ["NO_COLOR"] = "1"
    from manako.tui.app import StepApp  # its library is an extra
    from manako.tui.stepper import Stepper

    file = Path(source) if is_trace(source) else None
    if file is not None:
        stepper = Stepper.read(lambda: load(ref), open_tree(file), settings.max_new_tokens)
        check_step(step, len(stepper))
    else:
        model, text = opened(ref, source)
        stepper = Stepper.begin(lambda: model, text, settings)
    stepper.reach((step or 1) - 1)
    app = StepApp(stepper, screen.look, file)
    app.run()
    if app.failed:
        raise app.failed
    screen.lines(app.last_words())
