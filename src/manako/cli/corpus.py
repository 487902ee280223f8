"""`manako corpus`: text in, a packed corpus out; and what is in one."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from manako.cli import common_options
from manako.cli.console import note, say
from manako.cli.corpora import corpus_options
from manako.cli.options import json_option, screen_options
from manako.cli.output import Screen, print_json
from manako.corpus import build
from manako.corpus.packed import SIDES, PackedCorpus, open_packed
from manako.messages.numbers import count
from manako.views.terminal.steps import Look

_TOP = 10  # authors and characters shown


@click.group("corpus", help=say("help.corpus"))
@common_options
def command() -> None: ...


@command.command("build", help=say("help.corpus_build"), short_help=say("cli.corpus_build"))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help=say("option.corpus_out")
)
@corpus_options
@common_options
def build_command(sources: tuple[str, ...], out: Path, **settings: Any) -> None:
    corpus = build(sources, out, report=note, **settings)
    for key, values in summary(corpus):
        note(key, **values)
    note("corpus.done", folder=out, digest=corpus.digest[:12])


@command.command("show", help=say("help.corpus_show"), short_help=say("cli.corpus_show"))
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@json_option
@screen_options
def show_command(folder: Path, as_json: bool, plain: bool, color: str) -> None:
    corpus = open_packed(folder)
    authors = Counter(str(d["author"]) for d in corpus.documents() if d.get("author"))
    if as_json:
        print_json(corpus.header.to_json() | {"digest": corpus.digest, "authors": dict(authors.most_common())})
        return
    screen = Screen(Look.top, plain, color)
    for key, values in summary(corpus):
        screen.tell(say(key, **values))
    statistics = corpus.header.statistics
    listed = {
        "authors": authors.most_common(_TOP),
        "encodings": statistics["encodings"].items(),
        "characters": statistics["top_characters"][:_TOP],
    }
    for name, counts in listed.items():
        if counts:
            screen.tell(say(f"corpus.show_{name}", list=", ".join(f"{_visible(key)} {count(n)}" for key, n in counts)))
    screen.tell(say("corpus.show_digest", digest=corpus.digest))


def summary(corpus: PackedCorpus) -> Iterator[tuple[str, dict[str, str]]]:
    """What a corpus holds: (catalog key, values) of a few sentences."""
    statistics = corpus.header.statistics
    for side in SIDES:
        yield f"corpus.show_{side}", {name: count(value) for name, value in statistics[side].items()}
    yield "corpus.show_works", {name: count(statistics[name]) for name in ("works", "near_duplicates")}
    different = count(statistics["different_characters"])
    yield "corpus.show_vocabulary", {"size": count(corpus.vocab_size), "different": different}


def _visible(text: str) -> str:
    return {" ": "' '", "\u3000": "'\u3000'"}.get(text, text)
