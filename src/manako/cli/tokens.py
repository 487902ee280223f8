"""`manako tokens`: how tokenizers cut a text, and how BPE put it together."""

from pathlib import Path
from typing import Any

import click

from manako.analysis.merges import Replay, merge_counts, replay
from manako.analysis.tokens import tokens
from manako.cli.console import say
from manako.cli.options import json_option, models_option, read_prompt, screen_options
from manako.cli.output import Screen, print_json
from manako.corpus.packed import open_packed
from manako.errors import CapabilityError
from manako.refs import Ref, for_text
from manako.views.document import merges_document, tokens_document
from manako.views.terminal.merges import merges_lines
from manako.views.terminal.steps import Look
from manako.views.terminal.tokens import tokens_lines


@click.command("tokens", help=say("help.tokens"))
@click.argument("text")
@models_option("option.with", "--with")
@click.option("--merges", is_flag=True, help=say("option.merges"))
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help=say("option.merges_data"))
@click.option("--special", is_flag=True, help=say("option.special"))
@json_option
@screen_options
def command(
    text: str, refs: tuple[str, ...], merges: bool, data: Path | None, special: bool, as_json: bool, **rest: Any
) -> None:
    text = read_prompt(text)
    parsed = [Ref.parse(ref) for ref in refs or (for_text(text),)]
    found = [tokens(ref.tokenizer(), text, ref.text, special) for ref in parsed]
    replays = [_replay(ref, text, special, data) for ref in parsed] if merges else []
    if as_json:
        print_json(tokens_document(found) | ({"merges": merges_document(replays)} if merges else {}))
        return
    screen = Screen(Look.top, rest["plain"], rest["color"])
    for each in replays:
        screen.lines(merges_lines(each, screen.look))
    if not merges:
        screen.lines(tokens_lines(found, screen.look))


def _replay(ref: Ref, text: str, special: bool, data: Path | None) -> Replay:
    """Raises CapabilityError for a vocabulary without merges, and for a corpus that is packed with another one."""
    tokenizer = ref.tokenizer()
    corpus = ref.counted(tokenizer) if data is None else open_packed(data)
    if corpus is not None and corpus.tokenizer_source != tokenizer.source:
        raise CapabilityError("eval_other_vocabulary", folder=data, ref=ref.text)
    counts = None if corpus is None else merge_counts(tokenizer, corpus)
    found = replay(tokenizer, text, ref.text, special, counts)
    if found is None:
        raise CapabilityError("tokens_no_merges", ref=ref.text)
    return found
