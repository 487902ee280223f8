"""The merge player in a terminal: a text put together, one merge a line, with what the merge is and the text after it.

Special here: of a text that is too long for its column, the part around the first place of the merge is shown.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.merges import Merge, Replay, Span
from manako.messages.numbers import count
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, rows
from manako.views.terminal.steps import Look

_TEXT_CELLS = 20  # least for the text
_PART_CELLS = 12  # most of one part of a merge
_MORE = "~"  # as where a cell is cut
_MADE, _CUT = "bold yellow", "dim"


def merges_lines(replay: Replay, look: Look) -> Iterator[Text]:
    """All merges of a text, in order."""
    ref = g.prose_tail(replay.ref, look.glyphs, 40)
    if look.plain:
        yield from _sentences(replay, ref, look)
        return
    yield Text(look.say("merges.title", ref=ref, count=count(len(replay.merges))), style="bold")
    steps: list[tuple[Sequence[Span], Sequence[Span]]] = [
        (replay.begin, ()),
        *((m.pieces, m.places) for m in replay.merges),
    ]
    shown = [partial(_text, replay.read, pieces, places, look) for pieces, places in steps]
    columns = [
        Column(["", *(count(m.rank) for m in replay.merges)], look.say("merges.rank"), right=True),
        Column(["", *(_count(m, look) for m in replay.merges)], look.say("merges.count"), right=True, gap=2),
        Column(["", *(_pair(m, look) for m in replay.merges)], look.say("merges.merge"), gap=2),
        Column(shown, look.say("merges.text"), gap=2, wide=_TEXT_CELLS, fills=True),
    ]
    yield from rows(columns, look.columns)
    yield Text(look.say("merges.none" if not replay.merges else "merges.how"), style="dim")
    if replay.merges and replay.merges[0].count is None:
        yield Text(look.say("merges.unknown"), style="dim")


def _sentences(replay: Replay, ref: str, look: Look) -> Iterator[Text]:
    yield Text(look.say("merges.title", ref=ref, count=count(len(replay.merges))))
    for number, merge in enumerate(replay.merges, 1):
        parts = {name: g.visible_bytes(getattr(merge, name), look.glyphs) for name in ("left", "right", "made")}
        said = {"number": number, "rank": count(merge.rank), "places": count(len(merge.places)), **parts}
        if merge.count is None:
            yield Text(look.say("merges.plain", **said))
        else:
            yield Text(look.say("merges.plain_counted", count=count(merge.count), **said))


def _count(merge: Merge, look: Look) -> str:
    return look.say("merges.not_known") if merge.count is None else count(merge.count)


def _pair(merge: Merge, look: Look) -> Text:
    left, right = (g.cut(g.visible_bytes(part, look.glyphs), _PART_CELLS) for part in (merge.left, merge.right))
    times = f" x{len(merge.places)}" if len(merge.places) > 1 else ""
    return Text(f"{left} + {right}").append(times, "dim")


def _text(read: bytes, pieces: Sequence[Span], places: Sequence[Span], look: Look, cells: int) -> Text:
    """The text with its cuts, as much of it as fits around the first place."""
    shown = [g.visible_bytes(read[start:end], look.glyphs) for start, end in pieces]
    first, last = _window([cell_len(text) + 1 for text in shown], _first(pieces, places), cells)
    line = Text(_MORE if first else "")
    for n in range(first, last):
        line.append(g.cut(shown[n], max(cells - 2, 1)), _MADE if pieces[n] in places else "")
        if n < len(pieces) - 1:
            line.append("|", _CUT)
    if last < len(pieces):
        line.append(_MORE)
    return line


def _first(pieces: Sequence[Span], places: Sequence[Span]) -> int:
    return next((n for n, piece in enumerate(pieces) if piece in places), 0)


def _window(sizes: Sequence[int], middle: int, cells: int) -> tuple[int, int]:
    """(first, behind the last) of the pieces that fit, with room for a mark at each end, grown around the middle."""
    if sum(sizes) - 1 <= cells:
        return 0, len(sizes)
    first, last, used = middle, middle + 1, sizes[middle] + 2
    while True:
        grown = used
        if last < len(sizes) and used + sizes[last] <= cells:
            used, last = used + sizes[last], last + 1
        if first and used + sizes[first - 1] <= cells:
            first, used = first - 1, used + sizes[first - 1]
        if used == grown:
            return first, last
