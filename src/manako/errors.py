"""Every error a user can meet, each with its exit code.

    ManakoError           1   a failure while doing what was asked
    ├─ UsageError         2   what was asked makes no sense: a value out of range, a wrong name
    ├─ LoadError          3   a model, trace or text that cannot be read, or that must not be trusted
    ├─ CapabilityError    4   the source cannot give what was asked
    └─ MissingExtraError  5   an optional dependency is not installed

Special here: an error carries a catalog key and values, not a sentence, so that one error speaks Japanese and English.
Text that came from a file or a user is cut to a readable length here; making it safe for a terminal is the view's work.
"""

import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any

from manako import messages

LONGEST_VALUE = 120  # characters of one value in a message: a million-character argument must not fill the screen


class Names(str):
    """Names of ours, all of which somebody must see: a message does not cut them short."""

    def __new__(cls, names: Iterable[str]) -> "Names":
        return super().__new__(cls, ", ".join(names))

    def __reduce__(self) -> tuple[Any, ...]:
        return Names, ([str(self)],)  # the text by itself would be taken for its letters


class ManakoError(Exception):
    """A failure with a message that says what happened, where, and what to do next.

    key: the catalog key without its "error." prefix; values: what the sentence names. Source of the exit codes:
    docs/cli.md.
    """

    exit_code = 1

    def __init__(self, key: str, /, **values: object) -> None:
        self.key = key
        self.values = {name: _short(value) for name, value in values.items()}
        super().__init__(self.text("en"))

    def __reduce__(self) -> tuple[Any, ...]:
        """What it is made of: by default Python would give the sentence for the key, and what it is sent to breaks."""
        return partial(type(self), self.key, **self.values), (), vars(self)

    @property
    def code(self) -> str:
        """The stable name that scripts may match, for example E-TEMPERATURE-RANGE."""
        return "E-" + self.key.replace("_", "-").upper()

    def text(self, lang: str) -> str:
        """The message in one language ("en" or "ja"), one line."""
        return messages.text(f"error.{self.key}", lang, **self.values)


class UsageError(ManakoError):
    """A value or name that makes no sense; found before any model is loaded or file made."""

    exit_code = 2


class LoadError(ManakoError):
    """A file that cannot be read, is damaged, or says two different things."""

    exit_code = 3


class CapabilityError(ManakoError):
    """The model or trace does not have what was asked for."""

    exit_code = 4


class MissingExtraError(ManakoError):
    """A dependency that only some commands need is not installed."""

    exit_code = 5


def near(name: str, known: Iterable[str]) -> str:
    """The known name that somebody may have meant, to follow theirs in a message; nothing where none is close.

    What begins like it goes before what merely looks like it.

    >>> [messages.text("near", lang, name="watch") for lang in messages.LANGUAGES]
    [' (watch?)', '（もしかして watch）']
    >>> near("--temp", ["--top", "--temperature"]).values["name"], near("x", ["top_p"])
    ('--temperature', '')
    """
    known = list(known)
    begun = [other for other in known if len(name.strip("-")) > 2 and other.startswith(name.lower())]
    close = begun or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)
    return messages.Phrase("near", name=close[0]) if close else ""


def _short(value: object) -> str:
    if isinstance(value, messages.Phrase | Names):
        return value
    try:
        text = str(value).replace("\r", "\\r").replace("\n", "\\n")
    except ValueError:  # Python does not print whole numbers of more than 4,300 digits
        text = "a number of thousands of digits"
    half = LONGEST_VALUE // 2  # of a path both ends matter: where it starts, and the name of the file
    return text if len(text) <= LONGEST_VALUE else f"{text[:half]}...{text[3 - half :]}"


def first_line(error: BaseException) -> str:
    """What a foreign library says went wrong, in one line."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}".removesuffix(": ")
