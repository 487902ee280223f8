"""`manako training-step`: what one step of training does to a text."""

from pathlib import Path

import click

from manako.cli.console import say
from manako.cli.options import Number, json_option, read_prompt, screen_options
from manako.cli.output import Screen, print_json
from manako.experiments.training_step import training_step
from manako.views.document import training_step_document
from manako.views.terminal.steps import Look
from manako.views.terminal.training_step import training_step_lines


@click.command("training-step", help=say("help.training_step"))
@click.argument("run", metavar="RUN")
@click.argument("text", required=False)
@click.option("--read", metavar="SENTENCE", help=say("option.training_step_read"))
@click.option("--learning-rate", type=Number(False, "train_number"), metavar="N", help=say("option.training_step_rate"))
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help=say("option.resume_data"))
@json_option
@screen_options
def command(
    run: str,
    text: str | None,
    read: str | None,
    learning_rate: float | None,
    data: Path | None,
    as_json: bool,
    plain: bool,
    color: str,
) -> None:
    typed = {each for each in (text, read) if each}
    given = {each: read_prompt(each) for each in typed}  # each once: both may be standard input
    text, read = text and given[text], read and given[read]
    found = training_step(run, text, read=read, learning_rate=learning_rate, data=data)
    if as_json:
        print_json(training_step_document(found))
        return
    screen = Screen(Look.top, plain, color)
    screen.lines(training_step_lines(found, screen.look))
