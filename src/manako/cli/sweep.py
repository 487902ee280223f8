"""`manako sweep`: a grid of trainings from one command, on the same held-out text."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from manako.analysis.sweep import Outcome
from manako.cli.console import chosen_language, note, say, while_read
from manako.cli.options import json_option, screen_options
from manako.cli.output import Screen, print_json
from manako.cli.training import status_line
from manako.errors import UsageError
from manako.experiments.grid import FLOPS, SWEEP, Grid, read_grid, read_values
from manako.experiments.on_ray import on_ray
from manako.experiments.sweep import sweep
from manako.files import exists, write_file
from manako.messages.numbers import count
from manako.views.plots import check_plot, sweep_plot
from manako.views.terminal.steps import Look
from manako.views.terminal.sweep import sweep_lines

MANY = 100  # runs: nobody has typed them one by one


@click.command("sweep", help=say("help.sweep"))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help=say("option.sweep_out")
)
@click.option("--data", multiple=True, metavar="SOURCE", help=say("option.train_data"))
@click.option("--vary", multiple=True, metavar="NAME=VALUE,...", help=say("option.vary"))
@click.option("--set", "fixed", multiple=True, metavar="NAME=VALUE", help=say("option.set"))
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=say("option.sweep_config"))
@click.option("--steps", metavar="N", help=say("option.steps"))
@click.option("--flops", metavar="N", help=say("option.flops"))
@click.option("--ray", metavar="ADDRESS", help=say("option.ray"))
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help=say("option.plot"))
@click.option("-y", "--yes", is_flag=True, help=say("option.yes"))
@json_option
@screen_options
def command(
    out: Path, data: tuple[str, ...], config: Path | None, ray: str | None, yes: bool, as_json: bool, **rest: Any
) -> None:
    budgets = [f"{name}={rest[name]}" for name in ("steps", FLOPS) if rest[name] is not None]
    vary, base = _pairs(rest["vary"]), _single(_pairs((*rest["fixed"], *budgets)))
    asked = bool(data or vary or base or config)
    if config is None and not asked and exists(out / SWEEP):
        config = out / SWEEP
    grid = read_grid(config, data, base, vary) if config else Grid(data, base, vary)
    if len(grid) > MANY and not yes:
        _ask(len(grid))
    plot: Path | None = rest["plot"]
    if plot is not None:
        check_plot(plot)
    spread = on_ray(ray, base.get("device", "auto") != "cpu", note) if ray else None
    results = sweep(grid, out, report=note, show=partial(status_line, plain=rest["plain"]), spread=spread)
    with while_read():
        if as_json:
            print_json([asdict(each) for each in results])
        else:
            screen = Screen(Look.top, rest["plain"], rest["color"])
            screen.lines(sweep_lines(results, screen.look))
    outcomes = [each for each in results if isinstance(each, Outcome)]
    if plot is not None and outcomes:
        write_file(plot, sweep_plot(outcomes, plot.suffix.lower(), chosen_language()))
        note("scaling.saved", file=plot)
    if failed := sum(not isinstance(each, Outcome) for each in results):
        note("sweep.failures", failed=failed, count=len(results))
        click.get_current_context().exit(1)


def _pairs(words: Sequence[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for word in words:
        name, values = read_values(word)
        if name in found:
            raise UsageError("sweep_twice", name=name)
        found[name] = values
    return found


def _single(pairs: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    for name, values in pairs.items():
        if len(values) > 1:
            raise UsageError("sweep_one_value", name=name)
    return {name: values[0] for name, values in pairs.items()}


def _ask(runs: int) -> None:
    """Raise UsageError without a terminal, click.Abort where the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("sweep_many", runs=count(runs))
    click.confirm(say("sweep.ask", runs=count(runs)), abort=True, err=True)
