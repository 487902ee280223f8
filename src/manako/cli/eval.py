"""`manako eval`: how well a model predicts a text."""

from dataclasses import asdict
from pathlib import Path

import click

from manako.cli import common_options
from manako.cli.console import say, tell
from manako.cli.output import print_json
from manako.cli.running import model_option
from manako.corpus.documents import document
from manako.files import read_regular
from manako.messages.numbers import count, fixed
from manako.model import load
from manako.refs import for_text


@click.command("eval", help=say("help.eval"))
@model_option
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="FILE", help=say("option.eval_data"))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@common_options
def command(ref: str | None, data: Path, as_json: bool) -> None:
    text = document(str(data), read_regular(data)).text
    result = load(ref or for_text(text)).evaluate(text)
    if as_json:
        print_json(asdict(result))
        return
    for name, value in asdict(result).items():
        shown = count(value) if isinstance(value, int) else fixed(value, 4)
        tell(say(f"eval.{name}", value=shown))
