"""Which cases of a test the fast lane runs; all of them are run by scripts/test."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def mostly_slow(names: Iterable[Any], fast: Collection[Any]) -> list[Any]:
    """The names of all cases, for `parametrize`: those that are not among the `fast` ones are marked slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]
