"""Points and lines over two axes, in cells of a terminal.

Special here: letters of ASCII alone, one for each series, so that it is the same in any terminal, without colours too.
Where two series meet, the one that comes first in the list shows; a line never hides a point.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from manako.messages.numbers import fixed

HEIGHT, LEAST_WIDTH, MOST_WIDTH = 14, 16, 72
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Series:
    """What is drawn with one letter."""

    letter: str
    points: Sequence[tuple[float, float]]
    line: Sequence[tuple[float, float]] = ()
    """Drawn with dots, below all points."""


def chart(
    series: Sequence[Series], columns: int, x_title: str, y_title: str, tick: Callable[[float], str]
) -> Iterator[Text]:
    """A chart over a logarithmic x axis, as wide as fits in `columns`. tick: how numbers of x read."""
    everything = [p for s in series for p in (*s.points, *s.line)]
    xs, ys = [math.log(x) for x, _ in everything], [y for _, y in everything]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    marks = [fixed(high - (high - low) * n / 4, 2) for n in range(5)]
    edge = max(map(len, marks))
    width = max(min(columns - edge - 3, MOST_WIDTH), LEAST_WIDTH)
    cells = [[" "] * width for _ in range(HEIGHT)]

    def put(x: float, y: float, letter: str) -> None:
        column = round((math.log(x) - left) / (right - left) * (width - 1)) if right > left else width // 2
        row = round((high - y) / (high - low) * (HEIGHT - 1)) if high > low else HEIGHT // 2
        cells[row][column] = letter

    for each in reversed(series):
        for x, y in each.line:
            put(x, y, ".")
    for each in reversed(series):
        for x, y in each.points:
            put(x, y, each.letter)
    yield _line(y_title, "bold")
    for row, line in enumerate(cells):
        place = row * 4 / (HEIGHT - 1)
        mark = marks[round(place)] if abs(place - round(place)) * (HEIGHT - 1) < 2 and _first(row) else ""
        yield _line(f"{mark:>{edge}} |{''.join(line).rstrip()}")
    yield _line(f"{'':>{edge}} +{'-' * width}")
    first, last = tick(math.exp(left)), tick(math.exp(right))
    gap = max(width - len(first) - len(last), 1)
    yield _line(f"{'':>{edge}}  {first}{' ' * gap}{last}")
    yield _line(f"{'':>{edge}}  {x_title}", "dim")


def _first(row: int) -> bool:
    """Whether a mark stands at this row: the one nearest to each quarter of the height."""
    return row in {round(n * (HEIGHT - 1) / 4) for n in range(5)}


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ignore")
