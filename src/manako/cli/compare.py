"""`manako compare`: the same prompt and random numbers, at several temperatures or with parts ablated."""

import secrets
from typing import Any

import click

from manako.analysis.compare import Comparison
from manako.cli import say
from manako.cli.options import (
    ablate_option,
    check_top,
    look_options,
    model_option,
    read_prompt,
    run_options,
    sampling_options,
)
from manako.cli.output import Screen, print_json
from manako.cli.watch import warn
from manako.engines.ablation import Ablation
from manako.errors import UsageError
from manako.model import check_count, check_stop, load
from manako.sampling import Sampling, check_seed
from manako.views.document import trace_document
from manako.views.terminal.compare import comparison_lines
from manako.views.terminal.steps import header_lines


@click.command("compare", help=say("help.compare"))
@click.argument("prompt")
@model_option
@sampling_options(many_temperatures=True)
@run_options()
@ablate_option
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@look_options
def command(
    prompt: str, ref: str, samplings: list[Sampling], ablate: tuple[str, ...], as_json: bool, **rest: Any
) -> None:
    top = check_top(rest["top"])
    without = [[part.strip() for part in parts.split(",")] for parts in ablate]
    for part in (part for parts in without for part in parts):
        Ablation.parse(part)
    if without and len(samplings) > 1:
        raise UsageError("compare_ablate", got=len(samplings))
    if not without and len(samplings) < 2:
        raise UsageError("compare_count", got=len(samplings))
    seed = secrets.randbelow(2**32) if rest["seed"] is None else check_seed(rest["seed"])
    settings = {"max_new_tokens": check_count(rest["max_new_tokens"]), "stop": check_stop(rest["stop"]), "seed": seed}
    text = read_prompt(prompt)
    model = load(ref)
    warn(model, text)
    runs = [(samplings[0], off) for off in ([], *without)] if without else [(each, []) for each in samplings]
    comparison = Comparison(tuple(model.trace(text, sampling=each, ablate=off, **settings) for each, off in runs))
    if as_json:
        documents = [trace_document(trace, top) for trace in comparison.traces]
        print_json({"schema": "manako.comparison/1", "diverged_at": comparison.diverged_at, "runs": documents})
        return
    screen = Screen(top, rest["plain"], rest["color"])
    screen.lines(header_lines(comparison.traces[0].header, screen.look, () if without else comparison.temperatures))
    screen.lines(comparison_lines(comparison, screen.look))
