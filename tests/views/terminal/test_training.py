import math
from dataclasses import replace

import pytest
from rich.cells import cell_len

from manako.views.terminal.glyphs import ASCII
from manako.views.terminal.steps import Look
from manako.views.terminal.training import Probe, Told, panel_lines, summary_lines


def told() -> Told:
    held_out = [(float(step), 4 * math.exp(-step / 150) + 2.8) for step in range(100, 740, 100)]
    return Told(
        "runs/mine",
        step=840,
        steps="2,000",
        share=0.42,
        left="2.9",
        losses=[(float(step), 5 * math.exp(-step / 150) + 2.6) for step in range(1, 841)],
        held_out=held_out,
        bits=[(int(step), loss / math.log(2)) for step, loss in held_out],
        tokens_s=4_211.2,
        mfu=0.382,
        samples=[(0, "私は\x1b[2J㵒"), (700, "私は、そう思った。\n「ええ」と")],
        probes=(Probe("顔", "を", [(0, 0.0002, 1_820), (700, 0.143, 2)]),),
    )


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("rows", [8, 16, 40])
def test_the_panel_stays_in_its_room(lang: str, columns: int, rows: int) -> None:
    lines = panel_lines(told(), Look(lang, columns), rows)
    assert len(lines) <= max(rows, 8) and all(cell_len(line.plain) <= columns for line in lines)
    assert not any("\x1b" in line.plain or "\n" in line.plain for line in lines)


def test_the_panel_shows_the_numbers_that_were_told() -> None:
    shown = "\n".join(line.plain for line in panel_lines(told(), Look("en", 110), 40))
    for wanted in (
        "step 840/2,000",
        "42.0%  2.9 min left",
        "loss of each batch: 2.618 nats per token",
        "validation text: 2.838 nats per token, 4.094 bits per character (best 4.094, step 700)",
        "4,211 tokens/s; the work is 38.2%",
        "step 0: 私は",
        "step 700: 私は、そう思った。",
        "“顔” → “を”: 0.0200% (rank 1,820, step 0) → 14.3% (rank 2, step 700)",
        "manako resume runs/mine",
    ):
        assert wanted in shown


def test_the_first_step_has_no_curve_yet_and_nothing_breaks() -> None:
    assert len(panel_lines(Told("m"), Look("ja", 80), 24)) == 2
    assert list(summary_lines(Told("m"), Look("ja", 80))) == []


def test_a_terminal_without_such_letters_gets_others() -> None:
    lines = panel_lines(told(), Look("en", 80, replace(ASCII, encoding="ascii")), 30)
    curve = "".join(line.plain for line in lines[1:10])
    assert curve.isascii() and "*" in curve and "o" in curve


def test_the_summary_compares_then_and_now() -> None:
    lines = [line.plain for line in summary_lines(told(), Look("en", 80))]
    assert lines[0] == "loss of a batch: 7.57 → 2.62 nats per token by step 840"
    assert lines[1] == "validation text: 4.094 bits per character at step 700, the best"
    assert lines[2].startswith("step 0: ") and lines[3].startswith("step 700: ") and len(lines) == 5
