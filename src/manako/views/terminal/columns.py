"""Rows of cells in a terminal: how wide each column is, and which ones give way in a narrow window.

Special here: widths are measured in cells of the terminal, so that Japanese lines up. Columns give way one after the
other, in the order that they name: one shrinks to its `least`, and goes altogether where that is `optional`. What is
left of the room then goes to the one that `fills`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.text import Text

from manako.views.terminal.glyphs import cut

Cell = str | Text | Callable[[int], str | Text]
"""A text is cut where it has no room; a function is given the room, and may answer with several lines."""


@dataclass(frozen=True)
class Column:
    """Cells below each other, one for each row; the last rows may have none."""

    cells: Sequence[Cell]
    title: str = ""
    right: bool = False
    """Whether it is a number, which stands at the right edge."""
    gap: int = 1
    """Cells between it and the column before."""
    wide: int = 0
    """Cells that it has even where it needs fewer."""
    most: int = 1000
    """Cells that it never exceeds."""
    fills: bool = False
    """Whether it begins at `wide` and takes what is left of the room."""
    gives_way: int = 0
    """Its turn when the room is too narrow, from 1; 0 never."""
    least: int | None = None
    """Cells to which it shrinks; None where it does not."""
    optional: bool = False
    """Whether it is left out, when its turn comes and shrinking is not enough."""

    @property
    def wanted(self) -> int:
        """Cells for all that is in it."""
        if self.fills:
            return self.wide
        shown = [self.shown(n, self.most).plain for n in range(len(self.cells))]
        needed = max((cell_len(line) for text in shown for line in text.split("\n")), default=0)
        return max(self.wide, cell_len(self.title), min(needed, self.most))

    def shown(self, row: int, cells: int) -> Text:
        """One cell in so much room."""
        cell = self.cells[row] if row < len(self.cells) else ""
        found = cell(cells) if callable(cell) else cut(cell, cells) if isinstance(cell, str) else cell
        return Text(found) if isinstance(found, str) else found


def number(cells: Sequence[Cell], title: str = "") -> Column:
    """A column of shares or contributions: seven cells, as 0.0123% and +123.45 need, so that tables line up."""
    return Column(cells, title, right=True, wide=7)


def rows(columns: Sequence[Column], room: int, styles: Sequence[str] = (), titles: str = "dim") -> Iterator[Text]:
    """A table in `room` cells: a line of titles where there are any, then the rows. styles: of each row."""
    columns, widths = _fitted(columns, room)
    if any(c.title for c in columns):
        heads = [Text(cut(c.title, width)) for c, width in zip(columns, widths, strict=True)]
        yield _line(columns, widths, heads, titles)
    for n in range(max(len(c.cells) for c in columns)):
        cells = [c.shown(n, width).split("\n", allow_blank=True) for c, width in zip(columns, widths, strict=True)]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else Text() for cell in cells]
            yield _line(columns, widths, parts, styles[n] if n < len(styles) else "")


def blocks(
    left: Sequence[Column], more: Sequence[Column], room: int, styles: Sequence[str] = (), titles: str = "dim"
) -> Iterator[Text]:
    """A table; where not all of `more` fit, several below each other, each with the same columns on the left."""
    while True:
        used = sum(c.gap + (c.wanted if c.least is None else c.least) for c in left) - left[0].gap
        ends = [used := used + c.gap + c.wanted for c in more]
        count = max(1, sum(end <= room for end in ends))
        table = [*left, *more[:count]]
        yield from rows(table, room, styles, titles)
        widths = _fitted(table, room)[1]  # the same in every table
        left = [replace(c, wide=w, most=w, least=None) for c, w in zip(left, widths, strict=False)]
        if not (more := more[count:]):
            return
        yield Text("")


def _fitted(columns: Sequence[Column], room: int) -> tuple[Sequence[Column], list[int]]:
    """The columns that stay, and their widths."""
    widths = [c.wanted for c in columns]
    over = sum(widths) + sum(c.gap for c in columns[1:]) - room
    for n in sorted((n for n, c in enumerate(columns) if c.gives_way), key=lambda n: columns[n].gives_way):
        least = columns[n].least
        if over > 0 and least is not None:
            shrunk = min(widths[n], max(least, widths[n] - over))
            over, widths[n] = over - widths[n] + shrunk, shrunk
        if over > 0 and columns[n].optional:
            return _fitted([*columns[:n], *columns[n + 1 :]], room)
    for n, c in enumerate(columns):
        if c.fills and over < 0:
            widths[n] = min(c.most, widths[n] - over)
    return columns, widths


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Text], style: str) -> Text:
    line = Text(style=style, no_wrap=True, overflow="ignore")
    space = 0  # what is due before the next cell: one piece, since each costs more than what is in it
    for n, (column, width, cell) in enumerate(zip(columns, widths, cells, strict=True)):
        left_over = max(0, width - cell.cell_len)
        space += (column.gap if n else 0) + (left_over if column.right else 0)
        line.append(" " * space).append_text(cell)
        space = 0 if column.right else left_over
    line.rstrip()
    return line
