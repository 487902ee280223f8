"""The text as a ribbon: laid out in lines, a piece for each token, of which a window around the cursor is drawn.

Special here: a layout is kept and goes on from the first token that changed, so a key costs the same in a text of ten
thousand tokens as in one of ten. Tokens that are parts of one character show it together, where its last part stands.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from manako.messages.lines import breaks
from manako.trace.record import Vocabulary, bytes_to_text
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look

HIDDEN = -1
"""In place of a token: that nothing is shown of it."""
_PARTS = 4  # tokens of one character at most, which a new token may finish


class Ribbon:
    """A layout of one text at a time."""

    def __init__(self, vocabulary: Vocabulary, look: Look) -> None:
        self._vocabulary, self._look = vocabulary, look
        self._pieces: dict[int, str] = {}
        self._ids: list[int] = []
        self._room = 0
        self._text = ""
        self._offsets = [0]  # of each token in `_text`, and its end
        self._starts = [0]  # of each line in `_text`
        self._top = 0

    def lines(self, ids: list[int], room: int, height: int, cursor: int, style: Callable[[int], str]) -> list[Text]:
        """`height` lines of `room` cells around a token. style: of each token, by its place."""
        self._lay_out(ids, room)
        seen = cursor
        while self._offsets[seen] == self._offsets[seen + 1] and seen + 1 < len(ids):
            seen += 1  # nothing stands for this token: its character does, further on
        at = self._line_of(self._offsets[seen])
        last = max(0, len(self._starts) - height)
        # It moves only where the cursor would leave it, with a line below kept in view where there is one.
        self._top = min(max(min(self._top, at), at - max(0, height - 2)), last)
        ends = [*self._starts[1:], len(self._text)]
        shown = range(self._top, min(self._top + height, len(self._starts)))
        return [self._drawn(self._starts[n], ends[n], lambda i: style(cursor if i == seen else i)) for n in shown]

    def token_at(self, line: int, column: int) -> int | None:
        """The token at a cell of what was drawn last."""
        n = self._top + line
        if not 0 <= n < len(self._starts):
            return None
        end = self._starts[n + 1] if n + 1 < len(self._starts) else len(self._text)
        for at in range(self._starts[n], end):
            column -= cell_len(self._text[at])
            if column < 0:
                return bisect_right(self._offsets, at) - 1
        return None

    def _line_of(self, offset: int) -> int:
        return bisect_right(self._starts, min(offset, max(0, len(self._text) - 1))) - 1

    def _drawn(self, start: int, end: int, style: Callable[[int], str]) -> Text:
        line = Text(no_wrap=True, overflow="ignore")
        for n in range(bisect_right(self._offsets, start) - 1, bisect_left(self._offsets, end)):
            line.append(self._text[max(start, self._offsets[n]) : min(end, self._offsets[n + 1])], style(n))
        return line

    def _lay_out(self, ids: list[int], room: int) -> None:
        same = 0
        if room == self._room:
            if ids == self._ids:
                return
            same = next((n for n, (a, b) in enumerate(zip(ids, self._ids, strict=False)) if a != b), None)
            same = max(0, (min(len(ids), len(self._ids)) if same is None else same) - _PARTS)
        line = max(0, self._line_of(self._offsets[same]) - 1)  # where it ends may hang on what follows it
        self._ids, self._room, self._starts = list(ids), room, self._starts[: line + 1] if same else [0]
        self._text, self._offsets = self._text[: self._offsets[same]], self._offsets[: same + 1]
        added = list(self._spelled(ids[same:]))
        for piece in added:
            self._offsets.append(self._offsets[-1] + len(piece))
        self._text += "".join(added)
        first = self._starts[-1]
        self._starts += [first + n for n in self._broken(self._text[first:])]

    def _broken(self, text: str) -> Iterator[int]:
        """Where the lines but the first begin: also behind every newline of the text."""
        start, mark = 0, self._look.glyphs.newline
        while start < len(text):
            end = text.find(mark, start)
            end = len(text) if end < 0 else end + len(mark)
            yield from (start + n for n in breaks(text[start:end], self._room))
            start = end
            if start < len(text):
                yield start

    def _spelled(self, ids: Sequence[int]) -> Iterator[str]:
        """What stands for each token: nothing for one whose character ends in a later one."""
        waiting = list[bytes]()  # parts of a character, until it is whole
        for token_id in ids:
            data = b"?" if token_id == HIDDEN else self._vocabulary[token_id]
            special = token_id in self._vocabulary.special_ids
            if special or not g.is_partial(data):
                yield from (g.visible_bytes(part, self._look.glyphs) for part in waiting)
                waiting = []
                yield self._piece(token_id, data)
                continue
            waiting.append(data)
            if not g.is_partial(b"".join(waiting)):
                yield from ("" for _ in waiting[1:])
                yield g.prose(b"".join(waiting).decode(), self._look.glyphs)
                waiting = []
            elif len(waiting) == _PARTS:
                yield g.visible_bytes(waiting.pop(0), self._look.glyphs)
        yield from (g.visible_bytes(part, self._look.glyphs) for part in waiting)

    def _piece(self, token_id: int, data: bytes) -> str:
        if token_id not in self._pieces:
            text = bytes_to_text(data)
            if token_id in self._vocabulary.special_ids:
                shown = self._look.say("token.special", text=g.visible(text, self._look.glyphs))
            else:
                shown = g.prose(text, self._look.glyphs) if data else self._look.say("token.empty")
            self._pieces[token_id] = g.cut(shown, max(8, 2 * self._room))
        return self._pieces[token_id]
