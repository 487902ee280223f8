"""Text made safe: nothing that moves a cursor, changes direction or hides gets through, whatever the token."""

import re
import unicodedata

import pytest
from golden import HOSTILE, TOKENS
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from manako.trace.record import Candidate, bytes_to_text
from manako.views.terminal import glyphs as g

GLYPHS = {"block": g.BLOCK, "braille": g.BRAILLE, "ascii": g.ASCII}
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")


def candidate(data: bytes, special: bool = False) -> Candidate:
    return Candidate(0, data, bytes_to_text(data), 0.0, 0.5, 0.5, 1, None, special)


# Which glyphs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "environ", "seen", "expected"),
    [
        ("utf-8", {}, None, g.BLOCK),
        ("utf-8", {"LANG": "en_US.UTF-8"}, None, g.BLOCK),
        ("utf-8", {"LANG": "ja_JP.UTF-8"}, None, g.BRAILLE),
        ("utf-8", {"LANG": "en_US.UTF-8", "LC_ALL": "zh_TW.UTF-8"}, None, g.BRAILLE),
        ("utf-8", {"LANG": "ko_KR.UTF-8", "LC_CTYPE": "en_US.UTF-8"}, None, g.BLOCK),
        ("utf-8", {"LANG": "ko_KR.UTF-8", "LC_CTYPE": "C.UTF-8"}, None, g.BRAILLE),  # Python's own doing
        ("utf-8", {"LANG": "ko_KR.UTF-8", "LC_ALL": "C.UTF-8"}, None, g.BLOCK),
        ("utf-8", {"LC_ALL": "", "LANG": "ja_JP.UTF-8"}, None, g.BRAILLE),
        ("utf-8", {"LANG": "ja_JP.UTF-8"}, 1, g.BLOCK),
        ("utf-8", {"LANG": "ja_JP.UTF-8"}, 2, g.BRAILLE),
        ("utf-8", {"LANG": "ja_JP.UTF-8", "MANAKO_AMBIGUOUS_WIDTH": "1"}, 2, g.BLOCK),
        ("utf-8", {"LANG": "en_US.UTF-8", "MANAKO_AMBIGUOUS_WIDTH": "2"}, 1, g.BRAILLE),
        ("utf-8", {"LANG": "ja_JP.UTF-8", "MANAKO_AMBIGUOUS_WIDTH": "3"}, None, g.BRAILLE),
    ],
)
def test_choice(encoding: str, environ: dict[str, str], seen: int | None, expected: g.Glyphs) -> None:
    assert g.choose(encoding, environ, seen) == expected


@pytest.mark.parametrize("encoding", ["cp932", "ascii", "latin-1", "euc-jp", "no-such-codec"])
def test_an_encoding_that_lacks_the_glyphs_gets_ascii(encoding: str) -> None:
    chosen = g.choose(encoding, {"LANG": "ja_JP.UTF-8", "MANAKO_AMBIGUOUS_WIDTH": "1"}, 1)
    assert chosen.full == "#" and "".join(v for n, v in vars(chosen).items() if n != "encoding").isascii()


def test_what_an_encoding_lacks_is_spelled_out_and_the_rest_is_not() -> None:
    assert g.visible("猫a", g.choose("ascii", {}, None)) == "<U+732B>a"
    assert g.visible("猫한", g.choose("cp932", {}, None)) == "猫<U+D55C>"
    assert g.visible("猫한", g.BLOCK) == "猫한"


@pytest.mark.parametrize("name", GLYPHS)
def test_every_glyph_takes_one_cell_and_braille_is_never_ambiguous(name: str) -> None:
    for field in ("full", "half", "mark"):
        assert cell_len(getattr(GLYPHS[name], field)) <= 1
    if name != "block":
        shown = "".join(v for v in vars(GLYPHS[name]).values())
        assert all(unicodedata.east_asian_width(ch) != "A" for ch in shown)


# Safe text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a␣b"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("\u3000", "‹U+3000›"),
        ("\u00a0", "‹U+00A0›"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202egpj", "\\u202egpj"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("\u200f\u061c", "\\u200f\\u061c"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u200b\u00ad\ufeff", "‹U+200B›‹U+00AD›‹U+FEFF›"),
        ("👩\u200d👧", "👩‹ZWJ›👧"),
        ("葛\U000e0100", "葛‹VS17›"),
        ("a\ufe0f", "a‹VS16›"),
        ("\U000e0041", "‹U+E0041›"),
        ("\ue000\U0010ffff", "‹U+E000›‹U+10FFFF›"),
        ("\u3099", "‹U+3099›"),
        ("か\u3099", "か\u3099"),
        ("हिंदी", "हिंदी"),
        ("a" + "\u0301" * 3, "a\u0301\u0301‹U+0301›"),
        (" \u0301", "␣‹U+0301›"),
        ("[bold]x[/]", "[bold]x[/]"),
        ("кν", "кν"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert g.visible(text, g.BLOCK) == shown


def test_a_thousand_marks_stay_on_their_line() -> None:
    shown = g.visible("e" + "\u0301" * 1000, g.BLOCK)
    assert shown.count("\u0301") == 2 and shown.count("‹U+0301›") == 998


@given(st.text())
def test_nothing_unsafe_comes_through(text: str) -> None:
    for glyphs in GLYPHS.values():
        for shown in (g.visible(text, glyphs), g.prose(text, glyphs), g.prose(text, glyphs, one_line=False)):
            assert not UNSAFE.search(shown.replace("\n", "") if shown == g.prose(text, glyphs, False) else shown)
        assert "\n" not in g.visible(text, glyphs) + g.prose(text, glyphs)


@given(st.text(min_size=1, max_size=4))
def test_every_text_is_wider_than_nothing(text: str) -> None:
    assert cell_len(g.visible(text, g.BLOCK)) > 0


def test_prose_keeps_spaces_and_breaks() -> None:
    assert g.prose("a b\u3000c\nd\te", g.BLOCK) == "a b\u3000c⏎d⇥e"
    assert g.prose("a b\nc\x1b", g.BLOCK, one_line=False) == "a b\nc\\x1b"


# Labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "en", "ja"),
    [
        ("猫".encode(), "'猫'", "「猫」"),
        (b" the", "'␣the'", "「␣the」"),
        (b" ", "␣ space", "␣ 空白"),
        (b"\n", "⏎ newline", "⏎ 改行"),
        (b"\t", "⇥ tab", "⇥ タブ"),
        ("\u3000".encode(), "‹U+3000› full-width space", "‹U+3000› 全角空白"),
        ("\u200b".encode(), "‹U+200B› zero width space", "‹U+200B› zero width space"),
        (b"\x07", "\\x07 control character", "\\x07 制御文字"),
        (b"", "[empty]", "[空]"),
        (b"[bold]", "'[bold]'", "「[bold]」"),
        (b"\xe3\x81", "‹E3 81› \u3040-\u307f", "‹E3 81› \u3040-\u307f"),
        (b"\xff", "‹FF›", "‹FF›"),
    ],
)
def test_labels(data: bytes, en: str, ja: str) -> None:
    en, ja = en.replace("\u3040", "‹U+3040›"), ja.replace("\u3040", "‹U+3040›")
    assert g.label(candidate(data), g.BLOCK, "en", 40) == en
    assert g.label(candidate(data), g.BLOCK, "ja", 40) == ja


def test_special_is_never_the_same_as_its_text() -> None:
    name = b"<|endoftext|>"
    for lang in ("en", "ja"):
        special, text = (g.label(candidate(name, special=s), g.BLOCK, lang, 40) for s in (True, False))
        assert special != text and "<|endoftext|>" in special and "<|endoftext|>" in text


@given(st.sampled_from([*TOKENS, *HOSTILE, "龍".encode()[:1], b"a" * 300]), st.integers(1, 40))
def test_a_label_keeps_to_its_cells(data: bytes, cells: int) -> None:
    for lang in ("en", "ja"):
        for glyphs in GLYPHS.values():
            shown = g.label(candidate(data), glyphs, lang, cells)
            assert cell_len(shown) <= max(cells, 7)  # [empty] and the like stand whole


def test_plain_label_quotes_text_and_names_what_is_invisible() -> None:
    assert g.plain_label(candidate("猫".encode()), g.BLOCK, "ja") == "「猫」"
    assert g.plain_label(candidate(b" "), g.BLOCK, "en") == "␣ space"
    assert g.plain_label(candidate(b"<x>", special=True), g.BLOCK, "en") == "[special] <x>"


# Parts of characters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "pending"),
    [
        (b"", b""),
        (b"abc", b""),
        ("猫".encode(), b""),
        ("猫".encode()[:1], b"\xe7"),
        (b"a" + "猫".encode()[:2], b"\xe7\x8c"),
        ("😀".encode()[:3], "😀".encode()[:3]),
        (b"\x80\x80\x80", b""),
        (b"\xff", b""),
        (b"\xc3", b"\xc3"),
    ],
)
def test_pending(data: bytes, pending: bytes) -> None:
    assert g.pending_bytes(data) == pending


def test_bytes_that_complete_a_character_show_it() -> None:
    cat = "猫".encode()  # E7 8C AB; AA makes 猪
    assert g.label(candidate(cat[2:]), g.BLOCK, "en", 18, pending=cat[:2]) == "‹+AB› 猫"
    assert g.label(candidate(b"\xaa"), g.BLOCK, "en", 18, pending=cat[:2]) == "‹+AA› 猪"
    assert g.label(candidate(b"\xaa"), g.BLOCK, "en", 18) == "‹AA›"
    assert g.label(candidate("あ".encode()), g.BLOCK, "en", 18, pending=cat[:2]) == "'あ'"


def test_an_escape_split_over_two_tokens_stays_spelled_out() -> None:
    first, second = "\x9b".encode()[:1], "\x9b".encode()[1:]  # C1 CSI, one character of two bytes
    assert g.label(candidate(second), g.BLOCK, "en", 18, pending=first) == "‹+9B› \\x9b"
    override = "\u202e".encode()
    assert g.label(candidate(override[2:]), g.BLOCK, "en", 18, pending=override[:2]) == "‹+AE› \\u202e"


@pytest.mark.parametrize(
    ("begun", "first", "last"),
    [
        (b"\xe7\x8c", "\u7300", "\u733f"),
        (b"\xe7", "\u7000", "\u7fff"),
        (b"\xe0", "\u0800", "\u0fff"),
        (b"\xed", "\ud000", "\ud7ff"),
        (b"\xf0", "\U00010000", "\U0003ffff"),
        (b"\xf4", "\U00100000", "\U0010ffff"),
        (b"\xc3", "\u00c0", "\u00ff"),
    ],
)
def test_range_of_what_begun_bytes_can_become(begun: bytes, first: str, last: str) -> None:
    shown = g.label(candidate(begun), g.BLOCK, "en", 60)
    assert shown == f"‹{begun.hex(' ').upper()}› {g.visible(first, g.BLOCK)}-{g.visible(last, g.BLOCK)}"


@given(st.binary(min_size=1, max_size=5), st.binary(max_size=3))
def test_any_bytes_have_a_safe_label(data: bytes, before: bytes) -> None:
    shown = g.label(candidate(data), g.BLOCK, "ja", 40, pending=g.pending_bytes(before))
    assert shown and not UNSAFE.search(shown) and "\n" not in shown


# Cutting -----------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="a猫\u0301👩 ー", max_size=30), st.integers(4, 20))
def test_cut_tail_and_pad_count_cells(text: str, cells: int) -> None:
    assert cell_len(g.cut(text, cells)) <= cells
    shown, end = g.prose(text, g.BLOCK), g.prose_tail(text, g.BLOCK, cells)
    assert cell_len(end) <= cells
    assert end == shown if cell_len(shown) <= cells else end.startswith("...") and shown.endswith(end[3:])
    assert cell_len(g.pad(text, cells)) == max(cells, cell_len(text))
    if cell_len(text) <= cells:
        assert g.cut(text, cells) == text
    else:
        assert g.cut(text, cells).endswith("~")


def test_letters_that_are_not_looked_at_one_by_one_stand_for_themselves() -> None:
    letters = [ch for n in range(0x30000) if g._AS_IT_IS.fullmatch(ch := chr(n))]
    assert len(letters) > 20_000
    assert [ch for ch in letters if g._spelled(ch, unicodedata.category(ch), g.BLOCK) != ch or cell_len(ch) < 1] == []
    assert not any(unicodedata.category(ch).startswith(("M", "C", "Z")) for ch in letters)
