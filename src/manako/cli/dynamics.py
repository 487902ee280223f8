"""`manako dynamics`: one text under every snapshot of a training."""

from pathlib import Path
from typing import Any

import click

from manako.cli.console import note, say
from manako.cli.options import Number, force_option, json_option, read_prompt, screen_options, step_option
from manako.cli.output import Screen, print_json
from manako.cli.training import progress_line
from manako.experiments.dynamics import dynamics
from manako.files import writable_target
from manako.sampling import Sampling
from manako.views.document import dynamics_document
from manako.views.terminal.dynamics import dynamics_lines
from manako.views.terminal.steps import Look


@click.command("dynamics", help=say("help.dynamics"))
@click.argument("run", metavar="RUN")
@click.argument("text", required=False)
@step_option("option.dynamics_step")
@click.option("--all-attention", is_flag=True, help=say("option.all_attention"))
@click.option(
    "-n",
    "--max-new-tokens",
    type=Number(True, "max_new_tokens"),
    default=20,
    show_default=True,
    metavar="N",
    help=say("option.max_new_tokens"),
)
@click.option(
    "-t",
    "--temperature",
    type=Number(False, "temperature"),
    default=Sampling.temperature,
    show_default=True,
    metavar="T",
    help=say("term.temperature_means"),
)
@click.option("--seed", type=Number(True, "seed"), default=0, show_default=True, metavar="N", help=say("option.seed"))
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help=say("option.resume_data"))
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help=say("option.save_dynamics"))
@force_option
@json_option
@screen_options
def command(
    run: str, text: str | None, save: Path | None, force: bool, as_json: bool, plain: bool, color: str, **asked: Any
) -> None:
    if save is not None:
        writable_target(save, force)
    with progress_line("dynamics.progress", plain) as report:
        found = dynamics(run, None if text is None else read_prompt(text), report=report, **asked)
    if save is not None:
        found.save(save, force)
        note("dynamics.saved", file=save)
    if as_json:
        print_json(dynamics_document(found))
        return
    screen = Screen(Look.top, plain, color)
    screen.lines(dynamics_lines(found, screen.look))
