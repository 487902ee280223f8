"""The lens in a terminal: golden texts, the sentence that sums it up, thirty layers that fit, hostile tokens."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pyte
import pytest
from golden import golden_inside, large_inside
from rich.cells import cell_len
from toy import toy_model

from manako.analysis.lens import LensStep, lens
from manako.messages.numbers import percent
from manako.sampling import Sampling
from manako.trace.record import SelfCheck, Trace
from manako.views.document import lens_document, step_record
from manako.views.terminal import glyphs as g
from manako.views.terminal.lens import lens_lines
from manako.views.terminal.steps import Look

EN = Look("en", 80)


@pytest.fixture(scope="module")
def deep() -> Trace:
    """Thirty layers."""
    return toy_model(n_layer=30, n_head=4, seed=3).trace("私は猫", max_new_tokens=3, seed=2, capture=["lens"])


def lines_of(trace: Trace, index: int, look: Look, found: LensStep | None = None) -> list[str]:
    return [line.plain for line in lens_lines(trace, found or lens(trace, index), look)]


def layer_rows(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r" *(embed|\d+) +<?[\d.]+% +\d+", line)]


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("lens-en-80.txt", EN),
        ("lens-ja-80.txt", Look("ja", 80)),
        ("lens-ja-40.txt", Look("ja", 40)),
        ("lens-en-120-ascii.txt", Look("en", 120, g.ASCII)),
        ("lens-plain-en.txt", replace(EN, plain=True)),
        ("lens-plain-ja.txt", Look("ja", 80, plain=True)),
    ],
)
def test_golden(check_golden: Callable[[str, str], None], name: str, look: Look) -> None:
    trace = golden_inside()
    lines = [*lines_of(trace, 0, look), "", *lines_of(trace, 5, look)]
    check_golden(name, "\n".join(lines) + "\n")


def test_numbers_by_hand() -> None:
    """Step 1 of twelve: the embedding says what step 5 would say, whose favourite has 32 of 72.9375."""
    rows = layer_rows(lines_of(golden_inside(), 0, EN))
    assert [row.split()[0] for row in rows] == ["embed", "0", "1"]
    assert "43.9%" in rows[0] and percent(32 / 72.9375) == "43.9%"
    chosen = lens(golden_inside(), 0).chosen
    assert [row.split()[1:3] for row in rows] == [[percent(r.p), str(r.rank)] for r in chosen]


def test_the_chosen_token_is_marked_wherever_it_occurs() -> None:
    trace = golden_inside()
    for index in range(12):
        for look in (Look("en", 200), Look("ja", 80), Look("en", 120, g.ASCII)):
            found = lens(trace, index)
            lines = lines_of(trace, index, look, found)
            rows = layer_rows(lines)
            for row, first, chosen in zip(rows, found.first, found.chosen, strict=True):
                if chosen.rank <= 2:
                    assert look.glyphs.mark in row
                if all(r.id != chosen.id for r in first):
                    assert f" {look.glyphs.mark}" not in row
            assert sum(line.startswith(look.glyphs.mark) and not line.startswith(">>>") for line in lines) == 1


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ((30, 4, 1), "enters the first ten at layer 0 and is first from layer 1 to the end."),
        ((1, 1, 1), "enters the first ten at the embedding and is first from there to the end."),
        ((30, 1, 2), "enters the first ten at layer 0; its rank at the end is 2."),
        ((30, 20, 11), "is never among the first ten; its rank at the end is 11."),
    ],
)
def test_the_sentence(ranks: tuple[int, ...], said: str) -> None:
    trace = golden_inside(1)
    found = lens(trace, 0)
    chosen = tuple(replace(r, rank=rank) for r, rank in zip(found.chosen, ranks, strict=True))
    found = replace(found, tracked=(chosen, *found.tracked[1:]))
    assert sum(line.endswith(said) for line in lines_of(trace, 0, EN, found)) == 1


def test_bars_are_absolute() -> None:
    trace = golden_inside(1)
    found = lens(trace, 0)
    row = layer_rows(lines_of(trace, 0, Look("en", 200)))[-1]
    assert row.count("█") == round(found.chosen[-1].p * 20)  # twenty cells are 100 %


def test_thirty_layers_read_well(deep: Trace) -> None:
    for columns in (40, 60, 80, 100):
        for lang in ("en", "ja"):
            lines = lines_of(deep, 2, Look(lang, columns))
            rows = layer_rows(lines)
            assert len(rows) == 31 and max(map(cell_len, rows)) <= columns
            strips = [line for line in lines if re.search(r" [0-9.]{31}$", line)]
            assert len(strips) == len(lens(deep, 2).tracked)  # each token in one line
            assert len({cell_len(line) for line in strips}) == 1 and cell_len(strips[0]) <= columns


def test_tenths_by_hand(deep: Trace) -> None:
    found = lens(deep, 2)
    strip = next(m[1] for line in lines_of(deep, 2, EN) if (m := re.search(r"^►.* ([0-9.]{31})$", line)))
    for cell, reading in zip(strip, found.chosen, strict=True):
        assert reading.p < 0.01 if cell == "." else int(cell) <= reading.p * 10 < int(cell) + 1 or reading.p > 0.9


@pytest.mark.parametrize("columns", [40, 44, 60, 79, 80, 100, 160])
def test_tables_fit_and_line_up(columns: int) -> None:
    trace = golden_inside()
    for index in range(12):
        for lang in ("en", "ja"):
            lines = lines_of(trace, index, Look(lang, columns))
            rows = layer_rows(lines)
            assert max(map(cell_len, rows)) <= columns
            ends = [tuple(cell_len(row[: m.end()]) for m in re.finditer("%", row)) for row in rows]
            assert len(set(ends)) == 1 and len(ends) == 3


def test_columns_line_up_in_a_terminal() -> None:
    ends = set()
    for row in layer_rows(lines_of(golden_inside(), 5, Look("ja", 80))):
        screen = pyte.Screen(80, 2)
        pyte.Stream(screen).feed(row)
        ends.add(tuple(x for x in range(80) if screen.buffer[0][x].data == "%"))
    assert len(ends) == 1


def test_three_candidates_at_80_columns_and_more_where_there_is_room() -> None:
    trace = toy_model().trace("私は", max_new_tokens=4, seed=1, capture=["lens"])
    counts = {c: layer_rows(lines_of(trace, 3, Look("en", c)))[0].count("%") - 1 for c in (40, 80, 100, 200)}
    assert counts[40] == 1 and counts[80] == 3 and 3 <= counts[100] <= counts[200] == 5


def test_plain_has_no_matrix(deep: Trace) -> None:
    lines = lines_of(deep, 0, replace(EN, plain=True))
    assert sum("percent, rank" in line for line in lines) == 31
    assert not any("█" in line or re.search(r"   \S", line.strip()) for line in lines)


def test_no_width_is_a_crash() -> None:
    traces = [golden_inside(), large_inside()]
    for columns in range(1, 200):
        trace = traces[columns % 2]
        lines_of(trace, columns % 6, Look("ja" if columns % 3 else "en", columns, plain=columns % 7 == 0))


def test_nothing_but_text_leaves() -> None:
    trace = golden_inside()
    for index in range(12):
        for look in (EN, replace(EN, plain=True), Look("ja", 40, g.ASCII)):
            text = "\n".join(lines_of(trace, index, look))
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", text)


def test_its_own_self_check_and_any_that_failed() -> None:
    checks = (SelfCheck("lens_last_equals_logits", 1e-7, 1e-5), SelfCheck("probabilities_sum_to_1", 0.0, 1e-9))
    trace = golden_inside(1, self_checks=(*checks, SelfCheck("cached_equals_uncached", 1.0, 1e-5)))
    lines = [line for line in lines_of(trace, 0, EN) if "self-check" in line.lower()]
    assert lines == [
        "self-check when generated, the lens at the last layer equals the logits: error 1e-7, within 1e-5",
        "SELF-CHECK FAILED cached and uncached logits agree: error 1, limit 1e-5",
    ]


def test_document() -> None:
    trace = golden_inside(sampling=Sampling(temperature=1), ablate=("head:1.0",))
    found = lens(trace, 2)
    document = json.loads(json.dumps(lens_document(trace, found), allow_nan=False))
    assert document["schema"] == "manako.lens/1" and document["ablate"] == ["head:1.0"]
    assert document["step"] == json.loads(json.dumps(step_record(trace.steps[2], 10)))
    assert [row["layer"] for row in document["layers"]] == ["embed", "0", "1"]
    assert [row["p"] for row in document["layers"]] == [r.p for r in found.chosen]
    assert all(len(row["candidates"]) == 10 for row in document["layers"])
    assert document["tracked"][0]["id"] == trace.steps[2].token_id
    assert document["tracked"][0]["rank"] == [r.rank for r in found.chosen]
    assert (document["appears"], document["wins"]) == tuple(
        None if n is None else found.layers[n] for n in (found.appears, found.wins)
    )
