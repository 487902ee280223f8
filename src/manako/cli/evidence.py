"""`manako evidence`: a model's choices beside the text that it was trained on."""

from pathlib import Path
from typing import Any

import click

import manako
from manako.analysis.evidence import LONGEST, SearchedText, check_longest, check_vocabulary, evidence
from manako.cli import say
from manako.cli.options import (
    Number,
    check_top,
    is_trace,
    look_options,
    model_option,
    read_prompt,
    run_options,
    sampling_options,
)
from manako.cli.output import Screen, print_json
from manako.cli.watch import warn
from manako.corpus.packed import PackedCorpus, is_packed, open_packed
from manako.errors import CapabilityError, LoadError, UsageError
from manako.files import read_regular, strict_json
from manako.formats import run_folder
from manako.model import check_count, check_stop, load
from manako.sampling import Sampling, check_seed
from manako.trace.record import Trace
from manako.views.document import evidence_document
from manako.views.terminal.evidence import corpus_lines, evidence_lines, meaning_lines
from manako.views.terminal.steps import header_lines


@click.command("evidence", help=say("help.evidence"))
@click.argument("prompt")
@model_option
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help=say("option.evidence_data"))
@click.option(
    "--longest",
    type=Number(True, "evidence_number"),
    default=LONGEST,
    show_default=True,
    metavar="N",
    help=say("option.longest"),
)
@click.option("--step", type=Number(True, "view_step_number"), metavar="N", help=say("option.step"))
@sampling_options()
@run_options(count=1)
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@look_options
def command(prompt: str, longest: int, step: int | None, as_json: bool, **rest: Any) -> None:
    top, longest = check_top(rest["top"]), check_longest(longest)
    trace, corpus = _opened(Path(prompt), rest["data"]) if is_trace(prompt) else _generated(prompt, **rest)
    if step is not None and not 1 <= step <= len(trace):
        raise UsageError("view_step" if len(trace) else "view_no_steps", got=step, last=len(trace))
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
    return trace, check_vocabulary(_verified(data), trace.header.model)


def _generated(prompt: str, ref: str, data: Path | None, sampling: Sampling, **rest: Any) -> tuple[Trace, PackedCorpus]:
    seed = None if rest["seed"] is None else check_seed(rest["seed"])
    settings = {"max_new_tokens": check_count(rest["max_new_tokens"]), "stop": check_stop(rest["stop"]), "seed": seed}
    text = read_prompt(prompt)
    model = load(ref)
    corpus = check_vocabulary(corpus_of(ref, data), model.info)
    warn(model, text)
    return model.trace(text, sampling=sampling, **settings), corpus


def corpus_of(ref: str, data: Path | None) -> PackedCorpus:
    """The packed corpus that a model was trained on: `data`, or the one on record in the run that it is part of.

    Raises CapabilityError where neither is known, LoadError where it is no longer there or is damaged, UsageError where
    it is not the one that the run was trained on.
    """
    run = _run_of(ref)
    if run is None:
        if data is None:
            raise CapabilityError("evidence_no_corpus", ref=ref)
        return _verified(data)
    corpus = _verified(data or _recorded(run))
    # Older checkpoints have lost theirs; a run has one corpus.
    state = run_folder.pointed(run, run_folder.LAST) / run_folder.STATE
    was = strict_json(read_regular(state), str(state)).get("corpus")
    if corpus.digest != was:
        raise UsageError("resume_corpus", run=run, was=str(was)[:12], now=corpus.digest[:12])
    return corpus


def _run_of(ref: str) -> Path | None:
    """The run that a reference to a model means, or that its folder is a checkpoint of."""
    if ref == "demo":
        return None
    folder = (run_folder.located(ref) if ref.startswith("run:") else Path(ref)).absolute()
    return next((place for place in (folder, folder.parent.parent) if run_folder.is_run(place)), None)


def _recorded(run: Path) -> Path:
    """Where a run says that its corpus is, as `manako resume` looks for it."""
    from manako.training.config import read_toml  # it needs no torch, but most runs have their corpus inside

    if (run / "corpus").exists():
        return run / "corpus"
    folder = Path(read_toml(run / "config.toml")["data"][0])
    if not is_packed(folder):
        raise LoadError("evidence_corpus_moved", run=run, folder=folder)
    return folder


def _verified(folder: Path) -> PackedCorpus:
    corpus = open_packed(folder)
    corpus.verify()
    return corpus
