"""Pictures of the stepper in both languages and three widths, cell by cell; `pytest --update` draws them again.

Look at them after a change: they are what a reader sees.
"""

from pathlib import Path

import pytest
from golden import golden_inside
from lanes import mostly_slow
from screens import played
from steppers import read

from manako import messages
from manako.tui.app import StepApp
from manako.views.terminal.steps import Look

GOLDEN = Path(__file__).parent / "golden"
TAKEN = {  # name -> (size, keys)
    "choice-60": ((60, 26), ["right"] * 6 + ["left"] * 2),
    "settings-100": ((100, 36), ["right"] * 4 + ["t", "right", "right", "down", "down", "left"]),
    "why-160": ((160, 44), ["right"] * 3 + ["4", "down"]),
    "attention-160": ((160, 44), ["right"] * 8 + ["2"]),
    "guess-60": ((60, 24), ["right"] * 3 + ["g", "down", "enter"]),
    "help-100": ((100, 48), ["question_mark"]),
}


@pytest.mark.parametrize("lang", mostly_slow(messages.LANGUAGES, fast={"ja"}))  # whose cells are two wide
@pytest.mark.parametrize("name", mostly_slow(TAKEN, fast={"choice-60", "why-160"}))
def test_a_picture(name: str, lang: str, request: pytest.FixtureRequest) -> None:
    size, keys = TAKEN[name]
    picture = played(StepApp(read(golden_inside()), Look(lang=lang)), size, keys)
    file = GOLDEN / f"{name}-{lang}.svg"
    if request.config.getoption("--update"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(picture, encoding="utf-8")
    assert picture == file.read_text(encoding="utf-8")
