"""A smaller corpus out of a packed one: the same text for every vocabulary, one share inside the next."""

import random
from pathlib import Path

import pytest

from manako.corpus import build
from manako.corpus.packed import PackedCorpus, open_whole
from manako.corpus.sample import sample
from manako.errors import ManakoError
from manako.tokenizer import Tokenizer

CHANCE = random.Random(0)
WORKS = ["".join(chr(CHANCE.randrange(0x4E00, 0x4E60)) + CHANCE.choice("のは。") for _ in range(80)) for _ in range(40)]
ALL = 10**9


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "works").mkdir()
    for n, work in enumerate(WORKS):
        (tmp_path / "works" / f"{n}.txt").write_text(work, encoding="utf-8")
    return tmp_path / "works"


def texts(corpus: PackedCorpus) -> dict[str, list[str]]:
    tokenizer = Tokenizer(corpus.tokenizer_source)
    sides = {"train": corpus.train, "validation": corpus.validation}
    return {
        name: [tokenizer.decode(ids.tolist()).decode() for ids in side.documents(corpus.start_id)]
        for name, side in sides.items()
    }


def test_a_share_of_one_is_all_of_it(text: Path, tmp_path: Path) -> None:
    whole = build(text, tmp_path / "c", min_count=1, validation=0.2)
    made = sample(whole, tmp_path / "s", 1, ALL)
    assert texts(made) == texts(whole)
    assert made.header.statistics == whole.header.statistics
    assert open_whole(tmp_path / "s").header.settings["share"] == 1


def test_a_share_is_that_many_characters_inside_any_larger_share(text: Path, tmp_path: Path) -> None:
    whole = build(text, tmp_path / "c", min_count=1, validation=0.2)
    there = whole.header.statistics["train"]["characters"]
    shares = {share: sample(whole, tmp_path / f"{share}", share, 100) for share in (0.05, 0.1, 0.5, 0.77)}
    before = ""
    for share, made in shares.items():
        found = texts(made)
        assert made.header.statistics["train"]["characters"] == len("".join(found["train"])) == round(share * there)
        assert len("".join(found["validation"])) == 100 and found["validation"] == texts(shares[0.05])["validation"]
        assert all(any(doc.startswith(part) for doc in found["train"]) for part in before.split("|") if part)
        before = "|".join(found["train"])
        assert made.header.statistics["different_characters"] == len(set("".join(sum(found.values(), []))))


def test_the_text_is_the_same_for_every_vocabulary(text: Path, tmp_path: Path) -> None:
    one = sample(build(text, tmp_path / "c", min_count=1, validation=0.2), tmp_path / "one", 0.3, 150)
    other = build(text, tmp_path / "b", tokenizer="bpe", vocab_size=300, validation=0.2)
    two = sample(other, tmp_path / "two", 0.3, 150)
    for side, found in texts(one).items():
        pieces = texts(two)[side]
        assert sum(a != b for a, b in zip(found, pieces, strict=True)) <= 1
        for a, b in zip(found, pieces, strict=True):  # a piece of a few characters may not fit before the cut
            assert a.startswith(b) and len(a) - len(b) < 16
    assert one.train.shards[0].tokens != two.train.shards[0].tokens


def test_a_character_of_several_tokens_is_never_cut(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ああいい龘" * 100, encoding="utf-8")
    whole = build(tmp_path / "a.txt", tmp_path / "c", min_count=150, validation=0.1)
    for wanted in range(1, 12):
        made = sample(whole, tmp_path / f"{wanted}", wanted / whole.header.statistics["train"]["characters"], wanted)
        assert texts(made)["train"] == [("ああいい龘" * 100)[:wanted]]


def test_a_piece_that_ends_inside_a_character_is_never_the_last(tmp_path: Path) -> None:
    text = "".join(chr(CHANCE.randrange(0x3041, 0x3091)) for _ in range(3000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    whole = build(tmp_path / "a.txt", tmp_path / "c", tokenizer="byte-bpe", vocab_size=500, validation=0.1)
    there = whole.header.statistics["train"]["characters"]
    lengths = []
    for wanted in range(20, 40):
        [made] = texts(sample(whole, tmp_path / f"{wanted}", wanted / there, wanted))["train"]
        assert text.startswith(made) and len(made) <= wanted
        lengths.append(wanted - len(made))
    assert max(lengths) < 16  # characters of the longest piece


def test_a_folder_that_is_there_is_left_alone(text: Path, tmp_path: Path) -> None:
    whole = build(text, tmp_path / "c", min_count=1)
    with pytest.raises(ManakoError) as refused:
        sample(whole, tmp_path / "c", 0.5, ALL)
    assert refused.value.key == "target_exists_folder"
