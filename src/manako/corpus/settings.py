"""How text becomes a packed corpus: what is read, how much is held out, and which vocabulary counts it into tokens."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from manako.checks import Rule, fits, plain
from manako.corpus.documents import Reading
from manako.corpus.packing import VALIDATION_SHARE, Vocabulary
from manako.errors import Names, UsageError, near
from manako.files import exists, is_dir, printable
from manako.messages import Phrase
from manako.sampling import listed
from manako.tokenizer import (
    DOCUMENT_START,
    Tokenizer,
    start_id_of,
    train_byte_bpe,
    train_character_bpe,
    train_characters,
)

KINDS = ("char", "bpe", "byte-bpe")
_TEXT: Rule = {"type": "string"}
_TEXTS: Rule = {"type": "array", "items": _TEXT}
RULES: Mapping[str, Rule] = {  # Reading has the choices of format and kana, pack the range of validation
    "encoding": {"type": ["string", "null"]},
    "field": _TEXT,
    "authors": _TEXTS,
    "skip_bad": {"type": "boolean"},
    "validation": {"type": "number"},
    "tokenizer": _TEXT,
    "vocab_size": {"type": "integer", "minimum": 1, "maximum": 5_000_000},  # of any model
    "min_count": {"type": "integer", "minimum": 0},
}
_ERRORS = {"string": "setting_text", "array": "setting_texts", "boolean": "setting_switch"}  # numbers have a range
_BELOW = {"minimum": "range.at_least", "exclusiveMinimum": "range.above"}
VOCABULARY_SETTINGS = {"min_count": KINDS[:1], "vocab_size": KINDS[1:]}  # the kinds of vocabulary that each decides


@dataclass(frozen=True)
class CorpusSettings(Reading):
    """What `manako.corpus.build` can be told: how sources are read, and what becomes of their text."""

    validation: float = VALIDATION_SHARE
    """The share of the text that is held out."""
    tokenizer: str = "char"
    """One of KINDS, or the path of a tokenizer.json or of a model folder."""
    vocab_size: int = 8192
    """Tokens of a vocabulary of pieces."""
    min_count: int = 2
    """How often a character must occur to have a token of its own."""

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            object.__setattr__(self, name, check_range(name, getattr(self, name), rule))
        object.__setattr__(self, "authors", tuple(self.authors))
        super().__post_init__()
        for name, kinds in VOCABULARY_SETTINGS.items():
            if self.tokenizer not in kinds and getattr(self, name) != getattr(CorpusSettings, name):
                raise UsageError("corpus_setting_unused", name=name, kind=self.tokenizer, kinds=Names(kinds))

    def on_record(self) -> dict[str, Any]:
        """What a corpus says of how it was read and counted: what decided anything."""
        said = {f.name: value for f in fields(Reading) if (value := getattr(self, f.name))}
        said["field"] = printable(self.field)
        if self.authors:
            said["authors"] = [printable(name) for name in self.authors]
        counted = [name for name, kinds in VOCABULARY_SETTINGS.items() if self.tokenizer in kinds]
        return said | {"tokenizer": printable(self.tokenizer)} | {name: getattr(self, name) for name in counted}

    def make_vocabulary(self) -> Callable[[Iterable[str]], Vocabulary]:
        """What makes the vocabulary from the texts of the training side; a file is read at once: its errors come early.

        Raises UsageError when `tokenizer` is neither a kind nor a path, LoadError for the file.
        """
        if self.tokenizer == "char":
            return lambda texts: _vocabulary(train_characters(texts, self.min_count))
        if self.tokenizer in KINDS:
            train = train_character_bpe if self.tokenizer == "bpe" else train_byte_bpe
            return lambda texts: _vocabulary(train(texts, self.vocab_size))
        path = Path(self.tokenizer)
        if not exists(path):
            raise UsageError("tokenizer_kind", got=self.tokenizer, kinds=", ".join(KINDS))
        given = _vocabulary(Tokenizer.from_file(path / "tokenizer.json" if is_dir(path) else path))
        return lambda texts: given


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageError for the first name of a setting that is not among those known."""
    known = list(known)
    for name in given:
        if name not in known:
            raise UsageError("setting_unknown", name=name, near=near(name, known), known=Names(known))


def check_sources(name: str, given: Any) -> list[str]:
    """One source or several, by their names. Raises UsageError for what is none.

    >>> check_sources("data", Path("a.txt")), check_sources("data", ["a.txt", "-"])
    (['a.txt'], ['a.txt', '-'])
    """
    return check_range(name, listed(given), _TEXTS)


def check_range(name: str, given: object, rule: Rule) -> Any:
    """A setting as a plain value. Raises UsageError for another type than its rule says, or out of its range.

    >>> check_range("tokenizer", Path("mine"), {"type": "string"})
    'mine'
    """
    value = plain(given)
    if fits(value, rule):
        return value
    for kind in (rule["type"],) if isinstance(rule["type"], str) else rule["type"]:
        if kind in _ERRORS:
            raise UsageError(_ERRORS[kind], name=name, got=value)
    if not fits(value, {"type": rule["type"]}):
        said = Phrase("range.whole" if "integer" in rule["type"] else "range.number")
    elif fits(value, {word: limit for word, limit in rule.items() if word != "maximum"}):
        said = Phrase("range.at_most", bound=rule["maximum"])
    else:
        said = next(Phrase(key, bound=rule[word]) for word, key in _BELOW.items() if word in rule)
    raise UsageError("training_range", name=name, got=value, range=said)


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    start_id = start_id_of(tokenizer)
    if start_id is None:
        raise UsageError("tokenizer_no_start", token=DOCUMENT_START)
    t = tokenizer
    return Vocabulary(t.source, t.vocab_size, start_id, t.encode_documents, t.unspelled, t.unknown_id)
