"""`manako tokens`: how tokenizers cut a text, and how BPE put it together."""

from pathlib import Path

import click

from manako.analysis.merges import Replay, merge_counts, replay
from manako.analysis.tokens import tokens
from manako.cli.console import say
from manako.cli.options import read_prompt, screen_options
from manako.cli.output import Screen, print_json
from manako.corpus.packed import PackedCorpus, is_packed, open_packed
from manako.errors import CapabilityError, ManakoError
from manako.refs import Ref, for_text
from manako.views.document import merges_document, tokens_document
from manako.views.terminal.merges import merges_lines
from manako.views.terminal.steps import Look
from manako.views.terminal.tokens import tokens_lines


@click.command("tokens", help=say("help.tokens"))
@click.argument("text")
@click.option("--with", "refs", multiple=True, metavar="REF", help=say("option.with"))
@click.option("--merges", is_flag=True, help=say("option.merges"))
@click.option("--special", is_flag=True, help=say("option.special"))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@screen_options
def command(
    text: str, refs: tuple[str, ...], merges: bool, special: bool, as_json: bool, plain: bool, color: str
) -> None:
    text = read_prompt(text)
    parsed = [Ref.parse(ref) for ref in refs or (for_text(text),)]
    found = [tokens(ref.tokenizer(), text, ref.text, special) for ref in parsed]
    replays = [_replay(ref, text, special) for ref in parsed] if merges else []
    if as_json:
        print_json(tokens_document(found) | ({"merges": merges_document(replays)} if merges else {}))
        return
    screen = Screen(Look.top, plain, color)
    for each in replays:
        screen.lines(merges_lines(each, screen.look))
    if not merges:
        screen.lines(tokens_lines(found, screen.look))


def _replay(ref: Ref, text: str, special: bool) -> Replay:
    """Raises CapabilityError for a vocabulary without merges."""
    tokenizer, corpus = ref.tokenizer(), _corpus(ref)
    known = corpus is not None and corpus.tokenizer_source == tokenizer.source
    counts = merge_counts(tokenizer, corpus) if corpus is not None and known else None
    found = replay(tokenizer, text, ref.text, special, counts)
    if found is None:
        raise CapabilityError("tokens_no_merges", ref=ref.text)
    return found


def _corpus(ref: Ref) -> PackedCorpus | None:
    """The packed corpus that a reference is, or that its run was trained on, where that is there."""
    if is_packed(Path(ref.name)):
        return open_packed(Path(ref.name))
    try:
        return ref.corpus()
    except ManakoError:
        return None
