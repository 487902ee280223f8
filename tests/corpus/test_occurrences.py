"""Occurrences are exact: against a naive search, over every border of blocks, shards and documents."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from corpora import build_toy, toy_documents, toy_vocabulary
from hypothesis import example, given
from hypothesis import strategies as st

from manako.corpus import occurrences, packed, packing
from manako.corpus.occurrences import Occurrences
from manako.corpus.packed import PackedCorpus, Shard, Shards, shard_head
from manako.errors import LoadError

START = 0
Found = list[tuple[int, dict[int, int]]]


def side_of(folder: Path, ids: Sequence[int], shard_tokens: int, dtype: str = "<u2") -> Shards:
    """The ids in files of `shard_tokens` each."""
    shards = []
    for n, start in enumerate(range(0, len(ids), shard_tokens)):
        part = np.array(ids[start : start + shard_tokens], dtype=dtype)
        shard = Shard(folder / f"{n}.ids", len(part), "0" * 64, part.dtype)
        shard.path.write_bytes(shard.head + part.tobytes())
        shards.append(shard)
    return Shards(shards)


def naive(ids: Sequence[int], context: Sequence[int], longest: int) -> Found:
    """The same by looking at every place for every length, cutting the context at its last document start."""
    begun = max((n for n, i in enumerate(context) if i == START), default=0)
    context, found = list(context[begun:]), []
    for length in range(1, min(longest, len(context)) + 1):
        wanted = context[-length:]
        starts = range(len(ids) - length)  # something comes next
        next_ones = Counter(ids[s + length] for s in starts if list(ids[s : s + length]) == wanted)
        if next_ones:
            found.append((length, dict(next_ones)))
    return found


def plain(found: Sequence[Occurrences]) -> Found:
    return [(o.length, dict(o.followers)) for o in found]


documents = st.lists(st.lists(st.integers(1, 3), max_size=12), min_size=1, max_size=8)


@given(documents, st.lists(st.integers(0, 4), max_size=10), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))
@example([[1] * 12, [1] * 12], [1] * 10, 9, 5, 4)  # each place matches, and matches overlap
@example([[1, 2], [3, 1]], [2, 0, 3], 3, 1, 1)  # across a document start, with a border at every id
@example([[]], [0], 1, 20, 20)  # nothing but the two document starts
@pytest.mark.slow
def test_as_a_naive_search(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[list[int]],
    context: list[int],
    longest: int,
    shard_tokens: int,
    block: int,
) -> None:
    ids = [i for document in documents for i in (START, *document)] + [START]
    folder = tmp_path_factory.getbasetemp() / "occurrences"  # one for all examples
    folder.mkdir(exist_ok=True)
    side = side_of(folder, ids, shard_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(occurrences, "BLOCK", block)
        found = occurrences.occurrences(side, context, START, longest)
    assert plain(found) == naive(ids, context, longest)
    assert [o.length for o in found] == list(range(1, len(found) + 1))
    assert all(o.count == sum(o.followers.values()) > 0 for o in found)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackedCorpus:
    """A packed corpus of 40 made-up works in shards of 100 ids, read in blocks of 37."""
    for module in (packing, packed):
        monkeypatch.setattr(module, "SHARD_TOKENS", 100)
    monkeypatch.setattr(occurrences, "BLOCK", 37)
    return build_toy(tmp_path / "c")


def test_as_the_texts_themselves_say(corpus: PackedCorpus) -> None:
    sides = {d["name"]: d["side"] for d in corpus.documents()}
    texts = [d.text for d in toy_documents() if sides[d.name] == "train"]
    encode = toy_vocabulary([]).encode_documents
    assert len(corpus.train.shards) > 3
    for needle in (texts[3][4:6], texts[-1][-4:], "の", "は", texts[0][:7]):
        found = occurrences.occurrences(corpus.train, encode([needle])[0], corpus.start_id, len(needle))
        for o in found:
            last = needle[-o.length :]
            places = [(t, n) for t in texts for n in range(len(t)) if t.startswith(last, n)]
            next_ones = Counter((t + "\0")[n + o.length] for t, n in places)
            said = {encode([ch])[0][0] if ch != "\0" else corpus.start_id: n for ch, n in next_ones.items()}
            assert o.followers == said
        assert len(found) == len(needle)


def test_the_held_out_side_is_not_searched(corpus: PackedCorpus) -> None:
    held_out = next(corpus.validation.documents(corpus.start_id)).tolist()
    whole = [corpus.start_id, *held_out]
    assert len(occurrences.occurrences(corpus.train, whole, corpus.start_id, 99)) < len(whole)
    assert len(occurrences.occurrences(corpus.validation, whole, corpus.start_id, 99)) == len(whole)


def test_followers_stand_by_how_often_then_by_id(tmp_path: Path) -> None:
    side = side_of(tmp_path, [0, 1, 3, 1, 2, 1, 5, 1, 5, 1, 4, 0], 100)
    (o,) = occurrences.occurrences(side, [1], START, 4)
    assert list(o.followers.items()) == [(5, 2), (2, 1), (3, 1), (4, 1)] and o.count == 5


def test_a_document_start_in_front_is_the_beginning_of_a_document(tmp_path: Path) -> None:
    side = side_of(tmp_path, [0, 1, 2, 0, 1, 1, 0, 2, 0], 3)
    assert plain(occurrences.occurrences(side, [START], START, 9)) == [(1, {1: 2, 2: 1})]  # the last one begins nothing
    assert plain(occurrences.occurrences(side, [2, START, 1], START, 9)) == [(1, {0: 1, 1: 1, 2: 1}), (2, {1: 1, 2: 1})]
    assert plain(occurrences.occurrences(side, [2], START, 9)) == [(1, {0: 2})]  # a document ends


def test_what_is_not_there(tmp_path: Path) -> None:
    side = side_of(tmp_path, [0, 1, 2, 0], 3)
    assert occurrences.occurrences(side, [], START, 5) == ()
    for unknown in (7, 65_535, 65_536, 2**40):  # a model may have more rows than the ids of its corpus can say
        assert occurrences.occurrences(side, [unknown], START, 5) == ()
        assert plain(occurrences.occurrences(side, [unknown, 1], START, 5)) == [(1, {2: 1})]


def test_nothing_is_read_from_before_the_beginning(tmp_path: Path) -> None:
    """No corpus of ours begins without a document start; a file from elsewhere may."""
    for ids in ([1, 1, 1], [2, 1, 2, 1, 2]):
        side = side_of(tmp_path, ids, 2)
        for context in ([1] * 5, [2, 1] * 4, [1, 2] * 4):
            assert plain(occurrences.occurrences(side, context, START, 9)) == naive(ids, context, 9)


def test_wide_ids(tmp_path: Path) -> None:
    side = side_of(tmp_path, [0, 70_000, 4_464, 0, 70_000, 4_000_000_000, 0], 4, "<u4")  # 70,000 is 4,464 in 16 bits
    assert plain(occurrences.occurrences(side, [70_000], START, 5)) == [(1, {4_464: 1, 4_000_000_000: 1})]


def test_nothing_stays_mapped_and_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    side = side_of(tmp_path, [0, *[1, 2] * 50, 0], 40)
    occurrences.occurrences(side, [1, 2], START, 5)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert ".ids" not in maps.read_text()
    path = side.shards[1].path
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LoadError) as caught:
        occurrences.occurrences(side, [1, 2], START, 5)
    assert caught.value.key == "corpus_shard_damaged" and path.name in str(caught.value)


def test_the_helper_writes_what_a_corpus_has(tmp_path: Path) -> None:
    (shard,) = side_of(tmp_path, [0, 1, 0], 5).shards
    shard.check_size()
    assert shard.path.read_bytes().startswith(shard_head(3, np.dtype("<u2"), "0" * 64)) and shard.open()[1] == 1
