"""`manako evidence`: a model's choices beside the text that it was trained on."""

from pathlib import Path
from typing import Any

import click

import manako
from manako.analysis.evidence import LONGEST, SearchedText, check_longest, check_vocabulary, evidence
from manako.cli.console import say
from manako.cli.options import (
    Number,
    check_step,
    is_trace,
    json_option,
    look_options,
    model_option,
    read_prompt,
    step_option,
    text_option,
)
from manako.cli.output import Screen, print_json
from manako.cli.running import opened, settings_options
from manako.corpus.packed import PackedCorpus, open_whole
from manako.errors import CapabilityError
from manako.refs import Ref, for_text
from manako.settings import RunSettings
from manako.trace.record import Trace
from manako.views.document import evidence_document
from manako.views.terminal.evidence import corpus_lines, evidence_lines, meaning_lines
from manako.views.terminal.steps import header_lines


@click.command("evidence", help=say("help.evidence"))
@click.argument("prompt")
@model_option()
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help=say("option.evidence_data"))
@click.option(
    "--longest",
    type=Number(True, "evidence_number"),
    default=LONGEST,
    show_default=True,
    metavar="N",
    help=say("option.longest"),
)
@text_option
@step_option()
@settings_options(count=1, ablate=False)
@json_option
@look_options
def command(
    prompt: str,
    ref: str | None,
    data: Path | None,
    settings: RunSettings,
    longest: int,
    step: int | None,
    as_text: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    top, longest = rest["top"], check_longest(longest)
    is_file = is_trace(prompt, as_text)
    trace, corpus = _opened(Path(prompt), data) if is_file else _generated(prompt, ref, data, settings)
    check_step(step, len(trace))
    chosen = range(len(trace)) if step is None else [step - 1]
    found = (evidence(trace, index, corpus, longest) for index in chosen)
    searched = SearchedText.of(corpus)
    if as_json:
        print_json(evidence_document(trace, searched, list(found), top))
        return
    screen = Screen(top, rest["plain"], rest["color"])
    screen.lines(header_lines(trace.header, screen.look))
    screen.lines(corpus_lines(searched, screen.look))
    for each in found:
        screen.lines(evidence_lines(each, screen.look))
    screen.lines(meaning_lines(screen.look))


def _opened(path: Path, data: Path | None) -> tuple[Trace, PackedCorpus]:
    if data is None:  # a record names its model and not the corpus
        raise CapabilityError("evidence_no_corpus", ref=path)
    trace = manako.open(path)
    return trace, check_vocabulary(open_whole(data), trace.header.model)


def _generated(prompt: str, ref: str | None, data: Path | None, settings: RunSettings) -> tuple[Trace, PackedCorpus]:
    text = read_prompt(prompt)
    corpus = Ref.parse(ref or for_text(text)).corpus(data)
    model = opened(ref, text, settings)
    check_vocabulary(corpus, model.info)
    return model.trace(text, settings), corpus
