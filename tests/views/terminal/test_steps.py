"""The steps in a terminal: golden texts, numbers done by hand, shown = used (N18), columns, hostile tokens (T21)."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import pyte
import pytest
from golden import HOSTILE, golden_inside, golden_score, golden_trace, large_generation
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from manako.messages.numbers import percent
from manako.sampling import Sampling, distribution, draw, uniform
from manako.trace.record import Columns, SelfCheck, Step, Trace, Vocabulary
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look, characters, final_lines, header_lines, step_lines

EN, JA = Look("en", 80), Look("ja", 80)
NUMBER = re.compile(r"<?\d[\d.]*%")


def whole(trace: Trace, look: Look) -> str:
    """What `view` prints."""
    parts = characters(trace)
    lines = [*header_lines(trace.header, look)]
    for step in trace:
        lines += step_lines(step, look, parts.get(step.index))
    return plain([*lines, *final_lines(trace, look)])


def plain(lines: Iterable[Text]) -> str:
    return "".join(f"{line.plain}\n" for line in lines)


def table(step: Step, look: Look) -> list[str]:
    """The rows of the candidates and the one of all others."""
    lines = plain(step_lines(step, look)).split("\n")
    rules = [n for n, line in enumerate(lines) if line.startswith("---") and not line.startswith("--- ")]
    rows = lines[rules[0] + 1 : rules[1]]
    return rows[1:] if rows[0].split()[0] == "p" else rows


def trace_of(rows: np.ndarray, sampling: Sampling, seed: int = 0, tokens: list[bytes] | None = None) -> Trace:
    """A record with one step for each row of logits, drawn as the engine would."""
    tokens = tokens or [bytes([97 + i % 26]) for i in range(rows.shape[1])]
    made = []
    ids = [0]
    for i, row in enumerate(rows.astype(np.float32)):
        d, u = distribution(row, sampling, ids), uniform(seed, i)
        token = draw(d, u).token_id
        made.append((token, u, 0, d.p[token], d.p_model[token], d.rank(token)))
        ids.append(token)
    token_id, u, window, p, p_model, rank = (np.array(column) for column in zip(*made, strict=True))
    columns = Columns(
        prompt_ids=np.array([0], np.int32),
        token_id=token_id.astype(np.int32),
        u=u,
        window_start=window.astype(np.int32),
        p=p,
        p_model=p_model,
        rank=rank.astype(np.int32),
        logits=rows.astype(np.float32),
    )
    header = replace(golden_trace(1).header, sampling=sampling, seed=seed, special_ids=(), max_new_tokens=len(rows))
    return Trace(header, columns, Vocabulary(tokens, rows.shape[1], frozenset()))


# Golden ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("watch-ja-80.txt", JA),
        ("watch-en-80.txt", EN),
        ("watch-ja-40.txt", Look("ja", 40)),
        ("watch-en-100.txt", Look("en", 100)),
        ("watch-en-120.txt", Look("en", 120)),
        ("watch-ja-braille.txt", Look("ja", 80, g.BRAILLE)),
        ("watch-en-ascii.txt", Look("en", 80, g.ASCII)),
        ("plain-ja.txt", Look("ja", 80, plain=True)),
        ("plain-en.txt", Look("en", 80, plain=True)),
    ],
)
def test_golden(golden_trace: Trace, check_golden: Callable[[str, str], None], name: str, look: Look) -> None:
    check_golden(name, whole(golden_trace, look))


def test_golden_score(check_golden: Callable[[str, str], None]) -> None:
    check_golden("score-en-80.txt", whole(golden_score(), EN))


def test_a_text_read_as_a_document_says_so() -> None:
    """A prompt of the same letters has other probabilities: nothing stands in front of it."""
    header = golden_score().header
    said = EN.say("view.given_start")
    assert said in plain(header_lines(replace(header, prompt=""), EN))
    assert said not in plain(header_lines(replace(header, prompt="私"), EN))


# By hand -----------------------------------------------------------------------------------------------------------


def test_first_step_by_hand(golden_trace: Trace) -> None:
    """T = 0.5 makes the weights 4^n: 1024, 256, 64, 64 of 1408 stay; the model's own are 2^n of 72.9375."""
    step = golden_trace.steps[0]
    rows = [row.split() for row in table(step, EN)]
    assert [row[-3:] for row in rows[:2]] == [
        ["72.7%", "43.9%", "█" * 36],  # 1024 / 1408 = 0.72727, 36.4 of 50 cells; 32 / 72.9375
        ["18.2%", "21.9%", "█" * 9],  # 256 / 1408 = 0.18182, 9.1 cells; 16 / 72.9375
    ]
    assert rows[2][-3:] == ["4.55%", "11.0%", "██"]  # 64 / 1408 = 0.04545, 2.3 cells
    assert rows[4][-5:] == ["-", "5.48%", "cut", "by", "top_p"]
    assert rows[-1] == ["other", "2", "0%", "0.257%"]  # (2^-3 + 2^-4) / 72.9375
    text = plain(step_lines(step, EN))
    # log2 1408 - (1024 x 10 + 256 x 8 + 2 x 64 x 6) / 1408 = 10.4594 - 9.2727
    assert "entropy 1.19 bits (perplexity 2.28)" in text
    strip = next(line for line in text.split("\n") if line.startswith("|"))
    assert strip == "|" + "1" * 36 + "2" * 9 + "3" * 3 + "4" * 2 + "|"  # cell n holds the rank at (n + 0.5) / 50


def test_one_column_by_hand() -> None:
    """At T = 1 with no cut, p is p_model: one column, the half cell, and the rest of the vocabulary as `other`."""
    trace = golden_trace(sampling=Sampling(temperature=1.0))
    rows = [row.split() for row in table(trace.steps[0], replace(EN, top=2))]
    taken = [row for row in rows if row[0] == "►"]
    rows = [row[1:] if row[0] == "►" else row for row in rows]
    assert len(taken) == 1
    assert rows[0][-2:] == ["43.9%", "█" * 21 + "▌"]  # 32 / 72.9375 x 50 = 21.94
    assert rows[1][-2:] == ["21.9%", "█" * 10 + "▌"]  # 10.97
    shown = {row[0] for row in rows[:-1]}
    rest = 72.9375 - 32 - 16 - (0 if len(shown) == 2 else 72.9375 * trace.steps[0].chosen.p)
    assert rows[-1][:2] == ["other", str(12 - len(shown))]
    assert rows[-1][-2] == percent(rest / 72.9375)


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.0, "0%"),
        (1e-300, "<0.01%"),
        (0.00009999, "<0.01%"),
        (0.0001, "0.0100%"),
        (0.00099949, "0.0999%"),
        (0.0009995, "0.100%"),
        (0.00632, "0.632%"),
        (0.0574, "5.74%"),
        (0.0999, "9.99%"),
        (0.09995, "10.0%"),
        (0.1176, "11.8%"),
        (0.9994, "99.9%"),
        (1.0, "100.0%"),
    ],
)
def test_percent(p: float, shown: str) -> None:
    assert percent(p) == shown


# Shown = used ------------------------------------------------------------------------------------------------------


def within_its_last_digit(shown: str, p: float) -> bool:
    if shown == "0%":
        return p == 0
    if shown == "<0.01%":
        return 0 < p < 0.0001
    number = shown.rstrip("%")
    digits = len(number.partition(".")[2])
    return abs(float(number) - p * 100) <= 0.5 * 10.0**-digits + 1e-9


@given(st.floats(0, 1))
def test_percent_is_right_to_its_last_digit(p: float) -> None:
    assert within_its_last_digit(percent(p), p)
    assert len(percent(p)) <= 7


SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.8, top_k=7),
    Sampling(temperature=0.0),
    Sampling(temperature=1.7, top_p=0.6, repetition_penalty=1.3),
    Sampling(temperature=0.3, min_p=0.05, typical_p=0.9),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_shown_is_used(sampling: Sampling) -> None:
    rng = np.random.default_rng(5)
    for case in range(20):
        size = int(rng.integers(1, 60))
        trace = trace_of(rng.normal(0, rng.uniform(0.1, 6), (5, size)), sampling, seed=case)
        for step in trace:
            check_shown(step, replace(EN, columns=int(rng.integers(40, 140)), top=int(rng.integers(1, 15))))


def check_shown(step: Step, look: Look) -> None:
    rows = table(step, look)
    by_rank = {c.rank: c for c in step.candidates}
    marked = []
    for row in rows[:-1]:
        rank = int(re.match(r"[► ] *(\d+)\. ", row)[1])  # type: ignore[index]
        c, numbers = by_rank[rank], NUMBER.findall(row)
        shown = [p for p in ([c.p] if c.cut_by is None else []) + [c.p_model]]
        for number, p in zip(numbers, shown, strict=False):
            assert within_its_last_digit(number, p), (row, p)
        assert (c.cut_by is None) == (" - " not in row)
        if row.startswith("►"):
            marked.append(c.id)
    assert marked == [step.token_id]
    text = plain(step_lines(step, look))
    chosen = next(line for line in text.split("\n") if line.startswith(">>> "))
    assert within_its_last_digit(NUMBER.findall(chosen)[0], step.chosen.p)
    assert f"rank {step.chosen.rank})" in chosen
    listed = len(rows) - 1
    assert int(rows[-1].split()[1].replace(",", "")) == step.vocabulary.size - listed
    assert f"entropy {step.entropy:.2f} bits" in text


def test_bars_are_the_numbers() -> None:
    trace = trace_of(np.random.default_rng(0).normal(0, 3, (20, 12)), Sampling(temperature=0.7, top_k=9))
    for step in trace:
        rows = table(step, replace(EN, top=12))
        for row, c in zip(rows, step.candidates, strict=False):
            halves = 2 * row.count("█") + row.count("▌")
            assert halves == (0 if c.cut_by else math.floor(c.p * 50 * 2 + 1e-12))


def test_a_token_far_down_is_listed_with_its_rank() -> None:
    steps = [step for step in large_generation() if step.chosen.rank > 256]
    assert steps
    for step in steps:
        last = table(step, EN)[-2]
        assert last.startswith(f"►{step.chosen.rank}. ") and percent(step.chosen.p) in last
        assert table(step, EN)[-1].split()[:2] == ["other", f"{20_000 - 11:,}"]


# Columns -----------------------------------------------------------------------------------------------------------


@cache
def wide_traces() -> list[Trace]:
    rng = np.random.default_rng(3)
    names = [*HOSTILE, "猫".encode(), "ｶﾅ".encode(), "長い言葉の候補です".encode(), b" international", b"\xff", b"a"]
    made = [golden_trace(), golden_trace(sampling=Sampling(temperature=1.0)), large_generation().trace()]
    rows = rng.normal(0, 3, (6, len(names)))
    rows[:, 3] -= 12  # something under 0.01 %, something that takes seven cells
    rows[:, 4] -= 7
    return [*made, trace_of(rows, Sampling(temperature=1.2, top_k=9), tokens=names)]


@pytest.mark.parametrize("columns", [40, 41, 57, 79, 80, 81, 100, 120, 160])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_columns_line_up_and_lines_fit(columns: int, lang: str) -> None:
    for trace in wide_traces():
        if len(trace) == 0:
            continue
        for glyphs in (g.BLOCK, g.BRAILLE, g.ASCII):
            look = Look(lang, columns, glyphs)
            for step in trace:
                rows = table(step, look)
                ends = set()
                for row in rows:
                    number = re.search(r"(?<= )(<?\d[\d.]*%|-)(?= |$)", row)
                    assert number, row
                    ends.add(cell_len(row[: number.end()]))
                    assert cell_len(row) <= columns
                assert len(ends) == 1, rows


@pytest.mark.parametrize("columns", [80, 100])
def test_columns_line_up_in_a_terminal(columns: int) -> None:
    """The same by what a terminal makes of it, which counts cells by its own table."""
    for trace in wide_traces():
        for step in trace:
            rows = table(step, Look("ja", columns))
            ends = set()
            for row in rows:
                screen = pyte.Screen(columns, 3)
                pyte.Stream(screen).feed(row)
                cells = [screen.buffer[0][x].data for x in range(columns)]  # "" behind a wide character
                assert screen.cursor.y == 0
                end = next(
                    x for x in range(13, columns) if cells[x] == "%" or (cells[x] == "-" and cells[x - 1] == " ")
                )
                ends.add(end)
            assert len(ends) == 1, rows


@pytest.mark.parametrize("columns", [10, 15, 20, 29])
def test_no_bar_in_a_very_narrow_window(columns: int) -> None:
    for trace in wide_traces():
        for step in trace:
            assert not re.search("[█▌]", "".join(table(step, Look("en", columns))))


@pytest.mark.slow
def test_no_width_is_a_crash() -> None:
    trace = golden_trace(3)
    for columns in range(1, 301):
        whole(trace, Look("ja" if columns % 2 else "en", columns, top=1 + columns % 13))


def test_long_text_is_cut_at_its_start_and_stands_whole_at_the_end() -> None:
    trace = trace_of(np.zeros((400, 3)), Sampling(temperature=1.0))
    text = plain(step_lines(trace.steps[399], EN))
    shown = next(line for line in text.split("\n") if line.startswith("Text so far: "))
    assert "'..." in shown and cell_len(shown) <= 2 * 80 and shown.endswith(trace.steps[399].text_before[-100:] + "'")
    assert trace.text in plain(final_lines(trace, EN))


# Partial characters ------------------------------------------------------------------------------------------------


def test_parts_of_a_character_are_counted_and_named() -> None:
    tokens = [b"a", *(bytes([b]) for b in "猫".encode())]
    rows = np.full((5, 4), -50.0)
    for step, token in enumerate([1, 2, 3, 0, 1]):
        rows[step, token] = 50.0
    trace = trace_of(rows, Sampling(temperature=1.0), tokens=tokens)
    assert characters(trace) == {0: "猫 1/3", 1: "猫 2/3", 2: "猫 3/3"}
    text = whole(trace, EN)
    assert ">>> chosen: ‹E7› 瀀-翿 (probability 100.0%, rank 1)  猫 1/3" in text
    assert "Text so far: 'a‹E7 8C›'" in text
    assert ">>> chosen: ‹+AB› 猫 (probability 100.0%, rank 1)  猫 3/3" in text
    assert text.split("The whole text:\n")[1].startswith("a猫a‹E7›\n")


def test_parts_begin_in_the_context_of_a_score() -> None:
    cat = [bytes([b]) for b in "猫".encode()]
    trace = trace_of(np.array([[0, 50.0, 0], [0, 0, 50.0]]), Sampling(temperature=1.0), tokens=cat)
    assert characters(trace)[0] == "猫 2/3" and characters(trace)[1] == "猫 3/3"


def test_a_control_split_over_two_tokens_is_never_shown_raw() -> None:
    for dangerous in ("\x9b", "\u202e"):
        data = dangerous.encode()
        rows = np.array([[0, 50.0, 0], [0, 0, 50.0]])
        trace = trace_of(rows, Sampling(temperature=1.0), tokens=[b"a", data[:1], data[1:]])
        assert dangerous in characters(trace)[1]
        assert dangerous not in whole(trace, EN) + whole(trace, replace(EN, plain=True))


# Hostile text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [EN, JA, replace(JA, plain=True), replace(EN, glyphs=g.ASCII)], ids=str)
def test_nothing_but_text_leaves(golden_trace: Trace, look: Look) -> None:
    text = whole(golden_trace, look)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", text)


def test_the_header_of_a_stranger_is_text(golden_trace: Trace) -> None:
    evil = "\x1b]0;owned\x07\u202e[red]"
    model = replace(golden_trace.header.model, ref=evil, switches=(evil,), config={"n_layer": evil, "n_head": None})
    checks = (SelfCheck(evil, math.inf, 1e-9), SelfCheck("probabilities_sum_to_1", 0.0, 1e-9))
    trace = replace(golden_trace, header=replace(golden_trace.header, model=model, self_checks=checks))
    text = whole(trace, EN)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert text.count("\\x1b]0;owned\\x07\\u202e[red]") >= 4  # ref, n_layer, switch, check


def test_what_ends_a_run_is_said() -> None:
    empty = golden_trace(0)
    text = whole(empty, EN)
    assert "Nothing was generated." in text and "Interrupted. Tokens generated: 0." in text
    failed = golden_trace(1, self_checks=(SelfCheck("cached_equals_uncached", 1.0, 1e-5),))
    assert "SELF-CHECK FAILED cached and uncached logits agree: error 1, limit 1e-5" in whole(failed, EN)
    window = golden_trace(3)
    window = replace(window, columns=replace(window.columns, window_start=np.array([0, 0, 1], np.int32)))
    assert "The context window starts at token 2." in whole(window, EN)


def test_a_narrow_interval_has_the_digits_it_needs() -> None:
    for step in large_generation(steps=12):
        said = next(line for line in plain(step_lines(step, EN)).split("\n") if line.startswith("random number u = "))
        u, low, high = (float(number) for number in re.findall(r"\d\.\d{4,}", said.replace(step.chosen.text, "")))
        assert low <= u <= high and low < high
        assert abs(high - low - step.chosen.p) <= 0.05 * step.chosen.p or high - low >= 0.0009 or step.chosen.rank > 256


def test_a_record_that_goes_on_says_so_and_counts_its_own_steps() -> None:
    """Three tokens in front, two of them steps already taken: its first step is number 1 all the same."""
    trace = golden_inside(2, (), (9, 2, 3), first_step=2)
    for lang, said in (
        ("en", "continues another trace after 2 tokens"),
        ("ja", "別のトレースの続き（2 トークンの後から）"),
    ):
        lines = whole(trace, Look(lang, 80)).splitlines()
        assert said in lines[1] and sum(said in line for line in lines) == 1
    steps = [line for line in whole(trace, EN).splitlines() if line.startswith("--- ")]
    assert steps == ["--- Step 1 ---", "--- Step 2 ---"]
    assert "another trace" not in whole(golden_inside(2, (), (9, 2, 3)), EN)


def test_greedy_says_that_the_draw_decides_nothing() -> None:
    text = whole(golden_trace(1, sampling=Sampling(temperature=0.0)), EN)
    assert "one token is left, so the random number (u = " in text and "cut by temperature" in text
    assert "|" not in text
