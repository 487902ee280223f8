"""Files of SentencePiece that lie: refused in bounded time and memory, by a sentence."""

import random
import struct
from pathlib import Path

import pytest
from fuzz import changed_bytes

from manako.sentencepiece.charsmap import Charsmap
from manako.sentencepiece.cutting import Cutter
from manako.sentencepiece.model_file import PieceModel, read_piece_model

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sentencepiece"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text: str, score: float = -1.0, kind: int = 1) -> bytes:
    return field(1, field(1, text.encode()) + field(2, score) + field(3, kind))


UNK, A = piece("<unk>", 0.0, 2), piece("a")


def test_the_least_file_opens_with_the_defaults_of_the_format() -> None:
    read = read_piece_model(UNK + A)
    assert isinstance(read, PieceModel) and read.kind == 1 and read.add_dummy_prefix and read.remove_extra_whitespaces
    assert not read.byte_fallback and not read.space_is_suffix and read.charsmap is None and read.unknown_id == 0


@pytest.mark.parametrize("data, said", [
    (b"", "not one piece"),
    (A, "not one piece"),
    (UNK + UNK, "there twice"),
    (UNK + piece("<x>", 0.0, 2) + A, "not one piece"),
    (UNK + A + A, "there twice"),
    (UNK + piece(""), "empty"),
    (UNK + piece("a" * 257), "too long"),
    (UNK + piece("a\0"), "empty, too long"),
    (UNK + piece("a", float("nan")), "score"),
    (UNK + piece("a", float("-inf")), "score"),
    (UNK + piece("a", 0.0, 7), "type 7"),
    (UNK + piece("<0x41>", 0.0, 6), "type 6"),
    (UNK + A + field(2, field(35, 1)), "bytes are missing"),
    (UNK + A + field(2, field(3, 3)), "type 3"),
    (UNK + A + field(3, field(5, 0)), "escaped"),
    (UNK + A + field(5, field(2, b"x")), "decodes"),
    (UNK + A + field(3, b"") + field(3, b""), "twice"),
    (UNK + A + field(3, field(2, b"\xff\xff\xff\xff" + bytes(9))), "table"),
    (UNK + A + field(1, 5), "number where bytes"),
    (UNK + A + field(2, field(3, b"x")), "no number"),
    (UNK + field(1, field(1, b"\xff")), "decode"),
    (UNK + field(1, field(2, b"abc")), "score of 3 bytes"),
    (UNK + A + b"\x0a\xff\xff\xff\xff\x7f", "should follow"),
    (UNK + A + b"\x0a" + b"\xff" * 11, "ten bytes"),
    (UNK + A + b"\x0b", "type 3"),
    (UNK + A + b"\x02\x00", "without a number"),
    (UNK + A + b"\x80", "inside a number"),
    (b"IQ== 0\nIg== 1\n", "not one piece"),  # a tiktoken file, which some folders call tokenizer.model
])  # fmt: skip
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_piece_model(data)


def test_a_table_may_point_anywhere() -> None:
    """Random units: an answer, or the word that it is damaged."""
    rng = random.Random(0)
    for _ in range(300):
        units = struct.pack("<16I", *(rng.getrandbits(32) & 0x8000FFFF for _ in range(16)))
        table = Charsmap(len(units).to_bytes(4, "little") + units + b"a\0\xff\0" + b"x" * rng.randrange(3))
        for ch in "a猫\0\x7f":
            try:
                new, end = table.longest(ch * 3, 0)
                assert isinstance(new, str) and 1 <= end <= 3
            except ValueError:
                pass


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_changed_files_open_or_are_refused(name: str) -> None:
    data, rng, opened = (FIXTURES / f"{name}.model").read_bytes(), random.Random(name), 0
    for _ in range(60):
        try:
            Cutter(read_piece_model(changed_bytes(data, rng))).cut("私は ｶﾞ a<mask>\n")
            opened += 1
        except ValueError:
            pass
    assert 0 < opened < 60


def test_pieces_inside_each_other_are_bounded() -> None:
    """Each place of a text is looked at once for each length that a piece there may have."""
    nested = [piece("a" * n, -1.0 / n) for n in range(1, 66)]
    with pytest.raises(ValueError, match="more than 64 lengths"):
        Cutter(read_piece_model(UNK + b"".join(nested)))
    assert len(Cutter(read_piece_model(UNK + b"".join(nested[:64]))).cut("a" * 640)[0]) < 640


def test_a_key_that_never_ends_is_bounded() -> None:
    """A table that goes round in a circle: each a leads back to where it was."""
    ring = [0] * 512
    ring[0] = 256 << 10
    ring[256 ^ ord("a")] = (256 ^ ord("a") ^ 256) << 10 | ord("a")
    units = struct.pack("<512I", *ring)
    table = Charsmap(len(units).to_bytes(4, "little") + units + b"a\0")
    with pytest.raises(ValueError, match="more than 64"):
        table.longest("a" * 1000, 0)
    assert table.longest("ab", 0) == ("a", 1)
