"""`manako export`: a saved trace, or a tree of them, as one file that anyone can open."""

from dataclasses import replace
from pathlib import Path

import click

from manako.analysis.compact import KEPT, compact
from manako.cli import common_options
from manako.cli.console import chosen_language, note, say
from manako.files import megabytes, writable_target, write_file
from manako.trace.tree import open_tree
from manako.views.html import page


@click.group("export", help=say("help.export"))
@common_options
def command() -> None: ...


@command.command("html", help=say("help.export_html"), short_help=say("cli.export_html"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help=say("option.page"))
@click.option("--compact", "smaller", is_flag=True, help=say("option.compact", kept=KEPT))
@click.option("-f", "--force", is_flag=True, help=say("option.force"))
@common_options
def html_command(file: Path, out: Path, smaller: bool, force: bool) -> None:
    writable_target(out, force)
    tree = open_tree(file)
    if smaller:
        tree = replace(tree, branches=tuple(replace(b, trace=compact(b.trace)) for b in tree.branches))
    data = page(tree if tree.only is None else tree.only, chosen_language()).encode()
    write_file(out, data, replace=force)
    note("export.done", file=out, size=megabytes(len(data)))
