"""`manako compare`: the same prompt and the same luck under several temperatures."""

import secrets
from typing import Any

import click

from manako.analysis.compare import Comparison
from manako.cli import say
from manako.cli.options import check_top, look_options, model_option, read_prompt, run_options, sampling_options
from manako.cli.output import Screen, print_json
from manako.cli.watch import warn
from manako.engines.model import check_count, check_stop, load
from manako.errors import UsageError
from manako.sampling import Sampling, check_seed
from manako.views.document import trace_document
from manako.views.terminal import header_lines
from manako.views.terminal_compare import comparison_lines


@click.command("compare", help=say("help.compare"))
@click.argument("prompt")
@model_option
@sampling_options(many_temperatures=True)
@run_options
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@look_options
def command(prompt: str, ref: str, samplings: list[Sampling], as_json: bool, **rest: Any) -> None:
    top = check_top(rest["top"])
    if len(samplings) < 2:
        raise UsageError("compare_count", got=len(samplings))
    seed = secrets.randbelow(2**32) if rest["seed"] is None else check_seed(rest["seed"])
    settings = {"max_new_tokens": check_count(rest["max_new_tokens"]), "stop": check_stop(rest["stop"]), "seed": seed}
    text = read_prompt(prompt)
    model = load(ref)
    warn(model, text)
    traces = tuple(model.trace(text, sampling=sampling, **settings) for sampling in samplings)
    comparison = Comparison(tuple(s.temperature for s in samplings), traces)
    if as_json:
        runs = [trace_document(trace, top) for trace in traces]
        print_json({"schema": "manako.comparison/1", "diverged_at": comparison.diverged_at, "runs": runs})
        return
    screen = Screen(top, rest["plain"], rest["color"])
    screen.lines(header_lines(traces[0].header, screen.look, temperatures=comparison.temperatures))
    screen.lines(comparison_lines(comparison, screen.look))
