"""A text in pieces: ids and bytes as the tokenizer has them, cuts in bytes, and the character each part belongs to."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers
from toy import random_texts, toy_tokenizer

from manako.analysis.tokens import CharacterPart, Piece, Tokens, tokens
from manako.errors import UsageError
from manako.tokenizer import Tokenizer, from_characters, from_merges

TOY = toy_tokenizer()
BYTES = [bytes([b]) for b in range(256)]


def mixed() -> Tokenizer:
    """Byte-level, with a piece that ends one character and begins the next, and one that begins inside one."""
    pairs = [(0xE3, 0x81), (0x82, 0xE7)]  # あ is E3 81 82, 猫 is E7 8C AB
    return from_merges([*BYTES, *(bytes(pair) for pair in pairs)], pairs)


def with_unknown() -> Tokenizer:
    rust = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "あ": 1}, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    rust.add_special_tokens(["<unk>"])
    return Tokenizer(rust.to_str())


def test_whole_characters() -> None:
    found = tokens(TOY, "猫 a", "toy")
    assert [p.id for p in found.pieces] == TOY.encode("猫 a")
    assert found.pieces[0] == Piece(found.pieces[0].id, "猫".encode(), "猫", False)
    assert (found.ref, found.vocab_size, found.fingerprint) == ("toy", TOY.vocab_size, TOY.fingerprint)
    assert found.cuts == (3, 4) and found.as_given
    assert found.characters_per_token == 1 and found.bytes_per_token == 5 / 3


def test_a_character_in_bytes_is_named_in_each_of_its_parts() -> None:
    found = tokens(TOY, "あ龘い", "toy")  # 龘 is E9 BE 98 and not in the vocabulary
    assert [p.parts for p in found.pieces] == [
        *((), (CharacterPart("龘", 1, 3),), (CharacterPart("龘", 2, 3),), (CharacterPart("龘", 3, 3),), ()),
    ]
    assert [p.text for p in found.pieces[1:4]] == ["‹E9›", "‹BE›", "‹98›"]
    assert found.cuts == (3, 4, 5, 6) and found.characters_per_token == 3 / 5


def test_a_piece_may_have_parts_of_two_characters() -> None:
    found = tokens(mixed(), "あ猫", "mixed")
    assert [p.bytes.hex() for p in found.pieces] == ["e381", "82e7", "8c", "ab"]
    assert [p.parts for p in found.pieces] == [
        (CharacterPart("あ", 1, 2),),
        (CharacterPart("あ", 2, 2), CharacterPart("猫", 1, 3)),
        (CharacterPart("猫", 2, 3),),
        (CharacterPart("猫", 3, 3),),
    ]


def test_no_text_has_no_rates() -> None:
    found = tokens(TOY, "", "toy")
    assert found.pieces == found.cuts == () and found.as_given
    assert found.characters_per_token is None and found.bytes_per_token is None


def test_a_special_token_is_not_what_was_given() -> None:
    found = tokens(with_unknown(), "あ龘", "unk")
    assert [p.special for p in found.pieces] == [False, True] and not found.as_given
    assert found.characters_per_token == 1


def test_a_normaliser_is_noticed() -> None:
    spec = json.loads(TOY.source) | {"normalizer": {"type": "NFKC"}}
    found = tokens(Tokenizer(json.dumps(spec)), "ａ", "nfkc")
    assert found.read == b"a" and not found.as_given and found.bytes_per_token == 3


def test_bytes_that_are_no_text_have_no_character() -> None:
    pieces = (Piece(0, b"\xe3", "‹E3›", False), Piece(1, b"", "", False), Piece(2, b"\x81", "‹81›", False))
    from manako.analysis import tokens as module

    assert all(p.parts == () for p in module._with_parts(pieces))
    whole = module._with_parts((*pieces, Piece(3, b"\x82", "‹82›", False)))
    assert [p.parts for p in whole] == [
        (CharacterPart("あ", 1, 3),),
        (),
        (CharacterPart("あ", 2, 3),),
        (CharacterPart("あ", 3, 3),),
    ]
    assert module._with_parts((Piece(0, b"\x81", "", False), Piece(0, b"\x82", "", False)))[1].parts == ()


@pytest.mark.slow
def test_a_character_is_shared_by_pieces_that_spell_it() -> None:
    for tokenizer in (TOY, mixed()):
        for text in random_texts(400, seed=4):
            check(tokens(tokenizer, text, ""), text)


@given(st.text())
@pytest.mark.slow
def test_any_text(text: str) -> None:
    check(tokens(mixed(), text, ""), text)


def check(found: Tokens, text: str) -> None:
    """Joined, the pieces are the text; each part count is the number of pieces that a look at the cuts gives."""
    assert found.read == text.encode() and found.as_given
    inner: dict[int, int] = {}  # start of a character -> cuts inside it
    at = 0
    for ch in text:
        size = len(ch.encode())
        inner[at] = sum(at < cut < at + size for cut in found.cuts)
        at += size
    expected = [(ch, n) for ch, n in zip(text, inner.values(), strict=True) if n]
    parts = [part for piece in found.pieces for part in piece.parts]
    firsts = [(part.character, part.count - 1) for part in parts if part.number == 1]
    assert firsts == expected and len(parts) == sum(n + 1 for _, n in expected)


def test_what_a_vocabulary_cannot_express_is_refused() -> None:
    with pytest.raises(UsageError):
        tokens(from_characters("あ"), "い", "no bytes")
