"""The screen of the stepper as a picture: every cell at its place, whatever font a viewer has."""

import asyncio
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from textual.pilot import Pilot

from manako.tui.app import StepApp

CELL, LINE, SIZE = 8, 18, 13.5
PAPER, INK = "#14171c", "#d7dce2"
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK JP', 'MS Gothic', monospace"


def rows(app: StepApp) -> list[list[Segment]]:
    """What stands on the screen, a list of runs for each row."""
    width, height = app.size
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    update: Any = app.screen._compositor.render_update(full=True)
    return list(Segment.split_lines(s for s in console.render(update) if not s.control))[:height]


def text(app: StepApp) -> str:
    """The same without colours."""
    return "\n".join("".join(s.text for s in row).rstrip() for row in rows(app)) + "\n"


def svg(app: StepApp) -> str:
    """The same as a picture."""
    columns, height = app.size
    drawn = [_run(s, x, y) for y, row in enumerate(rows(app)) for x, s in _placed(row)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * CELL} {height * LINE}" '
        f'width="{columns * CELL}" height="{height * LINE}">\n<rect width="100%" height="100%" fill="{PAPER}"/>\n'
        f'<g font-family="{FONTS}" font-size="{SIZE}" xml:space="preserve">\n' + "\n".join(filter(None, drawn)) +
        "\n</g>\n</svg>\n"
    )  # fmt: skip


def played(app: StepApp, size: tuple[int, int], keys: Sequence[str] = (), then: Any = None) -> str:
    """The picture after some keys. then: called with the pilot before it is taken."""

    async def run() -> str:
        async with app.run_test(size=size) as pilot:
            await press(pilot, *keys)
            if then is not None:
                await then(pilot)
            return svg(app)

    return asyncio.run(run())


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one after the other, each until it is shown."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


def _placed(row: Sequence[Segment]) -> list[tuple[int, Segment]]:
    found, x = [], 0
    for segment in row:
        found.append((x, segment))
        x += cell_len(segment.text)
    return found


def _run(segment: Segment, column: int, row: int) -> str:
    """One run of one style: its ground, characters at their cells, bars as rectangles."""
    style, top = segment.style, row * LINE
    ink = style.color.get_truecolor().hex if style and style.color and not style.color.is_default else INK
    ground = style.bgcolor.get_truecolor().hex if style and style.bgcolor and not style.bgcolor.is_default else PAPER
    if style and style.reverse:
        ink, ground = ground, ink
    made, places, letters = "", list[str](), ""
    wide = cell_len(segment.text) * CELL
    if ground != PAPER:
        made += f'<rect x="{column * CELL}" y="{top}" width="{wide}" height="{LINE}" fill="{ground}"/>'
    for ch in segment.text:
        x = column * CELL
        if ch in "\u2588\u258c":
            bar = CELL if ch == "\u2588" else CELL // 2
            made += f'<rect x="{x}" y="{top + 3}" width="{bar}" height="{LINE - 6}" fill="{ink}"/>'
        elif not ch.isspace():
            places.append(str(x))
            letters += ch
        column += cell_len(ch)
    looks = ' font-weight="bold"' if style and style.bold else ""
    looks += ' text-decoration="underline"' if style and style.underline else ""
    if letters:
        made += f'<text x="{" ".join(places)}" y="{top + 14}" fill="{ink}"{looks}>{escape(letters)}</text>'
    return made
