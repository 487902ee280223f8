"""A `tokenizer.model` or `spiece.model`: the pieces, their scores, and how a text is made ready.

Special here: the file is hostile data. Every length is compared with the bytes that are left before it is used, counts
are capped, and a setting that would change ids and is not known here is refused. Source: `sentencepiece_model.proto`
in google/sentencepiece; the wire format: protobuf.dev, "Encoding".
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from manako.sentencepiece.charsmap import Charsmap

MAX_BYTES = 32 << 20  # 256,000 pieces take about 4 MB
MAX_PIECES = 1 << 20
MAX_PIECE = 256  # characters; published ones have up to 31
MAX_CHARACTERS = 3_000_000  # of all pieces; 256,000 have about 1,800,000
MAX_SCORE = 1e9
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces
UNIGRAM, BPE = 1, 2  # types of models; words and characters are the other two, which no language model uses
PIECES = "sentencepiece"  # the key under which a normaliser, whose readers skip it, carries the model file
SPACE = "▁"
BYTES = tuple(f"<0x{b:02X}>" for b in range(256))
_VARINT, _FIXED64, _MESSAGE, _FIXED32 = 0, 1, 2, 5  # types on the wire


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary."""

    text: str
    """With SPACE for a space."""
    score: float
    """A float32."""
    kind: int


@dataclass(frozen=True)
class PieceModel:
    """What the file says."""

    pieces: tuple[Piece, ...]
    """By id."""
    kind: int
    """UNIGRAM or BPE."""
    byte_fallback: bool
    """Whether a character without a piece becomes its bytes."""
    charsmap: Charsmap | None
    """What rewrites a text first."""
    add_dummy_prefix: bool
    """Whether a space is put before a text, or behind it where spaces are suffixes."""
    remove_extra_whitespaces: bool
    space_is_suffix: bool

    @property
    def unknown_id(self) -> int:
        """The one piece for what has none."""
        return next(i for i, piece in enumerate(self.pieces) if piece.kind == UNKNOWN)


def read_piece_model(data: bytes) -> PieceModel:
    """Raises ValueError saying what is wrong."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, at most {MAX_BYTES} make sense")
    pieces: list[Piece] = []
    specs: dict[int, dict[int, int | bytes]] = {}
    for field, value in _fields(data):
        if field == 1:
            pieces.append(_piece(_bytes(value)))
            if len(pieces) > MAX_PIECES:
                raise ValueError(f"more than {MAX_PIECES} pieces")
        elif field in (2, 3, 5):
            if field in specs:
                raise ValueError("a specification occurs twice")
            specs[field] = dict(_fields(_bytes(value)))
    trainer, normaliser, back = (specs.get(field, {}) for field in (2, 3, 5))
    kind = _number(trainer, 3, UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        raise ValueError(f"a model of type {kind}; unigram (1) and BPE (2) are read")
    if not _number(normaliser, 5, 1):
        raise ValueError("its spaces are not escaped")
    if _bytes(back.get(2, b"")):
        raise ValueError("it rewrites what it decodes")
    charsmap = _bytes(normaliser.get(2, b""))
    model = PieceModel(
        pieces=tuple(pieces),
        kind=kind,
        byte_fallback=bool(_number(trainer, 35, 0)),
        charsmap=Charsmap(charsmap) if charsmap else None,
        add_dummy_prefix=bool(_number(normaliser, 3, 1)),
        remove_extra_whitespaces=bool(_number(normaliser, 4, 1)),
        space_is_suffix=bool(_number(trainer, 24, 0)),
    )
    _check(model)
    return model


def _check(model: PieceModel) -> None:
    """What the library itself asks of a file. Source: `InitializePieces` in its `model_interface.cc`."""
    seen: set[str] = set()
    for i, piece in enumerate(model.pieces):
        if not piece.text or piece.text in seen or len(piece.text) > MAX_PIECE or "\0" in piece.text:
            raise ValueError(f"piece {i} is empty, too long or there twice")
        seen.add(piece.text)
        if not math.isfinite(piece.score) or abs(piece.score) > MAX_SCORE:
            raise ValueError(f"piece {i} has the score {piece.score}")
        if not NORMAL <= piece.kind <= BYTE:
            raise ValueError(f"piece {i} has type {piece.kind}")
        if (piece.kind == BYTE) != (model.byte_fallback and piece.text in BYTES):
            raise ValueError(f"piece {i}, {piece.text!r}, has type {piece.kind}")
    if sum(map(len, seen)) > MAX_CHARACTERS:
        raise ValueError(f"its pieces have more than {MAX_CHARACTERS} characters")
    if sum(piece.kind == UNKNOWN for piece in model.pieces) != 1:
        raise ValueError("not one piece stands for what is unknown")
    if model.byte_fallback and not seen.issuperset(BYTES):
        raise ValueError("bytes are missing")
    if model.kind == UNIGRAM and not any(piece.kind == NORMAL for piece in model.pieces):
        raise ValueError("it has no piece of text")


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    score = _bytes(fields.get(2, bytes(4)))
    if len(score) != 4:
        raise ValueError(f"a score of {len(score)} bytes")
    kind = _number(fields, 3, NORMAL)
    return Piece(_bytes(fields.get(1, b"")).decode("utf-8"), struct.unpack("<f", score)[0], kind)


def _number(fields: dict[int, int | bytes], field: int, default: int) -> int:
    value = fields.get(field, default)
    if not isinstance(value, int):
        raise ValueError(f"field {field} is no number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes should stand")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message; those of fixed width as their bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if not field:
            raise ValueError(f"a field without a number before byte {at}")
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield field, value
            continue
        if wire == _MESSAGE:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"a field of type {wire} before byte {at}")
        if size > len(data) - at:
            raise ValueError(f"{size} bytes should follow byte {at}, {len(data) - at} are left")
        yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, the place behind it)."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends inside a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError(f"a number of more than ten bytes before byte {at}")
