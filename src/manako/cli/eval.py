"""`manako eval`: how well a model predicts a text."""

from dataclasses import asdict
from pathlib import Path

import click

from manako.cli import common_options
from manako.cli.console import say, tell
from manako.cli.output import print_json
from manako.cli.running import model_option
from manako.corpus.documents import document
from manako.corpus.packed import SIDES, is_packed, open_whole
from manako.engines.scoring import Evaluation
from manako.errors import CapabilityError
from manako.files import read_regular
from manako.messages.numbers import count, fixed
from manako.model import load
from manako.refs import Ref


def _text(ref: str, path: Path) -> Evaluation:
    text = document(str(path), read_regular(path)).text
    return load(ref).evaluate(text)


def _side(ref: str, folder: Path | None, split: str) -> Evaluation:
    """A side of a packed corpus, by default of the model's own, by the method and to the figure of training."""
    corpus, model = Ref.parse(ref).corpus() if folder is None else open_whole(folder), load(ref)
    if corpus.header.tokenizer_sha256 != model.tokenizer.fingerprint:
        raise CapabilityError("eval_other_vocabulary", folder=folder, ref=ref)
    side = corpus.train if split == "train" else corpus.validation
    return model.evaluate_ids(side.windows([0], len(side))[0].tolist())


@click.command("eval", help=say("help.eval"))
@model_option
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE|DIR", help=say("option.eval_data"))
@click.option(
    "--split", type=click.Choice(SIDES), default="validation", show_default=True, help=say("option.eval_split")
)
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@common_options
def command(ref: str, data: Path | None, split: str, as_json: bool) -> None:
    result = _side(ref, data, split) if data is None or is_packed(data) else _text(ref, data)
    if as_json:
        print_json(asdict(result))
        return
    for name, value in asdict(result).items():
        if name == "unknown_characters" and not value:
            continue
        shown = say("eval.none") if value is None else count(value) if isinstance(value, int) else fixed(value, 4)
        tell(say(f"eval.{name}", value=shown))
