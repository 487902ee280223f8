"""The merge player in a terminal: golden texts, a window on a long text, and hostile text that stays text."""

from collections.abc import Callable

import pytest
from rich.cells import cell_len

from manako.analysis.merges import Replay, replay
from manako.tokenizer import train_byte_bpe, train_character_bpe
from manako.views.terminal.merges import merges_lines
from manako.views.terminal.steps import Look

TEXT = "猫であると思った。龘 cats"
LEARNED = ["私は猫である。彼女は思った。猫であると思った。cats and cats\n" * 30]
CHARACTERS, BYTES = train_character_bpe(LEARNED, 290), train_byte_bpe(LEARNED, 290)


def found(text: str = TEXT, counted: bool = True) -> Replay:
    made = replay(CHARACTERS, text, "corpora/bpe", counts=dict.fromkeys(range(0, 300, 2), 1234) if counted else None)
    assert made is not None
    return made


def text_of(made: Replay, look: Look) -> str:
    return "\n".join(line.plain for line in merges_lines(made, look)) + "\n"


@pytest.mark.parametrize(("name", "look"), [
    ("merges-en-80.txt", Look("en", 80)),
    ("merges-ja-80.txt", Look("ja", 80)),
    ("merges-ja-50.txt", Look("ja", 50)),
    ("merges-plain-en.txt", Look("en", 80, plain=True)),
    ("merges-plain-ja.txt", Look("ja", 80, plain=True)),
])  # fmt: skip
def test_golden(name: str, look: Look, check_golden: Callable[[str, str], None]) -> None:
    check_golden(name, text_of(found(), look))


def test_bytes_and_counts_that_nobody_knows(check_golden: Callable[[str, str], None]) -> None:
    made = replay(BYTES, "猫と cats", "b")
    assert made is not None
    check_golden("merges-bytes-en-80.txt", text_of(made, Look("en", 80)))
    assert "not known" in text_of(found(counted=False), Look("en", 80, plain=True))


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_long_text_is_shown_around_the_merge(columns: int) -> None:
    made = found("猫" * 100 + "である" + "。" * 100 + "思った")
    lines = [line.plain for line in merges_lines(made, Look("en", columns))]
    assert all(cell_len(line) <= columns for line in lines[1:-1])
    for line, merge in zip(lines[3:], made.merges, strict=False):
        assert merge.made.decode() in line and "~" in line


def test_nothing_but_text_leaves() -> None:
    for plain in (False, True):
        assert not {"\x1b", "\u202e"} & set(text_of(found("猫である\x1b[2J\u202e"), Look("ja", 80, plain=plain)))
