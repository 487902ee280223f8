"""`manako attention`: which earlier tokens a choice looked at."""

import re
from typing import Any

import click

from manako.analysis.attention import attention
from manako.cli.console import say
from manako.cli.inside import inside_options
from manako.cli.options import Number
from manako.cli.output import Screen, print_json
from manako.errors import UsageError
from manako.trace.record import Trace
from manako.views.document import attention_document
from manako.views.terminal.again import hint
from manako.views.terminal.attention import attention_lines, meaning_lines
from manako.views.terminal.steps import Look, header_lines


class Head(click.ParamType):  # not subscripted: click 8.2 cannot
    """A head as its layer and its place in it, such as 3.5, in the form that --ablate takes behind `head:`."""

    name = "head"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", value)
        if found is None:
            raise UsageError("attention_head", got=value)
        return int(found[1]), int(found[2])


@click.command("attention", help=say("help.attention"))
@inside_options("attention")
@click.option("--layer", type=Number(True, "attention_layer"), metavar="L", help=say("option.layer"))
@click.option("--head", type=Head(), metavar="L.H", help=say("option.head"))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
def command(
    trace: Trace, index: int, layer: int | None, head: tuple[int, int] | None, as_json: bool, plain: bool, color: str
) -> None:
    part = _part(layer, head, trace.attention.n_layer, trace.attention.n_head)
    found = attention(trace, index)
    if as_json:
        print_json(attention_document(trace, found))
        return
    screen = Screen(Look.top, plain, color)
    screen.lines(header_lines(trace.header, screen.look))
    screen.lines(attention_lines(found, screen.look, part))
    screen.lines(meaning_lines(trace.header.self_checks, screen.look))
    number = found.step.number
    screen.lines([hint("attention.see_why", screen.look, trace, "why", "--step", str(number), count=number)])


def _part(layer: int | None, head: tuple[int, int] | None, layers: int, heads: int) -> tuple[int, ...]:
    """What to look at closely: nothing, (layer,) or (layer, head)."""
    if layer is not None and head is not None:
        raise UsageError("attention_both")
    part = head or (() if layer is None else (layer,))
    if any(not 0 <= n < size for n, size in zip(part, (layers, heads), strict=False)):
        raise UsageError("attention_range", got=".".join(map(str, part)), layers=layers, heads=heads)
    return part
