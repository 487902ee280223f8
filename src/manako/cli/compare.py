"""`manako compare`: the same prompt several times, with whatever options were repeated."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from manako.analysis.aligned import aligned
from manako.analysis.compare import Comparison, runs
from manako.cli.comparing import run_each, save_tree
from manako.cli.console import chosen_language, note, say, while_read
from manako.cli.options import (
    Number,
    check_step,
    force_option,
    json_option,
    look_options,
    models_option,
    options_typed,
    read_prompt,
    step_option,
)
from manako.cli.output import Screen, print_json
from manako.cli.running import opened, settings_options
from manako.errors import UsageError
from manako.files import megabytes, writable_target, write_file
from manako.sampling import STAGES
from manako.settings import COMPARED, Ablation, RunSettings
from manako.trace.record import Trace
from manako.views.document import aligned_document, comparison_document, trace_document
from manako.views.html import comparison_page
from manako.views.terminal.aligned import aligned_lines
from manako.views.terminal.compare import comparison_lines, header_of, parting_lines, row_lines
from manako.views.terminal.steps import Look


@click.command("compare", help=say("help.compare"))
@click.argument("prompt")
@models_option("option.compare_model")
@click.option("--given", is_flag=True, help=say("option.compare_given"))
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help=say("option.compare_html"))
@settings_options(several=True)
@click.option("--run", "others", multiple=True, metavar="SETTINGS", help=say("option.run"))
@step_option("option.compare_step")
@click.option("--lines", "as_lines", is_flag=True, help=say("option.lines"))
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help=say("option.save_tree"))
@force_option
@json_option
@click.option("--jsonl", "as_jsonl", is_flag=True, help=say("option.jsonl_runs"))
@look_options
def command(
    prompt: str,
    refs: tuple[str, ...],
    given: bool,
    settings: RunSettings,
    varied: dict[str, tuple[Any, ...]],
    others: tuple[str, ...],
    step: int | None,
    save: Path | None,
    force: bool,
    **rest: Any,
) -> int:
    top = rest["top"]
    if rest["as_json"] and rest["as_jsonl"]:
        raise UsageError("json_twice")
    if save is not None:
        writable_target(save, force)
    if given or rest["html"] is not None:
        _read_by_two(prompt, refs, given, settings, save, force, rest)
        return 0
    several = _runs(settings, varied, others, refs)
    text = read_prompt(prompt)
    models = (opened(ref, text, settings) for ref in refs or (None,))

    def show(trace: Trace) -> None:
        if rest["as_jsonl"]:
            print_json(trace_document(trace, top))

    traces, code = run_each((model.generate(text, each) for model in models for each in several), show)
    comparison = Comparison(tuple(traces))
    if save is not None:
        save_tree(comparison.traces, save, force)
    if rest["as_json"]:
        with while_read():
            print_json(comparison_document(comparison, top))
    elif not rest["as_jsonl"]:
        if not code:
            check_step(step, len(comparison.traces[0]))
        screen = Screen(top, rest["plain"], rest["color"])
        with while_read():
            _show(comparison, screen, step, rest["as_lines"])
    return code


def _show(comparison: Comparison, screen: Screen, step: int | None, as_lines: bool) -> None:
    screen.lines(header_of(comparison, screen.look))
    if as_lines:
        screen.lines(row_lines(comparison, screen.look))
        screen.lines(parting_lines(comparison, screen.look))
    else:
        screen.lines(comparison_lines(comparison, screen.look, None if step is None else [step - 1]))


_OF_A_TEXT = {"prompt", "refs", "given", "html", "save", "force", "as_json", "plain", "color", "lang", "debug"}


def _read_by_two(
    text: str,
    refs: Sequence[str],
    given: bool,
    settings: RunSettings,
    save: Path | None,
    force: bool,
    how: dict[str, Any],
) -> None:
    """The text itself under two models. Raises UsageError for more or fewer, and for what only a run has."""
    void = options_typed(_OF_A_TEXT)
    if void:
        raise UsageError("aligned_void", got=", ".join(void))
    if len(refs) != 2 or not given:
        raise UsageError("aligned_count", got=len(refs))
    html: Path | None = how["html"]
    if html is not None:
        writable_target(html, force)
    text = read_prompt(text)
    traces = [opened(ref, text, settings).score(text) for ref in refs]
    found = aligned(text, *traces)
    if save is not None:
        save_tree(traces, save, force)
    if html is not None:
        data = comparison_page(traces, chosen_language()).encode()
        write_file(html, data, replace=force)
        note("export.done", file=html, size=megabytes(len(data)))
    if how["as_json"]:
        print_json(aligned_document(found))
        return
    screen = Screen(Look.top, how["plain"], how["color"])
    screen.lines(aligned_lines(found, screen.look))


def _runs(
    settings: RunSettings, varied: dict[str, tuple[Any, ...]], others: Sequence[str], refs: Sequence[str]
) -> list[RunSettings]:
    """The settings of every run of one model. Raises UsageError where there is nothing to compare."""
    settings = settings.seeded()
    without = [[str(Ablation.parse(part)) for part in parts.split(",")] for parts in varied.pop("ablate", ())]
    asked = varied or without or others or len(refs) > 1
    if not asked:
        varied = {"temperature": COMPARED}
    if others and not without and not any(len(values) > 1 for values in varied.values()):
        several = [settings.changed(**_read(other)) for other in others]
        several = several if len(several) > 1 else [settings, *several]
    else:
        several = runs(settings, varied, without) + [settings.changed(**_read(other)) for other in others]
    if len(several) * max(1, len(refs)) < 2:
        raise UsageError("compare_count", got=1)
    return several


def _read(text: str) -> dict[str, Any]:
    """The settings of one --run."""
    kinds = {stage.name: Number(stage.whole, stage.name) for stage in STAGES} | {"seed": Number(True, "seed")}
    found: dict[str, Any] = {}
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation mark that nothing closes
        raise UsageError("run_form", got=text) from None
    for word in words:
        name, equals, value = word.partition("=")
        name = {"t": "temperature", "T": "temperature"}.get(name, name.replace("-", "_"))
        if not equals or name not in kinds and name not in ("order", "ablate"):
            raise UsageError("run_form", got=text)
        found[name] = kinds[name].convert(value, None, None) if name in kinds else tuple(value.split(","))
    if not found:
        raise UsageError("run_form", got=text)
    return found
