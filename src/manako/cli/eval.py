"""`manako eval`: how well a model predicts a text."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from manako.cli.console import Progress, interrupted, say, while_read
from manako.cli.options import json_option, models_option, screen_options
from manako.cli.output import Screen, print_json
from manako.corpus.documents import document
from manako.corpus.packed import SIDES, PackedCorpus, is_packed, open_whole
from manako.engines.scoring import Evaluation
from manako.errors import CapabilityError
from manako.files import read_regular
from manako.messages.numbers import count, fixed
from manako.model import Model, load
from manako.refs import Ref, for_text
from manako.views.terminal.steps import Look


def _side(model: Model, corpus: PackedCorpus, where: str | Path, split: str) -> Evaluation:
    """A side of a packed corpus, by the method and to the figure of the training."""
    if corpus.header.tokenizer_sha256 != model.tokenizer.fingerprint:
        raise CapabilityError("eval_other_vocabulary", folder=where, ref=model.ref)
    side = corpus.train if split == "train" else corpus.validation
    return model.evaluate_ids(side.windows([0], len(side))[0], Progress())


@click.command("eval", help=say("help.eval"))
@models_option("option.eval_models")
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE|DIR", help=say("option.eval_data"))
@click.option(
    "--split", type=click.Choice(SIDES), default="validation", show_default=True, help=say("option.eval_split")
)
@json_option
@screen_options
def command(refs: tuple[str, ...], data: Path | None, split: str, as_json: bool, plain: bool, color: str) -> int:
    corpus = _corpus(refs, data)
    text = "" if corpus or data is None else document(str(data), read_regular(data)).text
    results: list[tuple[str, Evaluation]] = []
    code = 0
    try:
        for ref in refs or (for_text(text),):
            model = load(ref)
            found = _side(model, corpus, data or ref, split) if corpus else model.evaluate(text, Progress())
            results.append((ref, found))
    except KeyboardInterrupt:
        if not results:
            raise
        code = interrupted()
    with while_read():
        _show(results, len(refs) > 1, as_json, Screen(Look.top, plain, color))
    return code


def _show(results: Sequence[tuple[str, Evaluation]], several: bool, as_json: bool, screen: Screen) -> None:
    """several: whether more than one model was asked about."""
    if as_json:
        documents = [_document(result) for _, result in results]
        named = [{"ref": ref} | each for (ref, _), each in zip(results, documents, strict=True)]
        print_json({"models": named} if several else documents[0])
        return
    for ref, result in results:
        if several:
            screen.tell(say("eval.model", ref=ref, difference=_difference(result, results[0][1])), "bold")
        for name, value in asdict(result).items():
            if name == "unknown_characters" and not value:
                continue
            shown = say("eval.none") if value is None else count(value) if isinstance(value, int) else fixed(value, 4)
            screen.tell(say(f"eval.{name}", value=shown))


def _corpus(refs: tuple[str, ...], data: Path | None) -> PackedCorpus | None:
    """The packed corpus that is meant: what --data names, or the one of the first model; None for a text."""
    if data is None:
        return Ref.parse(refs[0] if refs else for_text("")).corpus()
    return open_whole(data) if is_packed(data) else None


def _document(result: Evaluation) -> dict[str, Any]:
    """The figures for programs: null also for one that is infinite, which JSON does not have."""
    return {name: value if value is None or math.isfinite(value) else None for name, value in asdict(result).items()}


def _difference(one: Evaluation, first: Evaluation) -> str:
    """Bits a character against the first model: the figure that does not depend on the vocabulary."""
    if one is first or one.bits_per_character is None or first.bits_per_character is None:
        return ""
    more = one.bits_per_character - first.bits_per_character
    if not math.isfinite(more):
        return ""
    return say("eval.difference", value=("+" if more >= 0 else "−") + fixed(abs(more), 4))
