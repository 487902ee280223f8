"""`manako view`: replay a saved trace, without its model."""

from pathlib import Path
from typing import Any

import click

from manako.cli.console import say
from manako.cli.options import check_step, json_option, look_options, step_option
from manako.cli.output import Screen, print_json
from manako.cli.showing import Show, ShowJson, show_trace, view_options
from manako.trace.dynamics import dynamics_of, is_dynamics
from manako.trace.file import read_bytes, read_parts, trace_of
from manako.views.document import dynamics_document
from manako.views.terminal.dynamics import dynamics_lines


@click.command("view", help=say("help.view"))
@click.argument("file", type=click.Path(path_type=Path))
@step_option()
@view_options
@json_option
@look_options
def command(file: Path, step: int | None, as_json: bool, **rest: Any) -> None:
    read = read_parts(read_bytes(file), str(file))
    if is_dynamics(read):
        found = dynamics_of(read, str(file))
        if as_json:
            print_json(dynamics_document(found))
        else:
            screen = Screen(rest["top"], rest["plain"], rest["color"])
            screen.lines(dynamics_lines(found, screen.look))
        return
    trace = trace_of(read, str(file))
    check_step(step, len(trace))
    if as_json:
        show = ShowJson(rest["top"], each=False, number=step)
    else:
        view = rest["view"] or ("text" if trace.header.kind == "score" else None)
        show = Show(Screen(rest["top"], rest["plain"], rest["color"]), view, rest["tint"], file, step)
    show_trace(trace, show)
