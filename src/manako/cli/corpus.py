"""`manako corpus`: text in, a packed corpus out; and what is in one."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from manako.cli import common_options
from manako.cli.console import note, say, tell
from manako.cli.options import Number
from manako.cli.output import print_json
from manako.corpus.build import VALIDATION_SHARE, Vocabulary, build
from manako.corpus.documents import Reading, read
from manako.corpus.packed import SIDES, PackedCorpus, open_packed
from manako.errors import UsageError
from manako.formats.model_folder import start_id_of
from manako.messages.numbers import count
from manako.tokenizer import DOCUMENT_START, Tokenizer, train_byte_bpe, train_character_bpe, train_characters

F = TypeVar("F", bound=Callable[..., Any])
KINDS = ("char", "bpe", "byte-bpe")
_TOP = 10  # authors and characters shown
_OPTIONS: dict[str, dict[str, Any]] = {
    "format": {"type": click.Choice(["auto", "text", "aozora"]), "default": "auto"},
    "encoding": {"metavar": "NAME"},
    "field": {"default": "text", "metavar": "NAME"},
    "author": {"multiple": True, "metavar": "NAME"},
    "kana": {"type": click.Choice(["any", "modern", "historical"]), "default": "any"},
    "skip-bad": {"is_flag": True},
    "validation": {"type": Number(False, "validation_share"), "default": VALIDATION_SHARE, "metavar": "SHARE"},
    "tokenizer": {"default": "char", "metavar": "KIND|FILE"},
    "vocab-size": {"type": Number(True, "train_number"), "default": 8192, "metavar": "N"},
    "min-count": {"type": Number(True, "train_number"), "default": 2, "metavar": "N"},
}


@dataclass(frozen=True)
class CorpusOptions:
    """What the options of corpus_options say: how text becomes a packed corpus."""

    reading: Reading
    validation: float
    tokenizer: str
    """One of KINDS, or the path of a tokenizer.json or of a model folder."""
    vocab_size: int
    min_count: int

    def build(self, sources: Sequence[str], folder: Path, report: Callable[..., None]) -> PackedCorpus:
        """Build a packed corpus from these sources in a new folder. Raises as the library does."""
        settings = {k: v for k, v in asdict(self.reading).items() if v} | {"tokenizer": self.tokenizer}
        if self.tokenizer in KINDS:
            settings |= {"min_count": self.min_count} if self.tokenizer == "char" else {"vocab_size": self.vocab_size}
        return build(
            read(sources, self.reading, report),
            folder,
            vocabulary_maker(self.tokenizer, self.vocab_size, self.min_count),
            validation_share=self.validation,
            settings=settings,
            sources=sources,
            report=report,
        )


def vocabulary_maker(kind: str, vocab_size: int, min_count: int) -> Callable[[Iterable[str]], Vocabulary]:
    """What makes the vocabulary from the texts of the training side; a file is read at once, so that errors come early.

    kind: as CorpusOptions.tokenizer. Raises UsageError when it is neither a kind nor a path, LoadError for the file.
    """
    if kind == "char":
        return lambda texts: _vocabulary(train_characters(texts, min_count))
    if kind in KINDS:
        train = train_character_bpe if kind == "bpe" else train_byte_bpe
        return lambda texts: _vocabulary(train(texts, vocab_size))
    path = Path(kind)
    if not path.exists():
        raise UsageError("tokenizer_kind", got=kind, kinds=", ".join(KINDS))
    given = _vocabulary(Tokenizer.from_file(path / "tokenizer.json" if path.is_dir() else path))
    return lambda texts: given


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    start_id = start_id_of(tokenizer)
    if start_id is None:
        raise UsageError("tokenizer_no_start", token=DOCUMENT_START)
    return Vocabulary(tokenizer.source, tokenizer.vocab_size, start_id, tokenizer.encode_documents)


def corpus_options(command: F) -> F:
    """The options of a corpus; the command gets them as one keyword `corpus_options`, a CorpusOptions."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        names = ("format", "encoding", "field", "kana", "skip_bad")
        reading = Reading(**{n: kwargs.pop(n) for n in names}, authors=tuple(kwargs.pop("author")))
        rest = {n: kwargs.pop(n) for n in ("validation", "tokenizer", "vocab_size", "min_count")}
        return command(*args, corpus_options=CorpusOptions(reading, **rest), **kwargs)

    result: Any = wrapped
    for name, settings in reversed(_OPTIONS.items()):
        text = say(f"option.corpus_{name.replace('-', '_')}")
        result = click.option(f"--{name}", help=text, show_default="default" in settings, **settings)(result)
    return result


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
def build_command(sources: tuple[str, ...], out: Path, corpus_options: CorpusOptions) -> None:
    corpus = corpus_options.build(sources, out, note)
    for key, values in summary(corpus):
        note(key, **values)
    note("corpus.done", folder=out, digest=corpus.digest[:12])


@command.command("show", help=say("help.corpus_show"), short_help=say("cli.corpus_show"))
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help=say("option.json"))
@common_options
def show_command(folder: Path, as_json: bool) -> None:
    corpus = open_packed(folder)
    authors = Counter(str(d["author"]) for d in corpus.documents() if d.get("author"))
    if as_json:
        print_json(corpus.header.to_json() | {"digest": corpus.digest, "authors": dict(authors.most_common())})
        return
    for key, values in summary(corpus):
        tell(say(key, **values))
    statistics = corpus.header.statistics
    listed = {
        "authors": authors.most_common(_TOP),
        "encodings": statistics["encodings"].items(),
        "characters": statistics["top_characters"][:_TOP],
    }
    for name, counts in listed.items():
        if counts:
            tell(say(f"corpus.show_{name}", list=", ".join(f"{_visible(key)} {count(n)}" for key, n in counts)))
    tell(say("corpus.show_digest", digest=corpus.digest))


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
