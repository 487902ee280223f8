"""`manako step`: step through a text by hand, on the whole screen."""

import gc
import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from manako.cli.aside import aside
from manako.cli.console import say
from manako.cli.options import check_step, is_trace, look_options, model_option, read_prompt, step_option
from manako.cli.output import Screen
from manako.cli.running import opened, settings_options
from manako.errors import MissingExtraError, UsageError
from manako.model import load
from manako.refs import for_text
from manako.settings import RunSettings
from manako.trace.tree import open_tree
from manako.tui.guard import guard
from manako.tui.stepper import Stepper


@click.command("step", help=say("help.step"))
@click.argument("source", default="", metavar="[PROMPT|FILE]")
@model_option()
@settings_options(count=1000)
@step_option("option.step_at")
@look_options
def command(source: str, ref: str | None, settings: RunSettings, step: int | None, **rest: Any) -> None:
    if rest["plain"]:
        raise UsageError("step_plain")
    if not _at_a_terminal():
        raise UsageError("step_no_terminal")
    if find_spec("textual") is None:
        raise MissingExtraError("missing_textual")
    screen = Screen(rest["top"], False, rest["color"])
    guard()
    os.environ.pop("NO_COLOR", None)  # Textual reads no more than whether it is there
    if not screen.look.color:
        os.environ["NO_COLOR"] = "1"
    gc.disable()  # while it starts, a hundred thousand objects are made and none is garbage
    saved = is_trace(source)
    begun = aside(partial(_begun, source, saved, ref, settings, step))
    from manako.tui.app import StepApp  # its library is an extra, and as long to load as the model

    stepper = begun.result()
    app = StepApp(stepper, screen.look, Path(source) if saved else None)
    app.call_later(gc.enable)
    app.run()
    if app.failed:
        raise app.failed
    screen.lines(app.last_words())


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _begun(source: str, saved: bool, ref: str | None, settings: RunSettings, step: int | None) -> Stepper:
    if saved:
        tree = open_tree(source)
        reads = for_text(tree.branches[0].trace.header.prompt)
        stepper = Stepper.read(lambda: load(ref or reads), tree, settings.max_new_tokens)
        check_step(step, len(stepper))
    else:
        text = read_prompt(source)
        model = opened(ref, text, settings)
        stepper = Stepper.begin(lambda: model, text, settings)
    stepper.reach((step or 1) - 1)
    return stepper
