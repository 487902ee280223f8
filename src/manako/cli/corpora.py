"""The options of a corpus, which `corpus build` and `train` share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from manako.cli.console import say
from manako.cli.options import Number
from manako.corpus.settings import CorpusSettings

F = TypeVar("F", bound=Callable[..., Any])
_CORPUS: dict[str, dict[str, Any]] = {  # field of CorpusSettings -> how its flag is read
    "format": {"type": click.Choice(["auto", "text", "aozora"])},
    "encoding": {"metavar": "NAME"},
    "field": {"metavar": "NAME"},
    "authors": {"multiple": True, "metavar": "NAME"},
    "kana": {"type": click.Choice(["any", "modern", "historical"])},
    "skip_bad": {"is_flag": True},
    "validation": {"type": Number(False, "validation_share"), "metavar": "SHARE"},
    "tokenizer": {"metavar": "KIND|FILE"},
    "vocab_size": {"type": Number(True, "train_number"), "metavar": "N"},
    "min_count": {"type": Number(True, "train_number"), "metavar": "N"},
}


def corpus_options(command: F) -> F:
    """A flag for each field of CorpusSettings, with its default; the command gets them by the names of the fields."""
    for name, more in reversed(_CORPUS.items()):
        flag = "author" if name == "authors" else name
        default = getattr(CorpusSettings, name)
        shown = {"default": default, "show_default": True} if default else {}
        text = say(f"option.corpus_{flag}")
        command = click.option(f"--{flag.replace('_', '-')}", name, help=text, **shown, **more)(command)
    return command
