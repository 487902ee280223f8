"""`manako why`: which parts of the model raised and lowered a token, alone or rather than another one."""

from typing import Any

import click

from manako.analysis.contributions import contributions
from manako.cli.console import say
from manako.cli.inside import inside_options
from manako.cli.options import head_option, json_option, layer_option, scope, top_option
from manako.cli.output import Screen, print_json
from manako.trace.captures import Contributions
from manako.trace.record import Trace
from manako.views.document import why_document
from manako.views.terminal.why import why_lines


@click.command("why", help=say("help.why"))
@inside_options(Contributions.name)
@click.option("--token", metavar="TOKEN", help=say("option.why_token"))
@click.option("--rather-than", metavar="TOKEN", help=say("option.rather_than"))
@layer_option
@head_option
@top_option("option.why_top")
@json_option
def command(
    trace: Trace,
    index: int,
    token: str | None,
    rather_than: str | None,
    layer: int | None,
    head: tuple[int, int] | None,
    as_json: bool,
    **rest: Any,
) -> None:
    on_record = contributions(trace, index)
    explained = on_record.step.chosen if token is None else on_record.find(token)
    rival = None if rather_than is None else on_record.find(rather_than)
    found = on_record.why(explained, rival)
    part = scope(len(found.layers), found.heads, layer, head)
    if as_json:
        print_json(why_document(trace, on_record, found))
        return
    next_best = on_record.next_best(explained) if rival is None else None
    screen = Screen(rest["top"], rest["plain"], rest["color"])
    beside = on_record.why(explained, next_best) if next_best else None
    screen.lines(why_lines(trace, on_record.step, found, beside, screen.look, part))
