"""Texts cut as the library `sentencepiece` cuts them, and each id with the characters that it stands for."""

import json
from pathlib import Path

import pytest

from manako.sentencepiece.cutting import Cutter
from manako.sentencepiece.model_file import (
    BPE,
    BYTE,
    BYTES,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Piece,
    PieceModel,
    read_piece_model,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sentencepiece"
IDS = json.loads((FIXTURES / "ids.json").read_text(encoding="utf-8"))


def model(kind: int, scores: dict[str, float], **changes: object) -> PieceModel:
    """Pieces with these scores behind `<unk>`; of the text nothing is changed."""
    pieces = (Piece("<unk>", 0.0, UNKNOWN), *(Piece(text, score, NORMAL) for text, score in scores.items()))
    settings = {"byte_fallback": False, "charsmap": None, "add_dummy_prefix": False, "space_is_suffix": False}
    settings |= {"remove_extra_whitespaces": False, "pieces": pieces, **changes}
    return PieceModel(kind=kind, **settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_ids_are_those_of_the_library(name: str) -> None:
    cutter = Cutter(read_piece_model((FIXTURES / f"{name}.model").read_bytes()))
    assert [cutter.cut(text)[0] for text, _ in IDS[name]] == [ids for _, ids in IDS[name]]


def test_half_width_and_composed_characters_are_one() -> None:
    """Where `tokenizers` walks the same table it leaves ｶﾞ two characters."""
    table = read_piece_model((FIXTURES / "unigram.model").read_bytes()).charsmap
    assert table is not None
    assert table.longest("aｶﾞ", 1) == ("ガ", 3) and table.longest("ｶa", 0) == ("カ", 1)
    assert table.longest("e\u0301", 0) == ("é", 2) and table.longest("ea", 0) == ("e", 1)


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_each_id_stands_for_the_characters_that_it_spells(name: str) -> None:
    read = read_piece_model((FIXTURES / f"{name}.model").read_bytes())
    cutter, unknown = Cutter(read), read.unknown_id
    for text, _ in IDS[name]:
        ids, spans = cutter.cut(text)
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert [start for start, _ in spans] == sorted(start for start, _ in spans)
        for i, (start, end) in zip(ids, spans, strict=True):
            spelled = read.pieces[i].text.replace("▁", " ")
            if name == "bpe" and read.pieces[i].kind != BYTE and i != unknown:
                assert text[start:end].replace("▁", " ") in (spelled, spelled[1:])


def test_equal_scores_go_by_the_place() -> None:
    cutter = Cutter(model(BPE, {"a": -9, "b": -9, "c": -9, "bc": -1, "ab": -1}))
    assert cutter.cut("abc")[0] == [5, 3]  # ab c: the first of the two, though bc comes before it in the file


def test_an_unused_piece_is_taken_apart_again() -> None:
    unused = model(BPE, {"a": -9, "b": -9, "c": -9, "ab": -1, "abc": -2})
    unused = model(BPE, {}, pieces=(*unused.pieces[:4], Piece("ab", -1, UNUSED), unused.pieces[5]))
    assert Cutter(unused).cut("abab")[0] == [1, 2, 1, 2]
    assert Cutter(unused).cut("abc")[0] == [5]  # and still is a step on the way to another


def test_a_piece_of_the_users_own_is_merged_with_nothing() -> None:
    own = model(BPE, {"a": -9, "b": -9, "ab": -1})
    own = model(BPE, {}, pieces=(own.pieces[0], Piece("a", 0, USER_DEFINED), *own.pieces[2:]))
    assert Cutter(own).cut("aab")[0] == [1, 1, 2]


def test_names_of_reserved_pieces_are_text() -> None:
    """Where `tokenizers` runs such a vocabulary, the text `<0x41>` is the byte A."""
    read = read_piece_model((FIXTURES / "bpe.model").read_bytes())
    ids, _ = Cutter(read).cut("<0x41><s>[INST]</s>")
    assert all(read.pieces[i].kind in (NORMAL, BYTE) and read.pieces[i].text not in ("<0x41>", "<s>") for i in ids)


def test_unknown_characters_are_one_piece_or_their_bytes() -> None:
    cutter = Cutter(model(UNIGRAM, {"a": -1}))
    assert cutter.cut("a猫犬a") == ([1, 0, 1], [(0, 1), (1, 3), (3, 4)])
    plain = model(UNIGRAM, {"a": -1}).pieces
    pieces = (*plain, *(Piece(name, 0, BYTE) for name in BYTES))
    with_bytes = Cutter(model(UNIGRAM, {}, pieces=pieces, byte_fallback=True))
    assert with_bytes.cut("é")[0] == [2 + 0xC3, 2 + 0xA9] and with_bytes.cut("é")[1] == [(0, 1)] * 2


@pytest.mark.parametrize("text, ready", [("", 0), (" ", 0), ("  a  a ", 3), ("\u3000", 1)])
def test_spaces_that_are_too_many_go(text: str, ready: int) -> None:
    pieces = {"▁": -5.0, "a": -1.0, "▁a": -1.0}
    squeezing = Cutter(model(UNIGRAM, pieces, add_dummy_prefix=True, remove_extra_whitespaces=True))
    assert len(squeezing.cut(text)[0]) == {0: 0, 3: 2, 1: 2}[ready]
