"""`manako train`: a small GPT from your own text."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from manako.checkpoint import ModelConfig, start_id_of
from manako.cli import common_options, complain, say
from manako.cli.options import Number
from manako.corpus import aozora
from manako.corpus.documents import documents
from manako.corpus.split import split
from manako.errors import LoadError, MissingExtraError, UsageError
from manako.files import writable_folder
from manako.tokenizer import train_characters

_SHAPE = {"n_layer": 4, "n_head": 6, "n_embd": 192, "block_size": 256}
_TRAINING = {"steps": 2_000, "batch_size": 16, "learning_rate": 2.5e-3, "eval_interval": 250, "seed": 0}


def number_options(command: Any) -> Any:
    for name, default in reversed((_SHAPE | _TRAINING).items()):
        kind = Number(isinstance(default, int), "train_number")
        flag = f"--{name.replace('_', '-')}"
        option = click.option(flag, name, type=kind, default=default, show_default=True, help=say(f"option.{name}"))
        command = option(command)
    return command


@click.command("train", help=say("help.train"))
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="PATH", help=say("option.train_data"))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help=say("option.out"))
@click.option("--kana", type=click.Choice(["any", "modern"]), default="any", show_default=True, help=say("option.kana"))
@click.option(
    "--min-count", type=Number(True, "train_number"), default=2, show_default=True, help=say("option.min_count")
)
@click.option("--no-residual", is_flag=True, help=say("option.no_residual"))
@click.option("--norm", type=click.Choice(["pre", "post"]), default="pre", show_default=True, help=say("option.norm"))
@click.option("--no-attention", is_flag=True, help=say("option.no_attention"))
@number_options
@common_options
def command(data: Path, out: Path, kana: str, min_count: int, **given: Any) -> None:
    if find_spec("torch") is None:
        raise MissingExtraError("missing_torch")
    from manako.training import loop

    training = loop.TrainingConfig(**{name: given[name] for name in _TRAINING})
    switches = {"residual": not given["no_residual"], "attention": not given["no_attention"], "norm": given["norm"]}
    shape = {name: given[name] for name in _SHAPE} | switches
    _check_shape(shape)
    writable_folder(out)
    texts = [d for d in documents(data) if kana == "any" or aozora.is_modern_kana(d.text)]
    if not texts:
        raise LoadError("corpus_no_modern_kana", file=data)
    train, validation = split(texts)
    report("train.corpus", train=len(train), validation=len(validation))
    if validation[0].name.endswith("[end]"):
        report("train.corpus_cut")
    tokenizer = train_characters((d.text for d in train), min_count)
    config = ModelConfig(**shape, vocab_size=tokenizer.vocab_size, start_id=start_id_of(tokenizer))
    rows = loop.encode_corpus(train, tokenizer), loop.encode_corpus(validation, tokenizer)
    try:
        loop.train(out, config, training, tokenizer, *rows, report)
    except KeyboardInterrupt:
        report("train.interrupted", folder=out)
        raise
    report("train.done", folder=out)


def report(key: str, **values: object) -> None:
    """One line on stderr."""
    complain(say(key, **values), None, 0)


def _check_shape(shape: dict[str, Any]) -> None:
    """The shape as the user typed it, checked before any text is read."""
    for name in _SHAPE:
        if shape[name] < 1:
            raise UsageError("training_range", name=name, got=shape[name], least=1)
    if shape["n_embd"] % shape["n_head"]:
        raise UsageError("train_heads", n_embd=shape["n_embd"], n_head=shape["n_head"])
