"""How a tokenizer cuts a text: its pieces, their bytes, and the character that a part of one belongs to.

Special here: places are bytes, since a piece may end inside a character, and bytes of what the tokenizer read, which is
not the given text where it normalises. Rates are of the given text, so that they compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from manako.settings import check_type
from manako.tokenizer import Tokenizer
from manako.trace.record import bytes_to_text


@dataclass(frozen=True)
class CharacterPart:
    """What a piece holds of a character that is cut."""

    character: str
    number: int
    """Which of the pieces that share it, counted from 1."""
    count: int
    """How many share it."""


@dataclass(frozen=True)
class Piece:
    """One token in its place."""

    id: int
    bytes: bytes
    text: str
    """Its bytes as text; bytes that are no whole character stand in ‹hex›."""
    special: bool
    """A foreign vocabulary's `<unk>`: its bytes are its name, not the text's."""
    parts: tuple[CharacterPart, ...] = ()
    """The characters it has a part of: none, or one, or one at each end."""


@dataclass(frozen=True)
class Tokens:
    """A text as one tokenizer has it."""

    ref: str
    """Which tokenizer, as the user named it."""
    vocab_size: int
    fingerprint: str
    """SHA-256 of its `tokenizer.json`."""
    given: str
    """The text."""
    pieces: tuple[Piece, ...]

    @cached_property
    def read(self) -> bytes:
        """What the pieces spell together."""
        return b"".join(piece.bytes for piece in self.pieces)

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Where a piece ends, in bytes of `read`; the end of the last piece is the end of the text and no cut."""
        return tuple(_starts(self.pieces)[1:])

    @property
    def as_given(self) -> bool:
        """Whether it read the text as it was given, character by character."""
        return self.read == self.given.encode("utf-8") and not any(piece.special for piece in self.pieces)

    @property
    def characters_per_token(self) -> float | None:
        """Code points of the given text for each piece; None without a piece."""
        return len(self.given) / len(self.pieces) if self.pieces else None

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes of the given text for each piece; None without a piece."""
        return len(self.given.encode("utf-8")) / len(self.pieces) if self.pieces else None


def tokens(tokenizer: Tokenizer, text: str, ref: str = "", special: bool = False) -> Tokens:
    """Cut a text. tokenizer: as `Model.tokenizer`; ref: its name.

    special: as for `Tokenizer.encode`, which also raises the UsageError.
    """
    check_type("tokenizer", tokenizer, Tokenizer)
    table, names = tokenizer.token_bytes, tokenizer.special_ids
    pieces = [Piece(i, table[i], bytes_to_text(table[i]), i in names) for i in tokenizer.encode(text, special)]
    return Tokens(ref, tokenizer.vocab_size, tokenizer.fingerprint, text, _with_parts(pieces))


def _with_parts(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    data = b"".join(piece.bytes for piece in pieces)
    shared: dict[int, list[int]] = {}  # start of a character that is cut -> the pieces that have part of it
    before = -1  # the last piece that has bytes
    for n, start in enumerate(_starts(pieces)):
        if not pieces[n].bytes:
            continue
        if _continues(data[start]):
            lead = next((i for i in range(start - 1, max(start - 4, -1), -1) if not _continues(data[i])), start)
            shared.setdefault(lead, [before]).append(n)
        before = n
    parts: dict[int, list[CharacterPart]] = {}
    for lead, owners in shared.items():
        character = _character(data, lead)
        for number, n in enumerate(owners, 1) if character else ():
            parts.setdefault(n, []).append(CharacterPart(character, number, len(owners)))
    return tuple(Piece(p.id, p.bytes, p.text, p.special, tuple(parts.get(n, ()))) for n, p in enumerate(pieces))


def _starts(pieces: Sequence[Piece]) -> list[int]:
    """Where each piece begins, in bytes."""
    starts, at = list[int](), 0
    for piece in pieces:
        starts.append(at)
        at += len(piece.bytes)
    return starts


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 goes on with a character."""
    return 0x80 <= byte < 0xC0


def _character(data: bytes, lead: int) -> str:
    """The character that begins here; "" where the bytes are none."""
    end = lead + 1
    while end < len(data) and _continues(data[end]):
        end += 1
    try:
        return data[lead:end].decode("utf-8")
    except UnicodeDecodeError:
        return ""
