"""`manako import`: a checkpoint of `torch.save` into a model folder, a training of the page into a run folder."""

from pathlib import Path

import click

from manako.cli import common_options
from manako.cli.console import note, say, tell
from manako.formats.pt_file import import_pt
from manako.messages.numbers import count
from manako.refs import Ref
from manako.training.page_run import import_run, is_page_run


@click.command("import", help=say("help.import"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", "folder", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help=say("option.out")
)
@click.option("--tokenizer", metavar="REF", help=say("option.import_tokenizer"))
@common_options
def command(file: Path, folder: Path, tokenizer: str | None) -> None:
    if is_page_run(file):
        _import_run(file, folder)
        return
    imported = import_pt(file, folder, Ref.parse(tokenizer).tokenizer() if tokenizer else None)
    for key, values in imported.notices:
        note(key, **values)
    c = imported.config
    shape = say("view.shape", n_layer=c.n_layer, n_head=c.n_head, n_embd=c.n_embd, n_positions=c.block_size)
    tell(say("import.done", folder=folder, shape=shape, vocab=c.vocab_size))


def _import_run(file: Path, folder: Path) -> None:
    found = import_run(file, folder)
    c = found.config
    shape = say("view.shape", n_layer=c.n_layer, n_head=c.n_head, n_embd=c.n_embd, n_positions=c.block_size)
    tell(say("import.run_done", folder=folder, shape=shape, step=count(found.step), steps=count(found.steps)))
