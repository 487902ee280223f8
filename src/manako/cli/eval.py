"""`manako eval`: how well a model predicts a text."""

from dataclasses import asdict
from pathlib import Path

import click

from manako.cli import common_options
from manako.cli.console import say, tell
from manako.cli.output import print_json
from manako.cli.running import model_option
from manako.corpus.documents import document
from manako.corpus.packed import is_packed, open_whole
from manako.engines.scoring import Evaluation
from manako.errors import CapabilityError
from manako.files import read_regular
from manako.messages.numbers import count, fixed
from manako.model import load


def _text(ref: str, path: Path) -> Evaluation:
    text = document(str(path), read_regular(path)).text
    return load(ref).evaluate(text)


def _held_out(ref: str, folder: Path) -> Evaluation:
    """The held-out side of a packed corpus, by the method and to the figure of the training."""
    corpus, model = open_whole(folder), load(ref)
    if corpus.header.tokenizer_sha256 != model.tokenizer.fingerprint:
        raise CapabilityError("eval_other_vocabulary", folder=folder, ref=ref)
    return model.evaluate_ids(corpus.validation.windows([0], len(corpus.validation))[0].tolist())


@click.command("eval", help=say("help.eval"))
@model_option
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="FILE|DIR", help=say("option.eval_data")
)
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@common_options
def command(ref: str, data: Path, as_json: bool) -> None:
    result = _held_out(ref, data) if is_packed(data) else _text(ref, data)
    if as_json:
        print_json(asdict(result))
        return
    for name, value in asdict(result).items():
        if name == "unknown_characters" and not value:
            continue
        shown = say("eval.none") if value is None else count(value) if isinstance(value, int) else fixed(value, 4)
        tell(say(f"eval.{name}", value=shown))
