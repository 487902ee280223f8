"""A sweep in a terminal: golden texts, marks that say what a figure is, and hostile names that stay text."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len

from manako.analysis.sweep import Failure, Outcome
from manako.views.terminal.scatter import Series, chart
from manako.views.terminal.steps import Look
from manako.views.terminal.sweep import sweep_lines

EN, JA = Look("en", 100), Look("ja", 80)
CHAR = Outcome(
    run="1_tokenizer=char", varied={"tokenizer": "char", "no_attention": False}, parameters=98_304, embeddings=65_536,
    block_size=64, corpus_characters=1_000_000, steps=800, characters=409_600.0, flops=4e11, seconds=90.0,
    bits_per_character=5.25, best_step=800, last_bits_per_character=5.25, characters_per_token=0.98,
    curve=[[200, 6.5], [400, 5.75], [800, 5.25]],
)  # fmt: skip
BPE = replace(
    CHAR, run="2_tokenizer=bpe-4096", varied={"tokenizer": "bpe:4096", "no_attention": True}, steps=400, flops=4.01e11,
    seconds=120.0, bits_per_character=5.0, best_step=200, last_bits_per_character=5.125, characters_per_token=1.48,
    curve=[[200, 5.0], [400, 5.125]],
)  # fmt: skip
RESULTS = [CHAR, BPE, Failure("3_x", {"tokenizer": "evil\x1b[2J"}, "a device was lost \x1b[2J\u202e")]


def text_of(results: list[Outcome | Failure], look: Look) -> str:
    return "\n".join(line.plain for line in sweep_lines(results, look)) + "\n"


@pytest.mark.parametrize(("name", "look"), [
    ("sweep-en-100.txt", EN),
    ("sweep-ja-80.txt", JA),
    ("sweep-ja-40.txt", Look("ja", 40)),
    ("sweep-plain-en.txt", replace(EN, plain=True)),
    ("sweep-plain-ja.txt", replace(JA, plain=True)),
])  # fmt: skip
def test_golden(name: str, look: Look, check_golden: Callable[[str, str], None]) -> None:
    check_golden(name, text_of(RESULTS, look))


def test_marks_say_what_a_figure_is() -> None:
    text = text_of([CHAR, BPE], EN)
    assert "5.750*" in text and "5.000^" in text and "* measured before" in text and "^ the last" in text
    assert "*" not in text_of([CHAR], EN) and "^" not in text_of([CHAR], EN)


@pytest.mark.parametrize("columns", [20, 40, 60, 100, 200])
def test_nothing_is_wider_than_the_window_but_a_column_that_needs_it(columns: int) -> None:
    for line in sweep_lines([CHAR, BPE], Look("ja", columns)):
        assert cell_len(line.plain) <= max(columns, 44) or not line.no_wrap, line.plain


def test_nothing_but_text_leaves() -> None:
    for look in (EN, replace(EN, plain=True)):
        assert not {"\x1b", "\u202e"} & set(
            text_of([replace(CHAR, run="a\x1b[2J", varied={"x": "\u202e"}), *RESULTS], look)
        )


def test_all_runs_failed_and_none_at_all() -> None:
    assert text_of([RESULTS[2]], EN).startswith("3_x failed: ") and text_of([], EN) == "\n"


def drawn(series: list[Series], columns: int = 40) -> list[str]:
    return [line.plain for line in chart(series, columns, "x", "y", lambda x: f"{x:g}")]


def test_points_stand_where_they_belong() -> None:
    lines = drawn([Series("a", [(1, 0.0), (10, 0.5), (100, 1.0)])])
    rows = [(n, line.index("a")) for n, line in enumerate(lines) if "a" in line]
    left = lines[1].index("|") + 1
    assert rows[0] == (1, len(lines[-3]) - 1) and rows[-1] == (14, left)
    assert abs(rows[1][1] - (rows[0][1] + left) / 2) <= 1 and abs(rows[1][0] - 7.5) <= 1
    assert lines[1].startswith("1.00 |") and lines[14].startswith("0.00 |") and lines[-2].split() == ["1", "100"]


def test_the_first_series_is_on_top_and_points_hide_lines() -> None:
    one, two = Series("a", [(1, 1.0)], [(1, 1.0), (2, 2.0)]), Series("b", [(1, 1.0), (2, 2.0)])
    inside = [line.partition("|")[2] for line in drawn([one, two])]
    assert "b" not in inside[14] and "b" in inside[1] and "." not in "".join(inside)


def test_a_single_point_and_a_flat_line_are_drawn() -> None:
    assert any("a" in line for line in drawn([Series("a", [(5, 2.0)])]))
    assert sum("a" in line for line in drawn([Series("a", [(1, 2.0), (9, 2.0)])])) == 1
