"""`manako export`: a saved trace as one file that anyone can open."""

import sys
from pathlib import Path

import click

import manako
from manako.cli import chosen_language, common_options, complain, say
from manako.files import megabytes, writable_target, write_file
from manako.views.html import page


@click.group("export", help=say("help.export"))
@common_options
def command() -> None: ...


@command.command("html", help=say("help.export_html"), short_help=say("cli.export_html"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help=say("option.page"))
@click.option("-f", "--force", is_flag=True, help=say("option.force"))
@common_options
def html_command(file: Path, out: Path, force: bool) -> None:
    writable_target(out, force)
    data = page(manako.open(file), chosen_language(sys.argv[1:])).encode()
    write_file(out, data)
    complain(say("export.done", file=out, size=megabytes(len(data))), None, 0)
