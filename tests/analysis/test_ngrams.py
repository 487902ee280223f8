"""n-gram shares of a corpus, against counts by hand and by brute force; the distance from them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from manako.analysis.ngrams import NGrams, ngrams
from manako.corpus.documents import Document
from manako.corpus.occurrences import followers
from manako.corpus.packed import PackedCorpus
from manako.corpus.packing import Vocabulary, pack
from manako.tokenizer import start_id_of, train_characters


def packed(folder: Path, *texts: str) -> PackedCorpus:
    def characters(given: Iterable[str]) -> Vocabulary:
        t = train_characters(given, min_count=1)
        return Vocabulary(t.source, t.vocab_size, start_id_of(t) or 0, t.encode_documents)

    documents = [Document(str(n), text) for n, text in enumerate(texts)]
    return pack(documents, folder, characters, validation_share=0.2)


def test_followers_are_what_a_loop_counts(tmp_path: Path) -> None:
    corpus = packed(tmp_path / "c", "abacabad" * 30, "bcbcbd" * 30, "abdabdabc" * 9)
    side = corpus.train
    ids = side.windows([0], len(side))[0].tolist()
    for length in (0, 1, 2):
        places = range(length, len(ids))
        wanted = Counter((tuple(ids[i - length : i]), ids[i]) for i in places)
        there = sorted({c for c, _ in wanted})
        never = [(250,) * length] if length else []
        contexts = np.array([*there, *never], dtype=np.int64)  # [D, length]
        found = followers(side, contexts, corpus.vocab_size)
        got = {
            (tuple(contexts[row].tolist()), follower): times
            for row, follower, times in zip(found.row.tolist(), found.id.tolist(), found.count.tolist(), strict=True)
        }
        assert got == dict(wanted)


def test_counts_do_not_depend_on_where_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = packed(tmp_path / "c", "abacabad" * 30)
    contexts = np.array([[i, j] for i in range(corpus.vocab_size) for j in range(257, corpus.vocab_size)])
    whole = followers(corpus.train, contexts, corpus.vocab_size)
    monkeypatch.setattr("manako.corpus.occurrences.BLOCK", 7)
    parts = followers(corpus.train, contexts, corpus.vocab_size)
    assert all((getattr(whole, name) == getattr(parts, name)).all() for name in ("row", "id", "count"))


@pytest.fixture
def counted(tmp_path: Path) -> tuple[NGrams, int]:
    corpus = packed(tmp_path / "c", "abacabad" * 120)
    found = ngrams(corpus, 16, 64)
    assert found is not None
    return found, corpus.vocab_size


def test_a_model_that_is_the_bigram_model_is_no_distance_from_bigrams(counted: tuple[NGrams, int]) -> None:
    found, size = counted
    places = found.windows[:, 1:].size
    for order in range(3):
        shares = found.shares[order]
        rows = np.full((places, size), -40.0, dtype=np.float32)
        rows[slice(None) if shares.row is None else shares.row, shares.id] = np.log(shares.share)
        sums = np.log(np.exp(rows.astype(np.float64)).sum(axis=1))
        distances = found.distances(rows, sums)
        assert distances[order] == pytest.approx(0, abs=1e-6)
        assert (distances[np.arange(3) != order] > 0.1).all()


def test_guesses_get_better_with_more_before_them(counted: tuple[NGrams, int]) -> None:
    found, size = counted
    assert found.guess_bits[0] == pytest.approx(np.log2(size))
    assert found.guess_bits[0] > found.guess_bits[1] > found.guess_bits[2] > 0
    even = np.zeros((found.windows[:, 1:].size, size), dtype=np.float32)
    assert found.bits(even, np.full(len(even), np.log(size))) == pytest.approx(np.log2(size))


def test_shares_of_each_place_sum_to_one(counted: tuple[NGrams, int]) -> None:
    for order in counted[0].shares:
        known = len(order.seen)
        sums = order.share.sum() if order.row is None else np.bincount(order.row, order.share, minlength=known)
        assert np.allclose(sums, order.seen) and order.seen.mean() > 0.8


def test_what_is_the_same_at_every_place_gives_the_distance_of_each_place_by_itself(
    counted: tuple[NGrams, int],
) -> None:
    found, size = counted
    shares = found.shares[0]
    assert shares.row is None
    rows = np.random.default_rng(0).normal(0, 3, (found.windows[:, 1:].size, size)).astype(np.float32)
    sums = np.log(np.exp(rows.astype(np.float64)).sum(axis=1))
    logp = rows[:, shares.id].astype(np.float64) - sums[:, None]
    each = (shares.share * (np.log(shares.share) - logp)).sum(axis=1) / np.log(2)
    assert found.distances(rows, sums)[0] == pytest.approx(each.mean(), rel=1e-12)
