"""Why a token in a terminal: golden texts, signed bars on their side, sums that close, hostile tokens and parts."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyte
import pytest
from golden import golden_inside, large_inside
from rich.cells import cell_len
from toy import toy_model

from manako.analysis.contributions import contributions
from manako.messages.numbers import signed
from manako.trace.record import SelfCheck, Trace
from manako.views.document import step_record, why_document
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look
from manako.views.terminal.why import why_lines

EN = Look("en", 80)


def lines_of(trace: Trace, index: int, look: Look, rather_than: int | None = None) -> list[str]:
    """As the command shows them. rather_than: a place among the tokens on record."""
    on_record = contributions(trace, index)
    chosen = on_record.step.chosen
    rival = None if rather_than is None else on_record.tokens[rather_than]
    next_best = on_record.next_best(chosen) if rival is None else None
    beside = on_record.why(chosen, next_best) if next_best else None
    return [line.plain for line in why_lines(trace, on_record.step, on_record.why(chosen, rival), beside, look)]


def part_rows(lines: list[str]) -> list[str]:
    return [
        line
        for line in lines
        if re.match(r"(\S*embed|head:|mlp:|attn_bias:|final_bias).* [+-]?\d+\.\d\d", line) and "=" not in line
    ]


@pytest.mark.parametrize(
    ("name", "look", "rather_than"),
    [
        ("why-en-80.txt", EN, None),
        ("why-ja-80.txt", Look("ja", 80), None),
        ("why-ja-40.txt", Look("ja", 40, top=4), None),
        ("why-en-120-ascii.txt", Look("en", 120, g.ASCII), None),
        ("why-plain-en.txt", replace(EN, plain=True, top=4), None),
        ("why-plain-ja.txt", Look("ja", 80, plain=True, top=4), None),
        ("why-rather-en-80.txt", EN, 1),
        ("why-rather-ja-80.txt", Look("ja", 80), 1),
        ("why-rather-plain-en.txt", replace(EN, plain=True, top=4), 1),
    ],
)
def test_golden(check_golden: Callable[[str, str], None], name: str, look: Look, rather_than: int | None) -> None:
    trace = golden_inside()
    lines = [*lines_of(trace, 0, look, rather_than), "", *lines_of(trace, 5, look, rather_than)]
    check_golden(name, "\n".join(lines) + "\n")


def test_rows_and_rest_make_the_logit() -> None:
    trace = toy_model(n_layer=4).trace("私は", max_new_tokens=4, seed=1, capture=["contributions"])
    for index in range(4):
        for rather_than in (None, 2):
            for top in (1, 3, 10):
                lines = lines_of(trace, index, replace(EN, top=top), rather_than)
                rows = [*part_rows(lines), next(line for line in lines if re.match(r"other \d", line))]
                raw = 0 if rather_than else 1  # beside the difference from the mean
                shown = sum(float(re.findall(r"[+-]?\d+\.\d\d", row)[raw]) for row in rows)
                total = next(line for line in lines if line.startswith("embedding "))
                assert abs(shown - float(total.split()[-1])) < 0.006 * len(rows)
                groups = [float(n) for n in re.findall(r"[+-]?\d+\.\d\d", total)]
                assert len(groups) == 5 and round(sum(groups[:4]), 2) == groups[4]  # as printed


def test_bars_stand_on_their_side_and_the_longest_is_full() -> None:
    trace = golden_inside()
    for index in range(12):
        for look in (Look("en", 100), Look("ja", 60, g.ASCII)):
            sides = {}
            for row in part_rows(lines_of(trace, index, look)):
                value = float(re.findall(r"[+-]?\d+\.\d\d", row)[0])
                left, right = row.split("|")
                bars = left.count(look.glyphs.full), right.count(look.glyphs.full)
                assert bars[0] == 0 if value >= 0 else bars[1] == 0
                sides[abs(value)] = sum(bars)
            lengths = [sides[value] for value in sorted(sides)]
            assert lengths == sorted(lengths) and lengths[-1] > 0


def test_the_axis_is_one_column_in_a_terminal() -> None:
    places = set()
    for row in part_rows(lines_of(golden_inside(), 5, Look("ja", 80))):
        screen = pyte.Screen(80, 2)
        pyte.Stream(screen).feed(row)
        places.add(tuple(x for x in range(80) if screen.buffer[0][x].data == "|"))
    assert len(places) == 1 and len(places.pop()) == 1


def test_layers_hold_every_layer_once() -> None:
    trace = toy_model(n_layer=30, n_head=4).trace("私", max_new_tokens=1, seed=1, capture=["contributions"])
    for columns in (20, 40, 80, 100):
        lines = lines_of(trace, 0, Look("en", columns))
        heads = [line for line in lines if re.match(r"layer +\d", line)]
        assert [int(n) for line in heads for n in line.split()[1:]] == list(range(30))
        table = [line for line in lines if re.match(r"(layer +\d|heads +[+-]?\d|MLP +[+-]?\d)", line)]
        assert len(table) == 3 * len(heads) and max(map(cell_len, table)) <= columns


def test_a_model_without_attention_has_no_heads() -> None:
    trace = toy_model(attention=False).trace("私", max_new_tokens=1, seed=1, capture=["contributions"])
    lines = lines_of(trace, 0, EN)
    assert "heads       -       -" in lines and "model trained with ablations: no_attention" in lines
    assert not any(line.startswith("head:") for line in lines)


def test_next_best_in_one_line_and_what_the_draw_did() -> None:
    """Step 5 takes rank 1; a step that took a lower rank says that the model itself preferred another."""
    trace = golden_inside()
    ranks = [step.chosen.rank for step in trace]
    assert {1, 2} <= set(ranks)
    for index, rank in enumerate(ranks):
        lines = lines_of(trace, index, EN)
        (line,) = [line for line in lines if line.startswith("Rather than")]
        assert ("(next best)" in line) == (rank == 1) and ("(likelier)" in line) == (rank > 1)
        step = trace.steps[index]
        other = step.candidates[1 if rank == 1 else 0]
        assert f": {signed(step.chosen.logit - other.logit)}; most in favour" in line
        drawn = [line for line in lines if line.startswith("The model itself gave")]
        assert len(drawn) == (other.logit > step.chosen.logit)
        assert not any(line.startswith("Rather than") for line in lines_of(trace, index, EN, 1))


def test_a_score_says_nothing_of_a_draw() -> None:
    trace = toy_model().score("私は猫が", capture=["contributions"])
    for index in range(len(trace)):
        lines = lines_of(trace, index, EN)
        assert any(line.startswith(">>> in the given text") for line in lines)
        assert not any("random" in line for line in lines)


def test_how_to_switch_it_off_and_look_again() -> None:
    trace = golden_inside()
    on_record = contributions(trace, 0)
    part = on_record.why(on_record.step.chosen).switchable
    assert part is not None
    numpy = replace(trace, header=replace(trace.header, model=replace(trace.header.model, engine="numpy")))
    assert any(line.startswith(f"To ablate {part.name}: manako compare ") for line in lines_of(numpy, 0, EN))
    other = replace(trace, header=replace(trace.header, model=replace(trace.header.model, engine="transformers")))
    assert not any("--ablate" in line for line in lines_of(other, 0, EN))  # that engine cannot


def test_its_own_self_check_and_a_sum_that_does_not_close() -> None:
    trace = golden_inside(1, self_checks=(SelfCheck("contributions_sum_to_logit", 0.5, 1e-4),))
    assert any(line.startswith("SELF-CHECK FAILED contributions sum") for line in lines_of(trace, 0, EN))
    assert any(
        line.startswith("All parts are included; the sum differs from the logit by ") for line in lines_of(trace, 0, EN)
    )
    on_record = contributions(trace, 0)
    wrong = np.zeros_like(on_record.value)
    wrong[2, 0] = 0.25
    on_record = replace(on_record, value=on_record.value + wrong)
    lines = [line.plain for line in why_lines(trace, on_record.step, on_record.why(on_record.step.chosen), None, EN)]
    assert "THE PARTS DO NOT SUM TO THE LOGIT: 0.25 is missing." in lines


@pytest.mark.parametrize("columns", [40, 44, 60, 79, 80, 100, 160])
def test_tables_fit_and_line_up(columns: int) -> None:
    trace = golden_inside()
    for index in range(12):
        for lang in ("en", "ja"):
            for rather_than in (None, 2):
                rows = part_rows(lines_of(trace, index, Look(lang, columns), rather_than))
                assert len(rows) == 10 and max(map(cell_len, rows)) <= columns
                ends = [tuple(cell_len(r[: m.end()]) for m in re.finditer(r"[+-]?\d+\.\d\d", r)) for r in rows]
                assert len(set(ends)) == 1 and len(ends[0]) == (2 if rather_than is None else 1)


def test_no_width_is_a_crash() -> None:
    traces = [golden_inside(), large_inside()]
    for columns in range(1, 200):
        look = Look("ja" if columns % 3 else "en", columns, plain=columns % 7 == 0)
        lines_of(traces[columns % 2], columns % 6, look, None if columns % 5 else 1)


def test_nothing_but_text_leaves() -> None:
    trace = golden_inside()
    odd = (
        "\x1b[2J",
        "\N{RIGHT-TO-LEFT OVERRIDE}head:0.0",
        "[bold]",
        "",
        "x" * 500,
        "embed",
        "a\nb",
        "mlp:0",
        "あ",
        "b",
        "c",
    )
    made_up = replace(trace, header=replace(trace.header, parts=odd))
    for index in range(12):
        for look in (replace(EN, top=20), replace(EN, plain=True, top=20), Look("ja", 40, g.ASCII, top=20)):
            for each in (trace, made_up):
                text = "\n".join(lines_of(each, index, look))
                assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", text)


def test_document() -> None:
    trace = golden_inside(ablate=("mlp:1",))
    on_record = contributions(trace, 4)
    a, b = on_record.tokens[:2]
    found = on_record.why(a, b)
    document = json.loads(json.dumps(why_document(trace, on_record, found), allow_nan=False))
    assert document["schema"] == "manako.why/1" and document["ablate"] == ["mlp:1"]
    assert document["step"] == json.loads(json.dumps(step_record(trace.steps[4], 10)))
    assert (document["token"]["id"], document["rather_than"]["id"]) == (a.id, b.id)
    assert sum(part["value"] for part in document["parts"]) == pytest.approx(document["sum"])
    assert document["logit"] == document["sum"] + document["remainder"] == pytest.approx(a.logit - b.logit)
    assert [part["name"] for part in document["parts"]] == list(trace.header.parts)
    assert sum(document["groups"].values()) == pytest.approx(document["sum"])
    assert [layer["layer"] for layer in document["layers"]] == [0, 1]
    assert [token["id"] for token in document["on_record"]] == [c.id for c in on_record.tokens]
    alone = why_document(trace, on_record, on_record.why(a))
    assert alone["rather_than"] is None and all(isinstance(p["over_mean"], float) for p in alone["parts"])
