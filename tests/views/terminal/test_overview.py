"""A run at a glance: a line a step, the tinted text, the summary; numbers by hand, widths, no colour alone."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import golden_score, golden_trace, large_generation
from rich.cells import cell_len
from rich.text import Text

from manako.analysis.overview import Brief, Summary, brief
from manako.trace.record import Trace, Typed, Vocabulary
from manako.views.terminal.again import again
from manako.views.terminal.overview import TINTS, row_lines, summary_lines, text_lines, title_line
from manako.views.terminal.steps import Look

EN, JA = Look("en", 80), Look("ja", 80)


def plain(lines: Iterable[Text]) -> str:
    return "".join(f"{line.plain}\n" for line in lines)


def briefs(trace: Trace) -> list[Brief]:
    return [brief(trace, index) for index in range(len(trace))]


def lines_of(trace: Trace, look: Look) -> str:
    steps = briefs(trace)
    shown = [*title_line(trace, look), *row_lines(trace, steps, look), *text_lines(trace, steps, look, "p")]
    return plain([*shown, *summary_lines(Summary.of(steps), look)])


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("overview-en-80.txt", EN),
        ("overview-ja-60.txt", replace(JA, columns=60)),
        ("overview-ja-100.txt", replace(JA, columns=100)),
        ("overview-en-160.txt", replace(EN, columns=160)),
        ("overview-plain-ja.txt", replace(JA, plain=True)),
    ],
)
def test_golden(name: str, look: Look, request: pytest.FixtureRequest) -> None:
    path = Path(__file__).parents[1] / "golden" / name
    found = lines_of(golden_trace(), look)
    if request.config.getoption("--update"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_bytes_that_form_no_character_are_spelled_as_in_the_whole_text() -> None:
    """In the text before a token and in the tinted one, the prompt included; a character in its making is not."""
    trace = golden_trace()
    assert "‹E7 8C›" in trace.text
    wide = replace(EN, columns=400)
    assert "‹E7 8C›" in plain(row_lines(trace, briefs(trace)[8:], wide))
    forked = replace(trace, columns=replace(trace.columns, prompt_ids=trace.all_ids))
    shown = plain(text_lines(forked, [], wide, "p"))
    assert "‹E7 8C›" in shown and "\ufffd" not in shown


@pytest.mark.parametrize("made", [golden_trace, golden_score, lambda: large_generation(4).trace()])
def test_a_brief_has_the_numbers_of_its_step(made) -> None:  # noqa: ANN001
    trace = made()
    for each, step in zip(briefs(trace), trace.steps, strict=True):
        assert (each.id, each.bytes, each.rank) == (step.chosen.id, step.chosen.bytes, step.chosen.rank)
        assert each.p == pytest.approx(step.chosen.p) and each.p_model == pytest.approx(step.chosen.p_model)
        assert each.entropy == step.entropy and each.surprisal == pytest.approx(step.surprisal)


def made_up(index: int, p: float, rank: int, entropy: float) -> Brief:
    return Brief(index, 0, b"a", "a", False, p, p, rank, entropy)


def test_the_summary_by_hand() -> None:
    steps = [made_up(0, 0.5, 1, 1.0), made_up(1, 0.125, 4, 3.0), made_up(2, 0.125, 7, 3.0)]
    found = Summary.of(steps)
    assert (found.tokens, found.bits, found.mean_rank) == (3, 7.0, 4.0)
    assert found.hesitated is found.surprised is steps[1]
    assert Summary.of([made_up(0, 0.0, 9, 0.0)]).bits == math.inf


@pytest.mark.parametrize(
    ("tint", "cases"),
    [
        ("p", [(0.5, 0), (0.49, 1), (0.1, 1), (0.09, 2), (0.01, 2), (0.0099, 3), (0.0, 3)]),
        ("rank", [(1, 0), (2, 1), (10, 1), (11, 2), (100, 2), (101, 3)]),
        ("surprisal", [(1.0, 0), (0.49, 1), (0.124, 2), (0.0078, 3), (0.0, 3)]),
    ],
)
def test_a_tint_has_four_strengths(tint: str, cases: list[tuple[float, int]]) -> None:
    for value, strength in cases:
        step = made_up(0, value, int(value), 0.0)
        assert TINTS[tint].strength(step) == strength, value


def test_lines_that_come_one_by_one_are_the_same_table() -> None:
    trace = golden_trace()
    steps = briefs(trace)
    for columns in (40, 60, 80, 120):
        look = replace(JA, columns=columns)
        together = plain(row_lines(trace, steps, look))
        assert together == "".join(plain(row_lines(trace, [step], look)) for step in steps)
        assert all(cell_len(line) <= columns for line in together.split("\n"))


def test_without_colours_a_shade_stands_under_each_unlikely_token() -> None:
    trace = golden_score()
    steps = briefs(trace)
    dull, bright = (plain(text_lines(trace, steps, replace(EN, color=color), "rank")) for color in (False, True))
    assert len(dull.split("\n")) > len(bright.split("\n")) and any(shade in dull for shade in "\u2592\u2593\u2588")


def test_the_whole_command_for_the_same_run() -> None:
    trace = golden_trace()
    header = replace(trace.header, prompt="a b", stop=("。",), first_step=0)
    said = again(replace(trace, header=header), "watch", "--view", "steps", count=4)
    assert said.startswith("manako watch 'a b' -m golden -t 0.5 --top-k 8 --top-p 0.98 -n 4 --seed 7 --stop ")
    assert said.endswith(" --view steps")
    for prompt in ("", "-x", "a\nb", "\x1b[2J", "長" * 200):
        assert again(replace(trace, header=replace(header, prompt=prompt)), "why").startswith(
            "manako why TEXT -m golden"
        )
    special = replace(header, prompt="a b", special_ids=(0, 9))
    for ids, text in (((9,), "'a b'"), ((9, 2), "'a b'"), ((2, 9), "TEXT"), ((9, 2, 9), "TEXT")):
        columns = replace(trace.columns, prompt_ids=np.array(ids, np.int32))
        known = Vocabulary([trace.vocabulary[i] for i in range(12)], 12, frozenset({0, 9}))
        made = Trace(special, columns, known)
        assert again(made, "why").startswith(f"manako why {text} -m golden")
        typed = replace(made, typed=Typed("<|e|>a", special=True))
        assert again(typed, "why").startswith("manako why '<|e|>a' --special -m golden")
    typed = replace(trace, typed=Typed("a b", chat=True, system="c\nd"))
    assert again(typed, "why").startswith("manako why 'a b' --chat --system TEXT -m golden")
    assert again(golden_score(), "why").endswith("--given") and "--given" not in again(golden_score(), "compare")
