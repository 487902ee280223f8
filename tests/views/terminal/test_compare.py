"""Temperatures side by side: golden texts, the union of candidates, the point where they part, columns that fit."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyte
import pytest
from golden import golden_trace
from rich.cells import cell_len

from manako.analysis.compare import Comparison
from manako.messages.numbers import percent
from manako.sampling import Sampling
from manako.views.terminal import glyphs as g
from manako.views.terminal.compare import comparison_lines
from manako.views.terminal.steps import Look

EN = Look("en", 80)


def runs(*temperatures: float, steps: int = 12, seed: int = 3, **settings: object) -> Comparison:
    """The golden rows under each temperature; row i is what step i draws from, whatever came before."""
    samplings = [Sampling(temperature=t, **settings) for t in temperatures]  # type: ignore[arg-type]
    return Comparison(tuple(golden_trace(steps, sampling=s, seed=seed) for s in samplings))


def lines_of(comparison: Comparison, look: Look) -> list[str]:
    return [line.plain for line in comparison_lines(comparison, look)]


def rows_of(lines: Sequence[str]) -> list[str]:
    """The rows of the first table, `other` included."""
    start = next(n for n, line in enumerate(lines) if line.lstrip().startswith("T="))
    stop = next(n for n, line in enumerate(lines) if line.startswith((" other", " その他")))
    return list(lines[start + 1 : stop + 1])


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("compare-en-80.txt", EN),
        ("compare-ja-80.txt", Look("ja", 80)),
        ("compare-ja-40.txt", Look("ja", 40)),
        ("compare-en-120-ascii.txt", Look("en", 120, g.ASCII)),
        ("compare-plain-en.txt", replace(EN, plain=True)),
    ],
)
def test_golden(check_golden: Callable[[str, str], None], name: str, look: Look) -> None:
    check_golden(name, "\n".join(lines_of(runs(0.5, 1.0, 2.0), look)) + "\n")


def test_first_rows_by_hand() -> None:
    """Weights 2^(n/T): at T = 0.5, 4^n of 1430.3; at T = 1, 2^n of 72.94; at T = 2, 2^(n/2) of 22.54."""
    rows = rows_of(lines_of(runs(0.5, 1.0, 2.0), EN))
    total = {t: sum(2 ** (n / t) for n in (-4, 5, 4, 3, 3, 2, 1, 0, 0, -1, -2, -3)) for t in (0.5, 1.0, 2.0)}
    for row, exponent in ((rows[0], 5), (rows[1], 4), (rows[2], 3)):
        shown = re.findall(r"[\d.]+%", row)
        assert shown == [percent(2 ** (exponent / t) / total[t]) for t in (0.5, 1.0, 2.0)]
    assert re.findall(r"[\d.]+%", rows[0]) == ["71.6%", "43.9%", "25.1%"]


def test_every_token_that_was_drawn_is_listed_and_marked() -> None:
    for seed in range(40):
        comparison = runs(0.2, 1.0, 8.0, seed=seed)
        for look in (replace(EN, top=2), replace(EN, top=2, plain=True)):
            lines = lines_of(comparison, look)
            steps = comparison.steps(0)
            if look.plain:
                part = "\n".join(lines).split("\n\n")[1]
                assert part.count(", chosen") == 3
            else:
                rows = rows_of(lines)
                assert sum(row.count("►") for row in rows) == 3
                assert len(rows) == len({c.id for c in steps[1].candidates[:2]} | {s.token_id for s in steps}) + 1


def test_listed_and_other_make_one() -> None:
    comparison = runs(0.5, 1.0, 2.0)
    rows = rows_of(lines_of(comparison, replace(EN, top=4)))
    for column in range(3):
        shown = [float(re.findall(r"[\d.]+(?=%)", row)[column]) for row in rows]
        assert abs(sum(shown) - 100) < 0.3


def test_what_a_stage_cut_reads_cut_and_not_zero() -> None:
    rows = rows_of(lines_of(runs(0.0, 1.0, top_k=2), EN))
    assert re.findall(r"[\d.]+%", rows[0]) == ["100.0%", "66.7%"]  # 32 of 32 + 16
    assert rows[1].count("cut") == 1 and rows[2].count("cut") == 2
    assert rows[-1].split() == ["other", "0%", "0%"]


def test_where_they_part_is_said_and_marked() -> None:
    comparison = next(c for c in (runs(0.3, 1.5, seed=s) for s in range(50)) if c.diverged_at and c.diverged_at > 0)
    index = comparison.diverged_at
    assert index is not None
    lines = lines_of(comparison, EN)
    assert f"The outputs diverge at step {index + 1}: same text, same random number, different temperature." in lines
    titles = [line for line in lines if line.startswith("--- Step")]
    assert titles == ["--- Step 1 ---", f"--- Step {index + 1} ---"]
    texts = [line for line in lines if re.match(r"T=[\d.]+ +\S.*\|", line)]
    assert len(texts) == 2
    heads = {re.sub(r"^T=[\d.]+ +", "", line).split("|")[0] for line in texts}
    assert len(heads) == 1  # the common text stands before the mark
    assert heads == {g.prose(comparison.steps(index)[0].text_before, g.BLOCK)}


def test_runs_that_never_part() -> None:
    lines = lines_of(runs(0.7, 0.7), EN)
    assert "All runs chose the same tokens." in lines
    assert not any("|" in line for line in lines if line.startswith("T="))
    assert sum(line.startswith("--- Step") for line in lines) == 1


def test_nothing_drawn() -> None:
    lines = lines_of(runs(0.5, 1.0, steps=0), EN)
    assert lines[0].startswith("Same random numbers") and "All runs chose the same tokens." in lines


@pytest.mark.parametrize("columns", [40, 44, 60, 79, 80, 100, 160])
@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_tables_fit_and_line_up(columns: int, count: int) -> None:
    comparison = runs(*(0.1 + 0.3 * i for i in range(count)), seed=1)
    for lang in ("en", "ja"):
        lines = lines_of(comparison, Look(lang, columns))
        table = [
            line for line in lines if re.search(r"[\d.]%|cut|除外", line) and not line.startswith(("T=", "bars", "棒"))
        ]
        assert table
        assert max(map(cell_len, table)) <= columns
        for block in "\n".join(lines).split("\n\n"):
            ends = [
                tuple(cell_len(line[: m.end()]) for m in re.finditer(r"[\d.]%|(?<= )-(?= |$)", line))
                for line in block.split("\n")
                if line in table
            ]
            assert len({e for e in ends if e}) <= 1, block


def test_columns_line_up_in_a_terminal() -> None:
    rows = rows_of(lines_of(runs(0.5, 1.0, 2.0), Look("ja", 80)))
    ends = set()
    for row in rows:
        screen = pyte.Screen(80, 2)
        pyte.Stream(screen).feed(row)
        cells = [screen.buffer[0][x].data for x in range(80)]
        ends.add(tuple(x for x, cell in enumerate(cells) if cell == "%"))
    assert len(ends) == 1


def test_no_bar_where_it_would_say_nothing() -> None:
    assert not any("█" in line or line.startswith("bars") for line in lines_of(runs(0.5, 1.0, 2.0), Look("en", 60)))
    lines = lines_of(runs(0.5, 1.0, 2.0), EN)
    assert any("bars: 12 cells are 100 %" in line for line in lines)
    assert "71.6% " + "█" * 8 + "▌ " in rows_of(lines)[0]  # 0.716 x 12 = 8.6


@pytest.mark.slow
def test_no_width_is_a_crash() -> None:
    comparison = runs(0.2, 1.0, 3.0, 4.0, steps=4)
    for columns in range(1, 301):
        lines_of(comparison, Look("ja" if columns % 2 else "en", columns, plain=columns % 7 == 0))


def test_nothing_but_text_leaves() -> None:
    for seed in range(10):
        for look in (EN, replace(EN, plain=True)):
            text = "\n".join(lines_of(runs(0.5, 1.5, seed=seed), look))
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", text)


def test_pairs_are_told_only_where_they_part_at_different_steps() -> None:
    """One sentence says it of all that part at once; otherwise each run is told beside the nearest one before it."""
    told: dict[bool, int] = {}
    for seed in range(60):
        comparison = runs(0.5, 1.0, 2.0, seed=seed)
        if comparison.diverged_at is None:
            continue
        parted = [comparison.parts(n, comparison.nearest(n, range(n))) for n in (1, 2)]
        at_once = set(parted) == {comparison.diverged_at}
        lines = lines_of(comparison, EN)
        found = [line for line in lines if re.match(r"T=\d+ agrees with T=", line)]
        assert len(found) == (0 if at_once else 2), lines
        assert all(f"step {p + 1}," in line for p, line in zip(parted, found, strict=False) if p is not None)
        told[at_once] = told.get(at_once, 0) + 1
    assert min(told.values()) >= 3 and len(told) == 2
