"""`manako tokens`: how tokenizers cut a text."""

import click

from manako.analysis.tokens import tokens
from manako.cli.console import say
from manako.cli.options import read_prompt, screen_options
from manako.cli.output import Screen, print_json
from manako.refs import Ref, for_text
from manako.views.document import tokens_document
from manako.views.terminal.steps import Look
from manako.views.terminal.tokens import tokens_lines


@click.command("tokens", help=say("help.tokens"))
@click.argument("text")
@click.option("--with", "refs", multiple=True, metavar="REF", help=say("option.with"))
@click.option("--special", is_flag=True, help=say("option.special"))
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@screen_options
def command(text: str, refs: tuple[str, ...], special: bool, as_json: bool, plain: bool, color: str) -> None:
    text = read_prompt(text)
    found = [tokens(Ref.parse(ref).tokenizer(), text, ref, special) for ref in refs or (for_text(text),)]
    if as_json:
        print_json(tokens_document(found))
        return
    screen = Screen(Look.top, plain, color)
    screen.lines(tokens_lines(found, screen.look))
