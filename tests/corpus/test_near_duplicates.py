"""Which documents are one work: copies, editions, parts; and what is not."""

import random

import numpy as np
import pytest

from manako.corpus import near_duplicates
from manako.corpus.near_duplicates import Sketches, run_hashes

KANJI = [chr(c) for c in range(0x4E00, 0x5600)]
KANA = "のをはがにでともからまで"


def work(seed: int, sentences: int = 60) -> str:
    rng = random.Random(seed)
    return "".join(
        "".join(rng.choice(KANJI) + rng.choice(KANA) for _ in range(rng.randrange(4, 12))) + "。\n"
        for _ in range(sentences)
    )


def groups(*texts: str) -> list[int]:
    """The group of each text, numbered by first appearance."""
    sketches = Sketches()
    for text in texts:
        sketches.add(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
    found, keys = sketches.groups()
    assert len(keys) == len(set(found.tolist())) and all(0 <= key < 2**64 for key in keys)
    return found.tolist()


def keys(*texts: str) -> list[int]:
    sketches = Sketches()
    for text in texts:
        sketches.add(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
    return sketches.groups()[1]


def test_different_works_stay_apart() -> None:
    assert groups(*(work(n) for n in range(200))) == list(range(200))


def test_copies_editions_parts_and_collections_come_together() -> None:
    text, other = work(1), work(2)
    old_kana = text.replace("は", "ハ").replace("に", "ゐ").replace("。", "、")
    rng = random.Random(5)
    old_kanji = "".join(chr(ord(ch) + 0x2000) if ch in KANJI and rng.random() < 0.1 else ch for ch in text)
    front = "題\n" + work(3, 5) + text
    part = "\n".join(text.split("\n")[10:40])
    collection = other + work(4) + text + work(5)
    for again in (text, old_kana, old_kanji, front, part, collection):
        assert groups(text, other * 0 + work(9), again) == [0, 1, 0]


def test_a_quotation_does_not_make_two_works_one() -> None:
    text, other = work(1), work(2)
    quoted = "\n".join(text.split("\n")[20:25])
    assert groups(text, other + quoted) == [0, 1]


def test_a_work_and_its_parts_chain_into_one_group() -> None:
    text = work(1, 300)
    rows = text.split("\n")
    parts = ["\n".join(rows[n : n + 50]) for n in range(0, 300, 50)]
    assert groups(*parts) == list(range(6))
    assert groups(*parts, text) == [0] * 7


def test_many_copies_are_all_found() -> None:
    assert groups(*[work(1)] * 50, work(2), *[work(1)] * 50) == [0] * 50 + [1] + [0] * 50


def test_texts_without_kanji_are_compared_by_letters() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choice("abcdefghijklm") for _ in range(rng.randrange(3, 9))) for _ in range(500)]
    first, second = (" ".join(random.Random(n).choices(words, k=400)) for n in (1, 2))
    assert groups(first, second, first.upper().lower() + " the end", "\n".join(first.split(" "))) == [0, 1, 0, 0]


@pytest.mark.parametrize("text", ["a", "あ", "猫", "\n", " \u3000", "猫" * 4, "猫" * 1000, "😀", "\0"])
def test_texts_of_any_size_have_a_group(text: str) -> None:
    assert groups(text, work(1), text) == [0, 1, 0]


def test_a_key_stays_when_others_come_and_go() -> None:
    alone = keys(work(1))[0]
    assert keys(work(7), work(1), work(8))[1] == alone
    assert keys(work(1), work(1))[0] == alone


def test_when_there_are_too_many_hashes_fewer_are_kept_and_the_groups_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [work(n, 300) for n in range(30)]
    before = groups(*texts, *texts[:5])
    monkeypatch.setattr(near_duplicates, "MOST_HASHES", 2000)
    assert groups(*texts, *texts[:5]) == before == [*range(30), *range(5)]


def test_long_documents_are_hashed_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    text = work(1, 200)
    whole = Sketches()
    whole.add(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
    monkeypatch.setattr(near_duplicates, "_BLOCK", 37)
    parts = Sketches()
    parts.add(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
    assert whole._least == parts._least and np.array_equal(whole._hashes[0], parts._hashes[0])


def test_hashes_are_the_same_on_every_machine() -> None:
    """Written down once: a change would move published works to the other side of the split."""
    key = np.array([0x732B, 0x72AC, 0x9CE5, 0x9B5A, 0x866B], dtype=np.uint32)
    assert run_hashes(key, 4).tolist() == [2065589253261001243, 4664632678788681830]
