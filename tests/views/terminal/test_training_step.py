"""One step of training in a terminal: it fits the window, numbers keep their sign, hostile tokens stay text."""

from dataclasses import replace

import pytest
from rich.cells import cell_len

from manako.analysis.training_step import PartMoved, TokenChange, TrainingStep
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look
from manako.views.terminal.training_step import training_step_lines

TOKENS = (  # bits before and after: 4 to 2, 1 to 1.5
    TokenChange(1, "猫".encode(), "猫", False, 4.0, 2.0),
    TokenChange(2, "で".encode(), "で", False, 1.0, 1.5),
)
PARTS = (
    PartMoved("embedding", None, 10.0, 0.5, -1.0),
    PartMoved("position", None, 0.0, 0.5, -0.5),
    PartMoved("attn", 0, 2.0, 0.0003, 0.25),
    PartMoved("mlp", 0, 2.0, 0.5, -0.1),
    PartMoved("final_norm", None, 2.0, 0.5, 0.0),
)
STEP = TrainingStep("/home/me/runs/mine", 1200, "猫である", 4, 3.2, 0.5, 0.0025, 0.02, "peak", "猫で", TOKENS, PARTS)


def lines(found: TrainingStep, look: Look) -> list[str]:
    return [line.plain for line in training_step_lines(found, look)]


def test_what_is_derived() -> None:
    assert (STEP.before, STEP.after, STEP.change, STEP.predicted) == (5.0, 3.5, -1.5, -1.35)
    assert STEP.error == pytest.approx(0.1) and replace(STEP, tokens=()).error is None
    assert [part.relative for part in PARTS[:3]] == [0.05, 0.0, 0.00015]


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("columns", [40, 60, 120])
def test_the_tables_fit_and_have_every_number(lang: str, columns: int) -> None:
    shown = lines(STEP, Look(lang, columns))
    assert "1,200" in shown[0] and "mine" in shown[0] and not any("/home/me" in line for line in shown)
    assert "AdamW 0.0025, Muon 0.02" in shown[3]
    cat, no = (next(line for line in shown if f"{a}  " in line or f"{a} " in line) for a in ("4.00", "1.00"))
    assert "-2" in cat and "+0.5" in no and cell_len(cat) <= columns
    attention = next(line for line in shown if "3e-4" in line)
    assert "+0.25" in attention and cell_len(attention) <= columns and ("1.5e-4" in attention or columns == 40)
    assert any("-1.5" in line and "10.0%" in line for line in shown)
    if columns == 120:
        axis = cat.rstrip().rindex("|")
        assert cat[axis - 1] == g.BLOCK.full and g.BLOCK.full not in cat[axis:] and no[axis + 1] == g.BLOCK.full


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_sentences_for_a_reader_of_the_screen(lang: str) -> None:
    shown = "\n".join(lines(replace(STEP, read=None, muon_rate=None), Look(lang, plain=True)))
    assert g.BLOCK.full not in shown and "|" not in shown and "Muon" not in shown
    assert "-2" in shown and "+0.25" in shown and "1.5e-4" in shown


def test_nothing_but_text_leaves(hostile_tokens: tuple[bytes, ...]) -> None:
    tokens = tuple(TokenChange(n, b, b.decode("utf-8", "replace"), False, 1, 2) for n, b in enumerate(hostile_tokens))
    text = "".join(token.text for token in tokens)
    found = replace(STEP, run=text, read=text, text=text, tokens=tokens)
    for plain in (False, True):
        for line in lines(found, Look("en", 80, plain=plain)):
            assert all(ch.isprintable() or ch == "\u3000" for ch in line), line
