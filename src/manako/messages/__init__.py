"""The one catalog: every sentence manako shows, in Japanese and English.

Special here: plain JSON with meanings as keys, so that terminal and page read the same file. A sentence is never glued
from pieces, since word order differs between the languages.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LANGUAGES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.json")))
"""A language is its catalog: terminal and page learn from the files here which there are."""


class Phrase(str):
    """A catalog key that stands for a phrase inside another sentence, such as a reason; values: what it names."""

    values: Mapping[str, object]

    def __new__(cls, key: str, **values: object) -> "Phrase":
        phrase = super().__new__(cls, key)
        phrase.values = values
        return phrase


@cache
def catalog(lang: str) -> Mapping[str, str]:
    """All sentences of one language, by key."""
    return json.loads(Path(__file__).with_name(f"{lang}.json").read_text(encoding="utf-8"))


def text(key: str, lang: str, **values: object) -> str:
    """One sentence with its {names} filled in.

    Only names are replaced, so a value that itself contains braces is safe. A `Phrase` is said in the same language.

    >>> text("other.label", "en")
    'all other tokens'
    """
    said = {n: text(v, lang, **v.values) if isinstance(v, Phrase) else v for n, v in values.items()}
    return catalog(lang)[key].format_map(said)


def language(environ: Mapping[str, str]) -> str:
    """The language to speak by the POSIX locale order: LC_ALL, LC_MESSAGES, LANG; English when none is one of ours.

    >>> language({"LANG": "ja_JP.UTF-8"}), language({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"})
    ('ja', 'en')
    """
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environ.get(name):
            return value[:2].lower() if value[:2].lower() in LANGUAGES else "en"
    return "en"
