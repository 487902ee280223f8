"""How far a model's probabilities are from the shares of unigrams, bigrams and trigrams in its training corpus.

Special here: the distance is KL(shares || model), the bits that are lost by expecting with the model what comes with
those shares. It is finite wherever the model is, unlike the other direction: a model gives every token something, and
a corpus most trigrams nothing. Shares are as counted, not smoothed; places whose context the corpus never has are left
out, and how many are left in is said. Where a context is rare its shares are peaked by chance, so the distance from
trigrams has a floor above 0.

Source of the comparison: Belrose et al. 2024, "Neural Networks Learn Statistics of Increasing Complexity",
arXiv:2402.04362.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.corpus.occurrences import followers
from manako.corpus.packed import PackedCorpus
from manako.frozen import Frozen

ORDERS = ("unigram", "bigram", "trigram")
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shares(Frozen):
    """The shares of one order at some places of a text, as the numbers that are not 0."""

    row: Array | None
    """[M] place; None where every place has the same shares: those without a context."""
    id: Array
    """[M] token."""
    share: Floats
    """[M] of all that follows the context of that place."""
    seen: Floats
    """[R] 1 where the corpus has the context of a place, else 0."""

    @cached_property
    def certainty(self) -> float:
        """The sum of share * log(share), in nats: the part of the distances that is the same for all models."""
        return float(self.share @ np.log(self.share)) * (len(self.seen) if self.row is None else 1)

    def expected(self, rows: npt.NDArray[np.float32]) -> float:
        """The sum of share * logit over all places. rows: [R, V]; what is the same everywhere needs their sum alone."""
        logits = rows.sum(axis=0, dtype=np.float64)[self.id] if self.row is None else rows[self.row, self.id]
        return float(self.share @ logits)


@dataclass(frozen=True, eq=False)
class NGrams(Frozen):
    """Held-out windows, and what the corpus says of each of their places."""

    windows: Array
    """[B, T + 1] ids; place i of a window predicts its token i + 1."""
    shares: tuple[Shares, ...]
    """One for each of ORDERS."""
    guess_bits: Floats
    """[3] bits a token for who guesses with the same chance for all, by unigrams, by bigrams; see `_smoothed`."""

    def distances(self, rows: npt.NDArray[np.float32], logsumexp: Floats) -> Floats:
        """[3] bits, the mean over the places whose context is known. rows: [R, V] logits of all places, in order.

        The shares of a place sum to 1, so that its distance is: certainty - expected logit + logsumexp. Worked out so,
        there is one product for each of millions of shares, and no logarithm.
        """
        found = list[float]()
        for order in self.shares:
            nats = order.certainty - order.expected(rows) + order.seen @ logsumexp
            found.append(float(nats) / math.log(2) / max(1.0, order.seen.sum()))
        return np.array(found)

    def bits(self, rows: npt.NDArray[np.float32], logsumexp: Floats) -> float:
        """Bits a token that the model needs for the windows."""
        targets = self.windows[:, 1:].ravel()
        logp = rows[np.arange(len(targets)), targets].astype(np.float64) - logsumexp
        return float(-logp.mean() / math.log(2))


def ngrams(corpus: PackedCorpus, length: int, tokens: int) -> NGrams | None:
    """Windows of `length` + 1 ids, evenly over the held-out side, of `tokens` places together; None where it is too
    short for one of two. Raises LoadError for a damaged shard."""
    side = corpus.validation
    length = min(length, len(side) - 1)
    if length < 2:
        return None
    count = max(1, min(tokens // length, (len(side) - 1) // length))
    starts = np.linspace(0, len(side) - 1 - length, count).astype(np.int64)
    windows = side.windows(starts, length + 1)  # [B, T + 1]
    shares, guesses = list[Shares](), [math.log2(corpus.vocab_size)]
    targets, behind = windows[:, 1:].ravel(), np.array([1 / corpus.vocab_size])
    for n in range(len(ORDERS)):
        contexts, place = _contexts(windows, n, corpus.start_id)
        if n:
            distinct, which = np.unique(contexts, axis=0, return_inverse=True)
        else:
            distinct, which = contexts[:1], np.zeros(len(contexts), dtype=np.int64)
        found = followers(corpus.train, distinct, corpus.vocab_size)
        totals: Floats = np.bincount(found.row, found.count, minlength=len(distinct)).astype(np.float64)
        share = found.count / totals[found.row]
        if n:
            shares.append(_spread(found.row, found.id, share, which.ravel(), place, len(targets)))
        else:
            shares.append(Shares(None, found.id, share, np.full(len(targets), float(len(share) > 0))))
        if n < 2:
            behind = _smoothed(found.row, found.id, found.count, totals, which.ravel(), place, targets, behind)
            guesses.append(float(-np.log2(behind).mean()))
    return NGrams(windows, tuple(shares), np.array(guesses))


def _contexts(windows: Array, length: int, start_id: int) -> tuple[Array, Array]:
    """(contexts [R', length], their places [R']): those within a window and a document; a start may begin one."""
    wide = int(windows.shape[1]) - 1
    ends: Array = np.arange(max(0, length - 1), wide)  # the last id of each context
    parts = [windows[:, ends - length + 1 + n] for n in range(length)]
    contexts = np.stack(parts, axis=2).reshape(-1, length) if length else np.zeros((len(windows) * wide, 0), np.int64)
    place: Array = (np.arange(len(windows))[:, None] * wide + ends).ravel()
    inside = (contexts[:, 1:] != start_id).all(axis=1)
    return contexts[inside], place[inside]


def _spread(row: Array, id: Array, share: Floats, which: Array, place: Array, places: int) -> Shares:
    """The shares of each distinct context at every place that has it. row, id, share: sorted by row."""
    starts = np.searchsorted(row, which)
    sizes = np.searchsorted(row, which, side="right") - starts  # [R'] followers of each place
    offsets: Array = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    at: Array = np.repeat(starts, sizes) + offsets
    seen = np.zeros(places)
    seen[place[sizes > 0]] = 1
    return Shares(np.repeat(place, sizes), id[at], share[at], seen)


def _smoothed(
    row: Array, id: Array, count: Array, totals: Floats, which: Array, place: Array, targets: Array, behind: Floats
) -> Floats:
    """[R] what a guess by these counts gives the target of each place: one more token, spread as the order below says.

    So a guess that never saw a pair is not at a loss for words: Dirichlet smoothing with one pseudo-count.
    """
    below = np.broadcast_to(behind, len(targets))
    size = 1 + int(max(id.max(initial=0), targets.max()))
    keys, wanted = row * size + id, which * size + targets[place]
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1) if len(keys) else np.zeros(len(wanted), np.int64)
    times = np.where(keys[at] == wanted, count[at], 0) if len(keys) else np.zeros(len(wanted))
    found = np.array(below)
    found[place] = (times + below[place]) / (totals[which] + 1)
    return found
