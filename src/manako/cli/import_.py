"""`manako import`: an old checkpoint of the article into a model folder."""

from pathlib import Path

import click

from manako.cli import common_options
from manako.cli.console import note, say, tell
from manako.formats.legacy_pt import import_legacy


@click.command("import", help=say("help.import"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", "folder", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help=say("option.out")
)
@common_options
def command(file: Path, folder: Path) -> None:
    imported = import_legacy(file, folder)
    for key, values in imported.notices:
        note(key, **values)
    c = imported.config
    shape = say("view.shape", n_layer=c.n_layer, n_head=c.n_head, n_embd=c.n_embd, n_positions=c.block_size)
    tell(say("import.done", folder=folder, shape=shape, vocab=c.vocab_size))
