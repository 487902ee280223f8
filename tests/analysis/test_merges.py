"""The merge player: every merge that made a text, in order, and how often a corpus has each."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.analysis.merges import Replay, merge_counts, replay
from manako.corpus import build
from manako.tokenizer import Tokenizer, from_merges, train_byte_bpe, train_character_bpe, train_characters

TEXT = "私は猫である。彼女は思った。猫であると思った。cats and dogs, cats\n" * 30
BOTH = {"bpe": train_character_bpe([TEXT], 290), "byte-bpe": train_byte_bpe([TEXT], 290)}


def played(tokenizer: Tokenizer, text: str) -> Replay:
    found = replay(tokenizer, text)
    assert found is not None
    return found


def check(tokenizer: Tokenizer, text: str) -> None:
    found = played(tokenizer, text)
    ids = tokenizer.encode(text)
    spans = found.merges[-1].pieces if found.merges else found.begin
    assert [found.read[a:b] for a, b in spans] == [tokenizer.token_bytes[i] for i in ids]
    before = found.begin
    for merge in found.merges:
        assert {found.read[a:b] for a, b in merge.places} == {merge.made}
        assert len(before) - len(merge.pieces) == len(merge.places)
        assert set(merge.pieces) - set(before) == set(merge.places)
        before = merge.pieces


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("text", [TEXT[:40], "猫であると龘 cats", "", "a", "\n\n", "思思っった"])
def test_the_last_picture_is_the_tokens(kind: str, text: str) -> None:
    check(BOTH[kind], text)


@given(st.text(alphabet="私は猫であると思った。cats 龘\n", max_size=40))
def test_so_it_is_for_any_text(text: str) -> None:
    for tokenizer in BOTH.values():
        check(tokenizer, text)


def test_ranks_places_and_parts_by_hand() -> None:
    vocab = [bytes([b]) for b in range(256)]
    pairs = [(97, 97), (256, 97), (98, 99)]  # aa, aaa, bc
    for a, b in pairs:
        vocab.append(vocab[a] + vocab[b])
    found = played(from_merges(vocab, pairs), "aaabcaa")
    assert found.begin == tuple((n, n + 1) for n in range(7))
    assert [(m.rank, m.left, m.right, m.places) for m in found.merges] == [
        (1, b"a", b"a", ((0, 2), (5, 7))),
        (2, b"aa", b"a", ((0, 3),)),
        (3, b"b", b"c", ((3, 5),)),
    ]
    assert found.merges[-1].pieces == ((0, 3), (3, 5), (5, 7)) and found.merges[0].count is None


@pytest.mark.parametrize("kind", BOTH)
def test_ranks_rise_and_are_the_order_of_the_file(kind: str) -> None:
    ranks = [merge.rank for merge in played(BOTH[kind], TEXT[:60]).merges]
    assert ranks == sorted(set(ranks)) and ranks


@pytest.mark.parametrize("kind", BOTH)
def test_counts_are_those_of_replaying_the_whole_corpus(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    corpus = build(tmp_path / "a.txt", tmp_path / "c", tokenizer=kind, vocab_size=280, validation=0.1)
    tokenizer = Tokenizer(corpus.tokenizer_source)
    [ids] = corpus.train.documents(corpus.start_id)
    counted = merge_counts(tokenizer, corpus)
    text = tokenizer.decode(ids.tolist()).decode()
    there = {merge.rank - 1: len(merge.places) for merge in played(tokenizer, text).merges}
    assert counted == there and max(there.values()) >= 50
    found = replay(tokenizer, "思った", counts=counted)
    assert found is not None and [m.count for m in found.merges] == [there[m.rank - 1] for m in found.merges]


def test_characters_have_no_merges_and_other_kinds_none_to_show() -> None:
    assert played(train_characters(["私は"], 1), "私は龘").merges == ()
    wordpiece = Tokenizer(
        '{"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",'
        ' "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1}}, "added_tokens": []}'
    )
    assert replay(wordpiece, "a") is None
