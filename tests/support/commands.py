"""What the tests of the commands share: what a command leaves behind, and how to start one in a process of its own."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]

MANAKO = [sys.executable, "-W", "error", "-m", "manako"]


def environment(**changes: str) -> Mapping[str, str]:
    """An environment in which nothing of the developer's terminal shows; Python as a user runs it, buffered."""
    hidden = ("LC_", "LANG", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "MANAKO_", "TTY_", "PYTHONIO", "PYTHONU")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"} | changes
