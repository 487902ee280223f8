"""`manako why`: which parts of the model raised and lowered a token, alone or rather than another one."""

from typing import Any

import click

from manako.analysis.contributions import contributions
from manako.cli.console import say
from manako.cli.inside import inside_options
from manako.cli.options import Number, check_top
from manako.cli.output import Screen, print_json
from manako.trace.captures import Contributions
from manako.trace.record import Trace
from manako.views.document import why_document
from manako.views.terminal.why import why_lines


@click.command("why", help=say("help.why"))
@inside_options(Contributions.name)
@click.option("--token", metavar="TOKEN", help=say("option.why_token"))
@click.option("--rather-than", metavar="TOKEN", help=say("option.rather_than"))
@click.option("--top", type=Number(True, "top"), default=10, show_default=True, metavar="N", help=say("option.why_top"))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
def command(
    trace: Trace, index: int, token: str | None, rather_than: str | None, top: int, as_json: bool, **rest: Any
) -> None:
    check_top(top)
    on_record = contributions(trace, index)
    explained = on_record.step.chosen if token is None else on_record.find(token)
    rival = None if rather_than is None else on_record.find(rather_than)
    found = on_record.why(explained, rival)
    if as_json:
        print_json(why_document(trace, on_record, found))
        return
    next_best = on_record.next_best(explained) if rival is None else None
    screen = Screen(top, rest["plain"], rest["color"])
    beside = on_record.why(explained, next_best) if next_best else None
    screen.lines(why_lines(trace, on_record.step, found, beside, screen.look))
