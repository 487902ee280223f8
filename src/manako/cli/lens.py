"""`manako lens`: what each layer would have said, and where the answer comes up."""

from typing import Any

import click

from manako.analysis.lens import lens
from manako.cli.console import say
from manako.cli.inside import inside_options
from manako.cli.options import json_option, layer_option, scope, top_option
from manako.cli.output import Screen, print_json
from manako.trace.record import Trace
from manako.views.document import lens_document
from manako.views.terminal.lens import lens_lines
from manako.views.terminal.steps import Look


@click.command("lens", help=say("help.lens"))
@inside_options("lens")
@layer_option
@top_option("option.top_lens", None)
@json_option
def command(trace: Trace, index: int, layer: int | None, top: int | None, as_json: bool, **rest: Any) -> None:
    found = lens(trace, index)
    part = scope(len(found.layers) - 1, trace.header.model.config.get("n_head", 0), layer)
    if as_json:
        print_json(lens_document(trace, found))
        return
    screen = Screen(Look.top, rest["plain"], rest["color"])
    screen.lines(lens_lines(trace, found, screen.look, part, top))
