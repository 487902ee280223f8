"""`manako attention`: which earlier tokens a choice looked at."""

from typing import Any

import click

from manako.analysis.attention import attention
from manako.cli.console import say
from manako.cli.inside import inside_options
from manako.cli.options import head_option, json_option, layer_option, scope, top_option
from manako.cli.output import Screen, print_json
from manako.trace.record import Trace
from manako.views.document import attention_document
from manako.views.terminal.again import hint
from manako.views.terminal.attention import attention_lines, meaning_lines
from manako.views.terminal.steps import header_lines


@click.command("attention", help=say("help.attention"))
@inside_options("attention")
@layer_option
@head_option
@top_option("option.top_attention")
@json_option
def command(
    trace: Trace, index: int, layer: int | None, head: tuple[int, int] | None, as_json: bool, **rest: Any
) -> None:
    part = scope(trace.attention.n_layer, trace.attention.n_head, layer, head)
    found = attention(trace, index)
    if as_json:
        print_json(attention_document(trace, found))
        return
    screen = Screen(rest["top"], rest["plain"], rest["color"])
    screen.lines(header_lines(trace.header, screen.look))
    screen.lines(attention_lines(found, screen.look, part))
    screen.lines(meaning_lines(trace.header.self_checks, screen.look))
    number = found.step.number
    screen.lines([hint("attention.see_why", screen.look, trace, "why", "--step", str(number), count=number)])
