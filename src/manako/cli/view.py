"""`manako view`: replay a saved trace, without its model."""

from pathlib import Path
from typing import Any

import click

from manako.cli.console import say
from manako.cli.options import check_step, check_top, look_options, step_option
from manako.cli.output import Screen, print_json
from manako.cli.showing import Show, show_trace, view_options
from manako.trace.dynamics import dynamics_of, is_dynamics
from manako.trace.file import read_bytes, read_parts, trace_of
from manako.views.document import dynamics_document, trace_document
from manako.views.terminal.dynamics import dynamics_lines
from manako.views.terminal.steps import characters, header_lines, step_lines


@click.command("view", help=say("help.view"))
@click.argument("file", type=click.Path(path_type=Path))
@step_option()
@view_options
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@look_options
def command(file: Path, step: int | None, as_json: bool, **rest: Any) -> None:
    top = check_top(rest["top"])
    read = read_parts(read_bytes(file), str(file))
    if is_dynamics(read):
        found = dynamics_of(read, str(file))
        if as_json:
            print_json(dynamics_document(found))
        else:
            screen = Screen(top, rest["plain"], rest["color"])
            screen.lines(dynamics_lines(found, screen.look))
        return
    trace = trace_of(read, str(file))
    check_step(step, len(trace))
    chosen = range(len(trace)) if step is None else [step - 1]
    if as_json:
        document = trace_document(trace, top)
        print_json(document | {"steps": [document["steps"][i] for i in chosen]})
        return
    screen = Screen(top, rest["plain"], rest["color"])
    if step is None:
        view = rest["view"] or ("text" if trace.header.kind == "score" else None)
        show_trace(trace, Show(screen, view, rest["tint"], file))
        return
    screen.lines(header_lines(trace.header, screen.look))
    screen.lines(step_lines(trace.steps[step - 1], screen.look, characters(trace).get(step - 1), legend=True))
