"""`manako compare`: the same prompt and random numbers, at several temperatures or with parts ablated."""

from typing import Any

import click

from manako.analysis.compare import Comparison, runs
from manako.cli.console import say
from manako.cli.options import check_top, look_options
from manako.cli.output import Screen, print_json
from manako.cli.running import model_option, opened, settings_options
from manako.errors import UsageError
from manako.settings import COMPARED, Ablation, RunSettings
from manako.views.document import trace_document
from manako.views.terminal.compare import comparison_lines
from manako.views.terminal.steps import header_lines


@click.command("compare", help=say("help.compare"))
@click.argument("prompt")
@model_option
@settings_options(temperatures=True)
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@look_options
def command(
    prompt: str,
    ref: str | None,
    settings: RunSettings,
    temperatures: tuple[float, ...],
    ablate: tuple[str, ...],
    as_json: bool,
    **rest: Any,
) -> None:
    top = check_top(rest["top"])
    without = [[str(Ablation.parse(part)) for part in parts.split(",")] for parts in ablate]
    if without and len(temperatures) > 1:
        raise UsageError("compare_ablate", got=len(temperatures))
    if without and temperatures:
        settings = settings.changed(temperature=temperatures[0])
    compared = () if without else temperatures or COMPARED
    several = runs(settings.seeded(), compared, without)
    model, text = opened(ref, prompt, settings)
    comparison = Comparison(tuple(model.trace(text, each) for each in several))
    if as_json:
        documents = [trace_document(trace, top) for trace in comparison.traces]
        print_json({"schema": "manako.comparison/1", "diverged_at": comparison.diverged_at, "runs": documents})
        return
    screen = Screen(top, rest["plain"], rest["color"])
    screen.lines(header_lines(comparison.traces[0].header, screen.look, () if without else comparison.temperatures))
    screen.lines(comparison_lines(comparison, screen.look))
