"""`manako watch`: see a model choose, one token after another."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from manako.analysis.compare import Comparison
from manako.cli.comparing import run_each, save_tree
from manako.cli.console import Progress, note, say, while_read
from manako.cli.options import (
    Number,
    check_step,
    force_option,
    json_option,
    look_options,
    model_option,
    read_prompt,
    step_option,
)
from manako.cli.output import Screen, print_json
from manako.cli.running import Interrupts, as_typed, opened, run_through, settings_options
from manako.cli.showing import Show, ShowJson, show_trace, view_options
from manako.engines.generation import Generation
from manako.errors import ManakoError, UsageError
from manako.files import megabytes, need_space, writable_target, write_file
from manako.model import Model
from manako.settings import RunSettings
from manako.trace.file import to_bytes
from manako.trace.record import Trace, Typed
from manako.trace.schema import FULL_ROW_LIMIT
from manako.views.terminal.compare import comparison_lines
from manako.views.terminal.steps import header_lines


@click.command("watch", help=say("help.watch"))
@click.argument("prompt", default="")
@model_option()
@settings_options(capture=True)
@view_options
@step_option("option.step_watch")
@click.option("--given", is_flag=True, help=say("option.given"))
@click.option("--samples", type=Number(True, "samples"), metavar="K", help=say("option.samples"))
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help=say("option.save"))
@force_option
@json_option
@click.option("--jsonl", "as_jsonl", is_flag=True, help=say("option.jsonl"))
@look_options
def command(
    prompt: str,
    ref: str | None,
    settings: RunSettings,
    step: int | None,
    given: bool,
    samples: int | None,
    save: Path | None,
    force: bool,
    **rest: Any,
) -> int:
    top = rest["top"]
    if rest["as_json"] and rest["as_jsonl"]:
        raise UsageError("json_twice")
    if samples is not None and (samples < 2 or given):
        raise UsageError("samples", got=samples)
    if save is not None:
        writable_target(save, force)
    if not given:
        check_step(step, settings.max_new_tokens)
    text = read_prompt(prompt)
    model = opened(ref, text, settings)
    if samples is not None:
        return show_samples(model, text, settings.seeded(), samples, step, save, force, **rest)
    if rest["as_json"] or rest["as_jsonl"]:
        show = ShowJson(top, each=rest["as_jsonl"], number=step)
    else:
        view = rest["view"] or ("text" if given else None)
        show = Show(Screen(top, rest["plain"], rest["color"]), view, rest["tint"], number=step)
    if given:
        own = {"capture": settings.capture, "ablate": settings.ablate, "special": settings.special}
        trace, code = model.score(text, **own, told=Progress()), 0
        trace = replace(trace, typed=as_typed(text, settings))
        if save is not None:
            _save(trace, save, force)
        with while_read():
            show_trace(trace, show)
    else:
        trace, code = _generate(model.generate(text, settings), show, save, as_typed(text, settings))
        if save is not None:
            _save(trace, save, force)
    if trace.header.end != "interrupted":
        check_step(step, len(trace))  # the text may have ended before
    return code


def show_samples(
    model: Model,
    text: str,
    settings: RunSettings,
    count: int,
    step: int | None,
    save: Path | None,
    force: bool,
    **rest: Any,
) -> int:
    """Continuations with one seed after the other, and where they part. Returns the exit code."""
    assert settings.seed is not None  # it was seeded
    seeds = [(settings.seed + n) % 2**64 for n in range(count)]

    def show(trace: Trace) -> None:
        if rest["as_jsonl"]:
            from manako.views.document import trace_document  # what a screen never needs

            print_json(trace_document(trace, rest["top"]))

    traces, code = run_each((model.generate(text, settings.changed(seed=seed)) for seed in seeds), show)
    if save is not None:
        save_tree(traces, save, force)
    comparison = Comparison(tuple(traces))
    if rest["as_json"]:
        from manako.views.document import comparison_document

        with while_read():
            print_json(comparison_document(comparison, rest["top"]))
    elif not rest["as_jsonl"]:
        if not code:
            check_step(step, len(traces[0]))  # the text may have ended before
        screen = Screen(rest["top"], rest["plain"], rest["color"])
        with while_read():
            screen.lines(header_lines(traces[0].header, screen.look))
            screen.lines(comparison_lines(comparison, screen.look, () if step is None else [step - 1]))
    return code


def _generate(generation: Generation, show: Show | ShowJson, save: Path | None, typed: Typed) -> tuple[Trace, int]:
    """Show each step as it is made; (trace, exit code)."""
    header = generation.record().header
    if save is not None:
        row = 4 * min(generation.record().vocabulary.size, FULL_ROW_LIMIT)
        need_space(save.parent, header.max_new_tokens * row)

    def made(index: int) -> None:
        show.step(generation.record(), index, lambda: generation.step, generation.last)

    code = 0
    with Interrupts() as interrupts:
        with while_read():  # where nobody reads on, what was made is kept all the same
            show.begin(header)
            code = run_through(generation, interrupts, made)
        code = interrupts.answered(code)
        trace = replace(generation.trace(), typed=typed)
        with while_read():
            show.end(trace)
    return trace, code


def _save(trace: Trace, path: Path, force: bool) -> None:
    data = to_bytes(trace)
    try:
        write_file(path, data, replace=force)
    except ManakoError:
        note("notice.not_saved", seed=trace.header.seed)
        raise
    note("notice.saved", file=path, size=megabytes(len(data)))
