"""Tokens in a terminal: golden texts, aligned cuts, columns that fit, and hostile text that stays text (N19, T21)."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest

import pytest
from golden import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from toy import random_texts, toy_tokenizer

from manako.analysis.tokens import Piece, Tokens, tokens
from manako.tokenizer import from_merges
from manako.trace.record import bytes_to_text
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look
from manako.views.terminal.tokens import tokens_lines

EN, JA = Look("en", 80), Look("ja", 80)
TEXT = "私は猫、龘。 が\u3099葛\U000e0100\nabc"
PAIRS = [(0xE3, 0x81), (256, 0x8C), (0xE9, 0xBE), (0xE7, 0x8C), (259, 0xAB), (0xE3, 0x80), (261, 0x81), (260, 262)]
# 猫 is E7 8C AB, 、 E3 80 81, 龘 E9 BE 98, が E3 81 8C


def two(text: str = TEXT) -> list[Tokens]:
    """Characters with bytes, and a byte-level vocabulary of a few merges that knows 猫、 as one."""
    vocab = [bytes([b]) for b in range(256)]
    for a, b in PAIRS:
        vocab.append(vocab[a] + vocab[b])
    return [tokens(toy_tokenizer(), text, "toy"), tokens(from_merges(vocab, PAIRS), text, "merged")]


def hostile_tokens() -> Tokens:
    """The tokens of the golden record as the pieces of a text, one of them special."""
    pieces = [Piece(i, data, bytes_to_text(data), False) for i, data in enumerate(HOSTILE, 1)]
    special = Piece(0, b"<|endoftext|>", "<|endoftext|>", True)
    return Tokens(
        "evil\x1b[2J\u202e", 12, "0" * 64, "x", (*pieces, special, Piece(9, b"<|endoftext|>", "<|endoftext|>", False))
    )


def lines_of(found: list[Tokens], look: Look) -> list[str]:
    return [line.plain for line in tokens_lines(found, look)]


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("tokens-en-80.txt", EN),
        ("tokens-ja-80.txt", JA),
        ("tokens-ja-40.txt", Look("ja", 40)),
        ("tokens-en-120-braille.txt", Look("en", 120, g.BRAILLE)),
        ("tokens-en-80-ascii.txt", Look("en", 80, g.ASCII)),
        ("tokens-plain-en.txt", replace(EN, plain=True)),
        ("tokens-plain-ja.txt", replace(JA, plain=True)),
    ],
)
def test_golden(check_golden: Callable[[str, str], None], name: str, look: Look) -> None:
    check_golden(name, "\n".join(lines_of(two(), look)) + "\n")


def test_golden_hostile(check_golden: Callable[[str, str], None]) -> None:
    check_golden("tokens-hostile-en-80.txt", "\n".join(lines_of([hostile_tokens()], EN)) + "\n")


def test_characters_stand_below_each_other_and_cuts_are_where_tokens_end() -> None:
    """猫、 is one token of `merged` and two of `toy`: a bar in one row, room for it in the other."""
    rows = [line for line in lines_of(two("猫、猫"), EN) if line.startswith(("toy  ", "merged  "))][:2]
    assert rows == ["toy     猫|、|猫", "merged  猫 、|猫"]


def test_a_cut_character_shows_once_and_whole() -> None:
    rows = lines_of(two("あ龘あ"), EN)[1:3]
    assert rows == [
        "toy     あ          |龘‹E9|BE|98›|あ",
        "merged  あ‹E3 81|82›|龘‹E9 BE|98›|あ‹E3 81|82›",
    ]
    text = "\n".join(lines_of(two(TEXT), EN))
    assert "\ufffd" not in text and "龘 1/3" in text and "龘 2/2" in text


def test_a_cut_of_one_row_alone_is_marked_stronger() -> None:
    def styles(found: list[Tokens]) -> list[str]:
        line = next(x for x in tokens_lines(found, EN) if x.plain.startswith("toy  "))
        return [str(span.style) for span in line.spans if line.plain[span.start : span.end] == "|"]

    assert styles(two("猫、猫")) == ["bold yellow", "dim"]  # after 猫 only `toy` cuts, after 、 both do
    assert styles(two("猫、猫")[:1]) == ["bold yellow", "bold yellow"]


def test_counts_by_hand() -> None:
    """猫、猫 is 3 characters and 9 bytes: three tokens of `toy`, two of `merged`."""
    lines = lines_of(two("猫、猫"), EN)
    assert [line.split() for line in lines[4:7]] == [
        ["tokens", "chars", "bytes", "vocab"],
        ["toy", "3", "1.00", "3.00", "277"],
        ["merged", "2", "1.50", "4.50", "264"],
    ]


def test_no_text() -> None:
    lines = lines_of(two(""), EN)
    assert lines[1].split() == ["toy", "0", "-", "-", "277"] and len(lines) == 4
    assert lines_of(two(""), replace(EN, plain=True))[0].startswith("toy: 0 tokens")


def test_what_reads_another_text_has_rows_of_its_own() -> None:
    given = two("猫、猫")
    changed = replace(given[1], given="ネコ、猫", ref="other")
    lines = lines_of([given[0], changed], EN)
    assert "other: the tokenizer normalises the text before splitting it:" not in lines  # same bytes: same rows
    lines = lines_of(
        [*given, tokens(toy_tokenizer(), "猫", "toy2"), replace(tokens(toy_tokenizer(), "犬", "dog"), given="猫")], EN
    )
    at = lines.index("dog: the tokenizer normalises the text before splitting it:")
    assert lines[at + 1] == "dog  犬" and lines[at - 2 : at] == ["toy2  猫", ""]


def test_a_special_token_is_no_text() -> None:
    text = "\n".join(lines_of([hostile_tokens()], EN))
    assert text.count("[special] <|endoftext|>") == 2  # in the row of cuts and in the table


def test_a_bar_of_the_text_is_no_cut() -> None:
    assert lines_of(two("a|b"), EN)[1:3] == ["toy     a|‹|›|b", "merged  a|‹|›|b"]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
@pytest.mark.slow
def test_lines_fit(columns: int) -> None:
    for lang in ("en", "ja"):
        for glyphs in (g.BLOCK, g.BRAILLE, g.ASCII):
            for found in (two("私は猫、龘。" * 30), two("e" + "\u0301" * 200), [hostile_tokens()], two(TEXT)):
                lines = lines_of(found, Look(lang, columns, glyphs))
                titles = (EN.say("tokens.cuts"), JA.say("tokens.cuts"))
                assert (
                    max(
                        cell_len(line)
                        for line in lines
                        if line not in titles and not re.search("normalises|正規化", line)
                    )
                    <= columns
                )


@pytest.mark.slow
def test_no_width_is_a_crash() -> None:
    for columns in range(1, 200):
        for plain in (False, True):
            lines_of([*two(), hostile_tokens()], Look("ja" if columns % 2 else "en", columns, plain=plain))


@given(st.text())
@pytest.mark.slow
def test_nothing_but_text_leaves(text: str) -> None:
    for look in (EN, replace(EN, plain=True)):
        shown = "\n".join(lines_of([*two(text), hostile_tokens()], look))
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", shown)


@given(st.text(alphabet="ab猫、\n ", min_size=1), st.integers(10, 60))
@pytest.mark.slow
def test_rows_are_aligned_cell_by_cell(text: str, columns: int) -> None:
    """Where no character is cut, a cell has the same in both rows, or a cut, or the room for one."""
    lines = lines_of(two(text), Look("en", columns))
    rows = [line for line in lines[1 : lines.index(next(x for x in lines if "tokens  chars" in x))] if line]
    assert rows
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        cells = zip_longest(*(cells_of(row)[8:] for row in (a, b)), fillvalue=" ")
        assert all(x == y or {x, y} <= {"|", " "} for x, y in cells)


def cells_of(line: str) -> list[str]:
    return [cell for ch in line for cell in (ch, "")[: cell_len(ch)]]


@pytest.mark.slow
def test_every_character_of_every_block_is_there_whole() -> None:
    for text in random_texts(300, seed=8):
        wide = Look("en", 10_000)
        row = "".join(line[8:] for line in lines_of(two(text), wide) if line.startswith("merged  "))
        for ch in set(text):
            assert g.visible(ch, wide.glyphs) in row or unicodedata.category(ch)[0] == "M"
