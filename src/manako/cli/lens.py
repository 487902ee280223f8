"""`manako lens`: what each layer would have said, and where the answer comes up."""

from typing import Any

import click

from manako.analysis.lens import lens
from manako.cli.console import say
from manako.cli.inside import inside_options
from manako.cli.output import Screen, print_json
from manako.trace.record import Trace
from manako.views.document import lens_document
from manako.views.terminal.lens import lens_lines
from manako.views.terminal.steps import Look


@click.command("lens", help=say("help.lens"))
@inside_options("lens")
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
def command(trace: Trace, index: int, as_json: bool, **rest: Any) -> None:
    found = lens(trace, index)
    if as_json:
        print_json(lens_document(trace, found))
        return
    screen = Screen(Look.top, rest["plain"], rest["color"])
    screen.lines(lens_lines(trace, found, screen.look))
