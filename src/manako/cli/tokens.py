"""`manako tokens`: how tokenizers cut a text."""

from pathlib import Path

import click

from manako.analysis.tokens import tokens
from manako.cli import say
from manako.cli.options import read_prompt, screen_options
from manako.cli.output import Screen, print_json
from manako.errors import CapabilityError, LoadError
from manako.formats import run_folder
from manako.model import DEMO, KINDS_TO_COME
from manako.tokenizer import Tokenizer
from manako.views.document import tokens_document
from manako.views.terminal.steps import Look
from manako.views.terminal.tokens import tokens_lines


@click.command("tokens", help=say("help.tokens"))
@click.argument("text")
@click.option("--with", "refs", multiple=True, default=("demo",), metavar="REF", help=say("option.with"))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@screen_options
def command(text: str, refs: tuple[str, ...], as_json: bool, plain: bool, color: str) -> None:
    text = read_prompt(text)
    found = [tokens(tokenizer_of(ref), text, ref) for ref in refs]
    if as_json:
        print_json(tokens_document(found))
        return
    screen = Screen(Look.top, plain, color)
    screen.lines(tokens_lines(found, screen.look))


def tokenizer_of(ref: str) -> Tokenizer:
    """The vocabulary that a reference means: a `tokenizer.json`, a model, a corpus or a run.

    Raises LoadError naming what is missing, CapabilityError for a kind of reference that this version cannot open.
    """
    if ref.startswith(KINDS_TO_COME):
        raise CapabilityError("ref_not_yet", ref=ref)
    if ref.startswith("gguf:"):
        from manako.formats.gguf import read_gguf_tokenizer  # its library is an extra

        return read_gguf_tokenizer(Path(ref.removeprefix("gguf:")))
    if ref.startswith("hf:"):
        from manako.formats.hf_folder import hf_folder  # torch

        return hf_folder(ref).tokenizer
    return Tokenizer.from_file(_tokenizer_file(ref))


def _tokenizer_file(ref: str) -> Path:
    if ref == "demo":
        return DEMO / "tokenizer.json"
    if ref.startswith("run:"):
        return run_folder.located(ref) / "tokenizer.json"
    path = Path(ref)
    try:
        if not ref or not path.exists():
            raise LoadError("tokenizer_ref", ref=ref or '""')
        if path.is_dir() and run_folder.is_run(path):
            path = run_folder.checkpoint(path)
        if path.is_dir() and not (path / "tokenizer.json").exists():
            raise LoadError("tokenizer_none", folder=path)
        return path / "tokenizer.json" if path.is_dir() else path
    except (OSError, ValueError) as error:  # a name that no file can have, a folder without permission
        raise LoadError("file_unreadable", file=ref, reason=getattr(error, "strerror", None) or error) from None
