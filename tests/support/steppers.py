"""Steppers to move: through a toy model's text, and through a trace whose model is another one."""

from typing import Any

from toy import toy_model

from manako.model import Model
from manako.settings import RunSettings
from manako.trace.record import Trace
from manako.trace.tree import Branch, Tree
from manako.tui.stepper import Stepper

MODEL = toy_model()


def begun(prompt: str = "私", most: int = 50, **settings: Any) -> Stepper:
    """One that draws with seed 1."""
    return Stepper.begin(lambda: MODEL, prompt, RunSettings(seed=1, max_new_tokens=most).changed(**settings))


def read(trace: Trace) -> Stepper:
    """One that opens a trace."""

    def load() -> Model:
        return MODEL

    return Stepper.read(load, Tree((Branch("1", None, 0, trace),), "1"), 50)
