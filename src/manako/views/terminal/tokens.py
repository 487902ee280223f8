"""Tokens in a terminal: the same text under each tokenizer with its cuts to see, then every piece with id and bytes.

Special here: rows that read the same text are aligned, each character in one column for all of them, so that a cut of
one row alone stands out. A character that is cut shows once and whole, then its bytes with the cuts between them.
"""

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.tokens import Piece, Tokens
from manako.messages.numbers import count, fixed
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, rows
from manako.views.terminal.steps import Look

_NAME_CELLS = (8, 20)  # of a tokenizer: in a narrow window, and most
_LEAST_ROOM = 12  # cells for the text, however narrow the window
_LABEL_CELLS = (8, 28)
_BYTE_CELLS = 11  # least for the bytes of a piece: four of them
_CUT, _SHARED_CUT, _BYTES = "bold yellow", "dim", "dim"


def tokens_lines(found: Sequence[Tokens], look: Look) -> Iterator[Text]:
    """One text under one or more tokenizers."""
    if look.plain:
        for tokens in found:
            yield from _sentences(tokens, look)
        return
    if any(tokens.pieces for tokens in found):
        yield Text(look.say("tokens.cuts"), style="bold")
        for rows in _readings(found):
            yield from _aligned(rows, look)
    yield from _counts(found, look)
    for tokens in found:
        if tokens.pieces:
            yield Text("")
            yield from _pieces(tokens, look)


# --- the text and its cuts --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Unit:
    """What stands in one place of all rows: a character with the marks on it, or a special token."""

    start: int
    """In bytes of what was read."""
    bytes: bytes
    special: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.bytes)


def _readings(found: Sequence[Tokens]) -> list[list[Tokens]]:
    """The tokenizers by what they read: one that changes the text cannot stand in the columns of the others."""
    groups: dict[object, list[Tokens]] = {}
    for tokens in found:
        groups.setdefault((tokens.read, tuple(_specials(tokens))), []).append(tokens)
    return list(groups.values())


def _aligned(rows: Sequence[Tokens], look: Look) -> Iterator[Text]:
    cuts = [frozenset(tokens.cuts) for tokens in rows]
    anywhere = frozenset[int]().union(*cuts)
    shared = frozenset[int].intersection(*cuts) if len(rows) > 1 else frozenset[int]()
    names = [_name(tokens, look) for tokens in rows]
    if not rows[0].as_given:
        yield Text(look.say("tokens.changed", refs=", ".join(names)))
    indent = max(map(cell_len, names)) + 2
    room = max(look.columns - indent, _LEAST_ROOM)
    lines, used = [Text() for _ in rows], 0
    for unit in _units(rows[0], anywhere):
        shown = [_spelled(unit, row, shared, look, room - 1) for row in cuts]
        cells, gap = max(text.cell_len for text in shown), int(unit.end in anywhere)
        if used + cells + gap > room or (used == 0 and lines[0]):
            yield from _block(names, lines, indent)
            lines, used = [Text() for _ in rows], 0
        style = _SHARED_CUT if unit.end in shared else _CUT
        for line, text, row in zip(lines, shown, cuts, strict=True):
            line.append_text(text).append(" " * (cells - text.cell_len))
            line.append("|" if unit.end in row else " " * gap, style)
        used = 0 if unit.bytes.startswith(b"\n") else used + cells + gap  # a line ends where the text's does
    yield from _block(names, lines, indent)


def _block(names: Sequence[str], lines: Sequence[Text], indent: int) -> Iterator[Text]:
    for name, line in zip(names, lines, strict=True):
        whole = Text(g.pad(name, indent)).append_text(line)
        whole.rstrip()
        yield whole
    yield Text("")


def _units(tokens: Tokens, cuts: Collection[int]) -> Iterator[_Unit]:
    at = 0
    for start, end in (*_specials(tokens), (len(tokens.read), len(tokens.read))):
        yield from _character_units(tokens.read[at:start], at, cuts)
        if end > start:
            yield _Unit(start, tokens.read[start:end], special=True)
        at = end


def _character_units(data: bytes, at: int, cuts: Collection[int]) -> Iterator[_Unit]:
    begun, end, before = b"", at, ""
    for ch in data.decode("utf-8", "surrogateescape"):  # a byte that is no text becomes a surrogate, category Cs
        category = unicodedata.category(ch)
        if begun and (end in cuts or not (category[0] == "M" or category == before == "Cs")):
            yield _Unit(end - len(begun), begun)
            begun = b""
        spelled, before = ch.encode("utf-8", "surrogateescape"), category
        begun, end = begun + spelled, end + len(spelled)
    if begun:
        yield _Unit(end - len(begun), begun)


def _specials(tokens: Tokens) -> Iterator[tuple[int, int]]:
    """(start, end) of each special piece, in bytes of what was read."""
    start = 0
    for piece in tokens.pieces:
        if piece.special:
            yield start, start + len(piece.bytes)
        start += len(piece.bytes)


def _spelled(unit: _Unit, cuts: Collection[int], shared: Collection[int], look: Look, cells: int) -> Text:
    """One unit in one row, in at most `cells` cells: only a heap of marks on one character needs more."""
    text = g.visible_bytes(unit.bytes, look.glyphs)
    if unit.special:
        return Text(g.cut(look.say("token.special", text=text), cells), style="bold")
    bar = f"{look.glyphs.left}|{look.glyphs.right}"  # one of the text's own is no cut
    shown = Text(g.cut(text.replace("|", bar), cells))
    if any(unit.start + n in cuts for n in range(1, len(unit.bytes))):
        shown.append(look.glyphs.left, _BYTES)
        for n, byte in enumerate(unit.bytes):
            if n:
                at = unit.start + n
                shown.append("|" if at in cuts else " ", _SHARED_CUT if at in shared else _CUT)
            shown.append(f"{byte:02X}", _BYTES)
        shown.append(look.glyphs.right, _BYTES)
    return shown


# --- counts and pieces ------------------------------------------------------------------------------------------------


def _counts(found: Sequence[Tokens], look: Look) -> Iterator[Text]:
    values = {
        "tokens.count": [count(len(tokens.pieces)) for tokens in found],
        "tokens.characters": [_rate(tokens.characters_per_token) for tokens in found],
        "tokens.bytes": [_rate(tokens.bytes_per_token) for tokens in found],
        "tokens.vocabulary": [count(tokens.vocab_size) for tokens in found],
    }
    columns = [Column(cells, look.say(key), right=True, gap=2) for key, cells in values.items()]
    yield from rows([Column([_name(tokens, look) for tokens in found]), *columns], look.columns)
    yield Text(look.say("tokens.averages"), style="dim")


def _pieces(tokens: Tokens, look: Look) -> Iterator[Text]:
    """A row for each piece; its bytes go on below where one line does not hold them."""

    def label(piece: Piece, cells: int) -> Text:
        return Text(_label(piece, look, cells), "bold")

    def spelled(piece: Piece, cells: int) -> Text:
        each = max((cells + 1) // 3, 1)
        lines = (piece.bytes[n : n + each].hex(" ").upper() for n in range(0, len(piece.bytes), each))
        return Text("\n".join(lines), "dim")

    yield Text(_name(tokens, look), style="bold")
    labels, (least, most) = [partial(label, piece) for piece in tokens.pieces], _LABEL_CELLS
    columns = [
        Column([Text(f" {n}", "dim") for n in range(1, len(tokens.pieces) + 1)], right=True),
        Column([str(piece.id) for piece in tokens.pieces], right=True, gap=2, wide=2),
        Column(labels, gap=2, most=most, least=least, gives_way=1),
        Column([partial(spelled, p) for p in tokens.pieces], gap=2, wide=_BYTE_CELLS, least=2, gives_way=2, fills=True),
    ]
    yield from rows(columns, look.columns)


def _sentences(tokens: Tokens, look: Look) -> Iterator[Text]:
    yield Text(
        look.say(
            "tokens.plain",
            ref=g.visible(tokens.ref, look.glyphs),
            count=count(len(tokens.pieces)),
            characters=_rate(tokens.characters_per_token),
            bytes=_rate(tokens.bytes_per_token),
            vocabulary=count(tokens.vocab_size),
        )
    )
    for n, piece in enumerate(tokens.pieces, 1):
        label = _label(piece, look, 200) if piece.parts else look.spoken(piece)
        spelled = piece.bytes.hex(" ").upper()
        yield Text(look.say("tokens.plain_piece", number=n, token=label, id=piece.id, bytes=spelled))


def _label(piece: Piece, look: Look, cells: int) -> str:
    """A piece in a list: where it is part of a character, with that character, which is known here."""
    if not piece.parts:
        return look.label(piece, cells=cells)
    parts = (f"{g.visible(part.character, look.glyphs)} {part.number}/{part.count}" for part in piece.parts)
    return g.cut(" ".join([g.visible_bytes(piece.bytes, look.glyphs), *parts]), cells)


def _name(tokens: Tokens, look: Look) -> str:
    """The end of a reference, which is where two paths differ."""
    cells = min(max(look.columns // 5, _NAME_CELLS[0]), _NAME_CELLS[1])
    return g.prose_tail(tokens.ref.removesuffix("/tokenizer.json"), look.glyphs, cells)


def _rate(value: float | None) -> str:
    return "-" if value is None else fixed(value, 2)
