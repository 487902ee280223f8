"""`manako scaling`: power laws through the runs of a sweep."""

from dataclasses import asdict
from pathlib import Path

import click

from manako.analysis.scaling import Law, scaling
from manako.analysis.sweep import Outcome, read_results
from manako.cli.console import chosen_language, note, say, while_read
from manako.cli.options import force_option, json_option, screen_options
from manako.cli.output import Screen, print_json
from manako.errors import CapabilityError
from manako.files import writable_target, write_file
from manako.views.plots import check_plot, scaling_plot
from manako.views.terminal.scaling import scaling_lines
from manako.views.terminal.steps import Look


@click.command("scaling", help=say("help.scaling"))
@click.argument("sweep", type=click.Path(path_type=Path), metavar="SWEEP")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help=say("option.plot"))
@force_option
@json_option
@screen_options
def command(sweep: Path, plot: Path | None, force: bool, as_json: bool, plain: bool, color: str) -> None:
    if plot is not None:
        check_plot(plot)
        writable_target(plot, force)
    results = read_results(sweep)
    found = scaling([each for each in results if isinstance(each, Outcome)])
    if len(results) > sum(len(each.outcomes) for each in found):
        note("scaling.failed", count=len(results) - sum(len(each.outcomes) for each in found))
    with while_read():
        if as_json:
            print_json([asdict(each) for each in found])
        else:
            screen = Screen(Look.top, plain, color)
            screen.lines(scaling_lines(found, screen.look))
    if not any(isinstance(law, Law) for each in found for law in each.laws):
        raise CapabilityError("scaling_none")
    if plot is not None:
        write_file(plot, scaling_plot(found, plot.suffix.lower(), chosen_language()), replace=force)
        note("scaling.saved", file=plot)
