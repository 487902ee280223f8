"""Curves in a terminal: several over one pair of axes, in Braille dots, two by four to a cell.

Special here: a column of dots shows the mean of the points that fall into it, and neighbours are joined by straight
lines; a curve of marks shows each of its points. Where there are no Braille dots a letter stands for a whole cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rich.text import Text

from manako.messages.numbers import count, fixed

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column of a cell
_BLANK = 0x2800
_GAP = 2  # between a number at the side and its tick


@dataclass(frozen=True)
class Curve:
    """One series: points in the order of x, how it looks, and a letter for each point in place of a line."""

    points: Sequence[tuple[float, float]]
    style: str = ""
    mark: str = ""
    letter: str = "*"
    """What a line is drawn with where there are no dots."""


def chart(curves: Sequence[Curve], columns: int, rows: int, dots: bool = True) -> list[Text]:
    """Curves with their axes in so many cells; nothing where no curve has a point. Points that are no number are left
    out. The ends of both axes are labelled with what they stand for.
    """
    shown = [Curve([p for p in c.points if isfinite(p[1])], c.style, c.mark, c.letter) for c in curves]
    every = [point for curve in shown for point in curve.points]
    if not every:
        return []
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    top, bottom = fixed(high, 2), fixed(low, 2)
    side = max(len(top), len(bottom)) + _GAP
    width, height = columns - side, rows - 1
    wide, tall = (2 * width, 4 * height) if dots else (width, height)

    def place(x: float, y: float) -> tuple[int, int]:
        across = (x - left) / (right - left) if right > left else 0.0
        down = (high - y) / (high - low) if high > low else 0.0
        return round(across * (wide - 1)), round(down * (tall - 1))

    cells = [[(" ", "")] * width for _ in range(height)]
    for curve in shown:
        if curve.mark:
            for x, y in (place(*point) for point in curve.points):
                across, down = (x // 2, y // 4) if dots else (x, y)
                cells[down][across] = (curve.mark, curve.style)
        else:
            for x, y in _joined(_means([place(*point) for point in curve.points])):
                across, down = (x // 2, y // 4) if dots else (x, y)
                was = cells[down][across][0]
                bits = ord(was) - _BLANK if was != " " and ord(was) >= _BLANK else 0
                letter = chr(_BLANK + (bits | _DOTS[y % 4][x % 2])) if dots else curve.letter
                cells[down][across] = (letter, curve.style)
    lines = list[Text]()
    for n, row in enumerate(cells):
        label = top if n == 0 else bottom if n == height - 1 else ""
        line = Text(f"{label:>{side - _GAP}} ", "dim", no_wrap=True)
        line.append("\u2502" if dots else "|", "dim")
        for letter, style in row:
            line.append(letter, style)
        lines.append(line)
    ends = (count(round(left)), count(round(right)))
    lines.append(Text(" " * side + ends[0] + ends[1].rjust(width - len(ends[0])), "dim", no_wrap=True))
    return lines


def _means(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """One point a column: the mean of those in it."""
    columns: dict[int, list[int]] = {}
    for x, y in places:
        columns.setdefault(x, []).append(y)
    return [(x, round(sum(ys) / len(ys))) for x, ys in sorted(columns.items())]


def _joined(places: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """All dots of the straight lines from each point to the next."""
    found = set(places)
    for (x, y), (to_x, to_y) in zip(places, places[1:], strict=False):
        steps = max(to_x - x, abs(to_y - y))
        found |= {(x + round((to_x - x) * n / steps), y + round((to_y - y) * n / steps)) for n in range(1, steps)}
    return found
