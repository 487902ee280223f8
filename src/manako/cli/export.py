"""`manako export`: a saved trace, or a tree of them, as one file that anyone can open; a model as a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from manako.analysis.compact import KEPT, compact
from manako.cli import common_options
from manako.cli.console import chosen_language, note, say, tell
from manako.files import megabytes, writable_target, write_file
from manako.trace.tree import open_tree
from manako.views.html import page

DTYPES = ("float32", "float16")


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


@command.command("model", help=say("help.export_model"), short_help=say("cli.export_model"))
@click.argument("ref", metavar="REF")
@click.option(
    "-o", "--out", "folder", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help=say("option.out")
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help=say("option.stored"),
)
@common_options
def model_command(ref: str, folder: Path, dtype: Literal["float32", "float16"]) -> None:
    from manako.model import export  # opens models, which the other exports never need

    c = export(ref, folder, dtype)
    shape = say("view.shape", n_layer=c.n_layer, n_head=c.n_head, n_embd=c.n_embd, n_positions=c.block_size)
    tell(say("export.model_done", folder=folder, shape=shape, dtype=dtype))
