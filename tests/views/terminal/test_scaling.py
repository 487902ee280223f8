"""Power laws in a terminal: golden texts; what was not fitted is said and not drawn; names stay text."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from manako.analysis.scaling import JOINT, Constant, Law, LeftOut, Refusal, Scaling
from manako.analysis.sweep import Outcome
from manako.views.terminal.scaling import scaling_lines
from manako.views.terminal.steps import Look

LEFT_OUT = LeftOut("9_n_embd=64", 4.0, Constant(3.9, 3.5, 4.25))
BY_FLOPS = Law(
    ("flops",), [((1e9 * 4**n,), 1.5 + 4 / 2**n) for n in range(5)], Constant(1.5, 1.25, 1.75),
    [Constant(126491.1, 1e5, 2e5)], [Constant(0.5, 0.25, 0.75)], LEFT_OUT,
)  # fmt: skip
TOGETHER = Law(
    JOINT, [((n, d), 1.0 + 100 / n**0.5 + 1000 / d**0.5) for n in (1e4, 4e4) for d in (1e5, 1e6, 1e7)],
    Constant(1.0, 0.0, 1.5), [Constant(100.0, 50.0, 200.0), Constant(1000.0, 1.0, 2e6)],
    [Constant(0.5, 0.25, 0.75), Constant(0.5, 0.25, 1.0)], LEFT_OUT,
)  # fmt: skip
ONE = Outcome("r", {}, 1000, 300, 64, 10**6, 100, 1e6, 1e9, 60.0, 4.0, 100, 4.0, 1.0, [[100, 4.0]])
FOUND = [
    Scaling(
        (("tokenizer", "char"),), [ONE] * 6,
        [
            Refusal(("parameters",), 3, 5, "parameters"), Refusal(("characters",), 1, 5, "characters"),
            BY_FLOPS, TOGETHER,
        ],
    ),
    Scaling(
        (("tokenizer", "evil\x1b[2J\u202e"),), [ONE] * 7,
        [Refusal(("flops",), 4, 5, "flops"), Refusal(JOINT, 7, 8, "runs")],
    ),
]  # fmt: skip


def text_of(look: Look) -> str:
    return "\n".join(line.plain for line in scaling_lines(FOUND, look)) + "\n"


@pytest.mark.parametrize(("name", "look"), [
    ("scaling-en-80.txt", Look("en", 80)),
    ("scaling-ja-80.txt", Look("ja", 80)),
    ("scaling-ja-40.txt", Look("ja", 40)),
    ("scaling-plain-en.txt", Look("en", 80, plain=True)),
])  # fmt: skip
def test_golden(name: str, look: Look, check_golden: Callable[[str, str], None]) -> None:
    check_golden(name, text_of(look))


def test_a_refusal_is_a_sentence_and_no_picture() -> None:
    text = text_of(Look("en", 80))
    assert text.count("+--") == 2 and text.count("Not fitted") == 4


def test_nothing_but_text_leaves() -> None:
    for look in (Look("ja", 60), replace(Look("en", 60), plain=True)):
        assert not {"\x1b", "\u202e"} & set(text_of(look))
