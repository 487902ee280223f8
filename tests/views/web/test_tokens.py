"""The page spells tokens out as the terminal does, and says the same sentences."""

import string
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from golden import TOKENS

from manako import messages
from manako.messages.unseen import UNSEEN
from manako.trace.record import bytes_to_text
from manako.views.terminal import glyphs

Ask = Callable[..., Any]


@dataclass(frozen=True)
class Token:
    """What `glyphs.label` needs to know."""

    bytes: bytes
    special: bool = False

    @property
    def text(self) -> str:
        return bytes_to_text(self.bytes)


EXAMPLES = [
    *TOKENS,
    "猫 が\n\t\u3000".encode(),
    b"\xe7\x8c\xab \xe3\x81",
    b"a\xff\xfeb\xe3\x81",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x91",
    b"\xf4\x90\x80\x80",
    "e\u0301\u0302\u0303\u0304".encode(),
    "\u0301a".encode(),
    "か\u3099".encode(),
    "葛\U000e0100".encode(),
    "‹E3 81›".encode(),
    "👩\u200d👧 ❤\ufe0f \U000e0041\ufeff\u00a0\u00ad".encode(),
    "\x00\x07\x1b]0;x\x07\x7f\x80\u2028\u2066".encode(),
]


def random_bytes(count: int) -> list[bytes]:
    rng = np.random.default_rng(3)
    alphabet = [b"a", b" ", "猫".encode(), b"\xe7", b"\x8c", b"\xf0\x9f", b"\xff", "\u202e".encode(), "\u0301".encode()]
    return [b"".join(alphabet[i] for i in rng.integers(len(alphabet), size=rng.integers(9))) for _ in range(count)]


def test_bytes_are_shown_as_the_terminal_shows_them(ask: Ask) -> None:
    given = [*EXAMPLES, *random_bytes(300)]
    assert ask("visibleBytes", given) == [glyphs.visible_bytes(data, glyphs.BLOCK) for data in given]


def test_every_character_that_both_know_is_spelled_alike(ask: Ask) -> None:
    """All of Unicode that Python has assigned and a terminal gives a cell."""
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    known = [c for c in characters if unicodedata.category(c) != "Cn" and glyphs.cell_len(c) > 0 or ord(c) < 160]
    shown = ask("visible", known)
    assert shown == [glyphs.visible(c, glyphs.BLOCK) for c in known] and len(known) > 250_000


def test_no_unseen_character_hides_on_a_letter(ask: Ask) -> None:
    """Every mark that Python has assigned, and every character that shows nothing by its own."""
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "M" or UNSEEN.match(c)]
    known = [f"a{c}" for c in marks if unicodedata.category(c) != "Cn"]
    assert ask("visible", known) == [glyphs.visible(text, glyphs.BLOCK) for text in known]
    spelled = {c for c in marks if len(glyphs.visible(f"a{c}", glyphs.BLOCK)) > 2}
    assert spelled == {c for c in marks if UNSEEN.match(c)} and {"\u034f", "\u180b", "\u3164"} < spelled


def test_what_a_terminal_gives_no_cell_is_spelled_out_where_it_cannot_be_seen(ask: Ask) -> None:
    hidden = [chr(code) for code in (0x1160, 0x180B, 0x034F, 0x17B4, 0xE0001)]
    assert ask("visible", hidden) == [f"\u2039U+{ord(c):04X}\u203a" for c in hidden]
    assert ask("visible", ["\ud800"]) == ["\u2039U+D800\u203a"]


def test_a_running_text_keeps_its_spaces_and_nothing_else_unseen(ask: Ask) -> None:
    given = ["Japanese fiction 1890\u20131950", "a\u3000b", " a\tb\n\u202e\x1b[2J ", "\u00a0e\u0301"]
    assert ask("prose", given) == [glyphs.prose(text, glyphs.BLOCK) for text in given]


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_labels_say_what_the_terminal_says(ask: Ask, lang: str) -> None:
    bits = [bytes([lead]) for lead in (0x80, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5)]
    invisible = [chr(c).encode() for c in (9, 10, 32, 0x1B, 0x80, 0x3000)]
    invisible += [chr(code).encode() for code in UNICODE_NAMED]
    cases = [(data, special, b"") for data in (*EXAMPLES, *bits, *invisible) for special in (False, True)]
    cases = [case for case in cases if not (case[1] and glyphs.is_partial(case[0]))]  # a special token is a whole text
    cases += [
        (b"\xab", False, b"\xe7\x8c"),
        (b"\x8c\xab", False, b"\xe7"),
        (b"\x8c", False, b"\xe7"),
        (b"a", False, b"\xe7"),
    ]
    cases += [(b"\xaa\xe7", False, b"\xe7\x8c")]
    labels = ask("labels", cases)
    for (data, special, pending), found in zip(cases, labels, strict=True):
        assert said(found, lang) == glyphs.label(Token(data, special), glyphs.BLOCK, lang, 1000, pending), data


UNICODE_NAMED = [
    0xA0,
    0xAD,
    0x34F,
    0x61C,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    0x2060,
    *range(0x2066, 0x206A),
]
UNICODE_NAMED += [0x3099, 0x309A, 0xFE0F, 0xFEFF]


def said(label: dict[str, Any], lang: str) -> str:
    """The label as one text: the message with the text in it, or the text with its name."""
    if label["key"] is None:
        return label["text"]
    sentence = messages.text(label["key"], lang, text=label["text"])
    return f"{label['text']} {sentence}" if label["kind"] == "named" else sentence


def test_pending_bytes_are_pythons(ask: Ask) -> None:
    given = [
        *EXAMPLES,
        *random_bytes(200),
        b"",
        b"\xe3\x80",
        b"a\x7f\x80",
        b"\xf0\x9f\x91",
        b"\xf5\x80",
        b"a\xe7",
        b"\x80\x80\x80\x80",
    ]
    assert [each.tobytes() for each in ask("pending", given)] == [glyphs.pending_bytes(data) for data in given]


def test_the_page_says_every_sentence_as_python_does(ask: Ask) -> None:
    catalogs = {lang: messages.catalog(lang) for lang in messages.LANGUAGES}
    fields = [field for sentence in catalogs["en"].values() for field in string.Formatter().parse(sentence)]
    names = {name for _, name, _, _ in fields if name}
    assert not any(spec or conversion for _, _, spec, conversion in fields)  # the page knows names alone
    values = {name: f"<{name}> {{0}} $& $1" for name in names}
    cases = [(lang, key, values) for lang, catalog in catalogs.items() for key in catalog]
    expected = [messages.text(key, lang, **values) for lang, key, _ in cases]
    assert ask("say", {lang: dict(catalog) for lang, catalog in catalogs.items()}, cases) == expected
