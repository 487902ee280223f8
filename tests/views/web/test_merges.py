"""The page's merge player replays what `manako.analysis.merges` replays, over the table that Python makes."""

import json
from typing import Any

import numpy as np
import pytest

from manako.analysis.merges import merge_table, replay
from manako.tokenizer import Tokenizer, from_merges, train_byte_bpe, train_character_bpe, train_characters

TEXT = "私は猫である。彼女は思った。猫であると思った。cats and dogs, cats\n" * 30
TEXTS = (TEXT[:60], "猫であると龘 cats", "", "a", "\n\n", "思思っった 1 12", "aaaa aaabcaa")
_BYTES = [bytes([b]) for b in range(256)]
KINDS = {
    "bpe": train_character_bpe([TEXT], 290),
    "byte-bpe": train_byte_bpe([TEXT], 290),
    "by hand": from_merges([*_BYTES, b"aa", b"aaa", b"bc"], [(97, 97), (256, 97), (98, 99)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_replays_a_text_as_python_does(kind: str, ask: Any) -> None:
    tokenizer = KINDS[kind]
    counts = {rank: 7 * rank for rank in range(0, 40, 2)}
    table: dict[str, Any] = json.loads(merge_table(tokenizer, None))
    assert table["counts"] is None and table["tokenizer_sha256"] == tokenizer.fingerprint
    table["counts"] = list(counts.items())
    cut = [[(i, np.frombuffer(tokenizer.token_bytes[i], np.uint8)) for i in tokenizer.encode(t)] for t in TEXTS]
    answers = ask("replays", table, cut)
    for text, answer in zip(TEXTS, answers, strict=True):
        expected = replay(tokenizer, text, counts=counts)
        assert expected is not None
        assert answer["pieces"] == [list(map(list, p)) for p in (expected.begin, *(m.pieces for m in expected.merges))]
        for found, merge in zip(answer["merges"], expected.merges, strict=True):
            assert (found["rank"], found["count"]) == (merge.rank, merge.count)
            assert [(start, end) for start, _, end in found["places"]] == list(merge.places)
            start, middle, end = found["places"][0]
            assert (expected.read[start:middle], expected.read[middle:end]) == (merge.left, merge.right)
    assert sum(len(answer["merges"]) for answer in answers) > 10 or kind == "by hand"


def test_a_vocabulary_without_merges_has_no_table() -> None:
    assert merge_table(train_characters(["私は"], 1), None) == b""
    wordpiece = Tokenizer(
        '{"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",'
        ' "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1}}, "added_tokens": []}'
    )
    assert merge_table(wordpiece, None) == b""
