"""`manako info`: what a model is, what can be seen of it, and its chat template."""

import click

from manako.cli.console import chosen_language, note, say
from manako.cli.options import json_option, screen_options
from manako.cli.output import Screen, print_json
from manako.engines.protocol import lacking
from manako.model import load
from manako.refs import for_language
from manako.trace.schema import CAPTURES
from manako.views.document import info_document
from manako.views.terminal.info import info_lines
from manako.views.terminal.steps import Look


@click.command("info", help=say("help.info"))
@click.argument("ref", default="")
@json_option
@screen_options
def command(ref: str, as_json: bool, plain: bool, color: str) -> None:
    model = load(ref or for_language(chosen_language()))
    for key, values in model.notices:
        if key != "notice.chat_template":  # it is shown
            note(key, **values)
    config, spelled = model.config, model.tokenizer.token_bytes
    start = model.tokenizer.front_ids or (() if config.start_id is None else (config.start_id,))
    tokens = {
        "start": [spelled[i] for i in start if i < len(spelled)],
        "end": [spelled[i] for i in config.end_ids if i < len(spelled)],
    }
    lacks = lacking(model.engine)
    if as_json:
        why = {name: say(reason) for name, reason in lacks.items()}
        print_json(info_document(model.info, model.engine.n_parameters, tokens, why, model.chat_template))
        return
    captures = {name: lacks.get(name) for name in CAPTURES}
    screen = Screen(Look.top, plain, color)
    screen.lines(info_lines(model.info, model.engine.n_parameters, tokens, captures, model.chat_template, screen.look))
