"""`manako watch`: see a model choose, one token after another."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import click

from manako.cli.console import chosen_language, fail, hush, note, say
from manako.cli.options import check_top, look_options
from manako.cli.output import Screen, print_json
from manako.cli.running import model_option, opened, settings_options
from manako.engines.generation import Generation
from manako.errors import ManakoError, UsageError
from manako.files import megabytes, need_space, writable_target, write_file
from manako.settings import RunSettings
from manako.trace.file import to_bytes
from manako.trace.record import Step, Trace
from manako.trace.schema import FULL_ROW_LIMIT
from manako.views.document import step_record, trace_document
from manako.views.terminal.glyphs import is_partial
from manako.views.terminal.steps import characters, final_lines, header_lines, step_lines


@click.command("watch", help=say("help.watch"))
@click.argument("prompt", default="")
@model_option
@settings_options(capture=True)
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help=say("option.save"))
@click.option("-f", "--force", is_flag=True, help=say("option.force"))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@click.option("--jsonl", "as_jsonl", is_flag=True, help=say("option.jsonl"))
@look_options
def command(prompt: str, ref: str | None, settings: RunSettings, save: Path | None, force: bool, **rest: Any) -> int:
    top = check_top(rest["top"])
    if rest["as_json"] and rest["as_jsonl"]:
        raise UsageError("json_twice")
    if save is not None:
        writable_target(save, force)
    model, text = opened(ref, prompt)
    generation = model.generate(text, settings)
    if save is not None:
        need_space(save.parent, settings.max_new_tokens * 4 * min(model.config.vocab_size, FULL_ROW_LIMIT))
    with Interrupts() as interrupts:
        try:
            if rest["as_json"] or rest["as_jsonl"]:
                trace, code = _run_json(generation, interrupts, top, each=rest["as_jsonl"])
            else:
                trace, code = _run_lines(generation, interrupts, Screen(top, rest["plain"], rest["color"]))
        except BrokenPipeError:  # nobody reads on; what was made is kept all the same
            trace, code = generation.trace(), hush()
        if save is not None:
            _save(trace, save, force)
    return code


class Interrupts:
    """Ctrl-C lets the step in hand finish, and what was made be shown and saved; a second one ends at once."""

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> "Interrupts":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _run_lines(generation: Generation, interrupts: Interrupts, screen: Screen) -> tuple[Trace, int]:
    """Show each step as it is made; (record, exit code)."""
    screen.lines(header_lines(generation.record().header, screen.look))

    def show(step: Step) -> None:
        parts = characters(generation.record()) if is_partial(step.chosen.bytes) else {}
        screen.lines(step_lines(step, screen.look, parts.get(step.index)))

    code = _run(generation, interrupts, show)
    trace = generation.trace()
    screen.lines(final_lines(trace, screen.look))
    return trace, code


def _run_json(generation: Generation, interrupts: Interrupts, top: int, each: bool) -> tuple[Trace, int]:
    """One document at the end, or one line a step as it happens; (record, exit code)."""
    if each:  # the one thing to know for the same run again that no line of it says
        note("notice.seed", seed=generation.record().header.seed)

    def show(step: Step) -> None:
        if each:
            print_json(step_record(step, top))

    code = _run(generation, interrupts, show)
    trace = generation.trace()
    if not each:
        print_json(trace_document(trace, top))
    return trace, code


def _run(generation: Generation, interrupts: Interrupts, show: Callable[[Step], None]) -> int:
    """Run to the end, to Ctrl-C, or to a failure; whatever was made before is kept. Returns the exit code."""
    steps = iter(generation)
    try:
        while not interrupts.seen:
            step = next(steps, None)
            if step is None:
                return 0
            show(step)
    except ManakoError as error:
        return fail(error.text(chosen_language()), error.code, error.exit_code)
    note("cli.interrupted")
    return 130


def _save(trace: Trace, path: Path, force: bool) -> None:
    data = to_bytes(trace)
    try:
        write_file(path, data, replace=force)
    except ManakoError:
        note("notice.not_saved", seed=trace.header.seed)
        raise
    note("notice.saved", file=path, size=megabytes(len(data)))
