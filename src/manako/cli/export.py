"""`manako export`: a saved trace, a tree of them, or the page that trains, as one file to open; a model as a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from manako.analysis.compact import KEPT, compact
from manako.analysis.merges import merge_table
from manako.cli import common_options
from manako.cli.console import chosen_language, note, say, tell
from manako.cli.options import force_option, model_option
from manako.files import megabytes, new_folder, writable_target, write_file
from manako.refs import EMBEDDED, Ref, example, for_language
from manako.trace.captures import CLASSES
from manako.trace.dynamics import dynamics_of, is_dynamics
from manako.trace.file import read_bytes, read_parts
from manako.trace.tree import Branch, Tree, open_tree, tree_of
from manako.views.html import Carried, learning_page, page, trainer_page

FIRST_TOKENS = 40  # of the text that a site opens on where it is given none


@click.group("export", help=say("help.export"))
@common_options
def command() -> None: ...


@command.command("html", help=say("help.export_html"), short_help=say("cli.export_html"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help=say("option.page"))
@click.option("--compact", "smaller", is_flag=True, help=say("option.compact", kept=KEPT))
@click.option("--with-model", is_flag=True, help=say("option.with_model"))
@model_option()
@force_option
@common_options
def html_command(file: Path, out: Path, smaller: bool, with_model: bool, ref: str | None, force: bool) -> None:
    writable_target(out, force)
    read = read_parts(read_bytes(file), str(file))
    if is_dynamics(read):
        data = learning_page(dynamics_of(read, str(file)), chosen_language()).encode()
        write_file(out, data, replace=force)
        note("export.done", file=out, size=megabytes(len(data)))
        return
    tree = tree_of(read, str(file))
    if smaller:
        tree = replace(tree, branches=tuple(replace(b, trace=compact(b.trace)) for b in tree.branches))
    model = _carried(ref or tree.shown.header.model.ref) if with_model or ref else None
    data = page(tree if tree.only is None else tree.only, chosen_language(), model).encode()
    write_file(out, data, replace=force)
    note("export.done", file=out, size=megabytes(len(data)))


@command.command("site", help=say("help.export_site"), short_help=say("cli.export_site"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help=say("option.site"))
@model_option()
@common_options
def site_command(file: Path | None, out: Path, ref: str | None) -> None:
    from manako.views.site import site

    with new_folder(out) as folder:
        named = ref or for_language(chosen_language())
        tree = _written(named) if file is None and named not in EMBEDDED else open_tree(file or example(named))
        carried = _carried(ref or tree.shown.header.model.ref)
        assert carried.data is not None
        files = site(
            tree if tree.only is None else tree.only, chosen_language(), carried.ref, carried.data, carried.merges
        )
        for name, data in files.items():
            write_file(folder / name, data)
    note("export.site_done", folder=out, size=megabytes(sum(map(len, files.values()))))


def _written(ref: str) -> Tree:
    """A text to open on, by the model itself."""
    from manako.model import load

    model = load(ref)
    inside = [name for name in model.captures if CLASSES[name].compact]
    trace = model.trace("", max_new_tokens=FIRST_TOKENS, seed=0, capture=inside)
    return Tree((Branch("1", None, 0, trace),), "1")


def _carried(ref: str) -> Carried:
    """The model that goes into a page."""
    from manako.model import for_page  # which a page without one has no need of

    data, parsed = for_page(ref), Ref.parse(ref)
    tokenizer = parsed.tokenizer()
    return Carried(Path(ref).name, len(data), data, merges=merge_table(tokenizer, parsed.counted(tokenizer)))


@command.command("trainer", help=say("help.export_trainer"), short_help=say("cli.export_trainer"))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help=say("option.page"))
@force_option
@common_options
def trainer_command(out: Path, force: bool) -> None:
    writable_target(out, force)
    data = trainer_page(chosen_language()).encode()
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
