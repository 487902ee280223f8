"""Where the end of a text occurs in a side of a packed corpus, and what came next there, counted exactly.

Special here: no index. All ids are read, block by block: the last token is compared with every one of them, each token
before it only where those behind it matched. That takes a tenth of a second for 64 million ids and no memory to speak
of, where a suffix array would take minutes to build and five bytes a token to keep. A document-start token stands
between two documents, so no match crosses the border.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manako.corpus.packed import Ids, Shards
from manako.frozen import Frozen

BLOCK = 2**20  # ids


@dataclass(frozen=True)
class Occurrences:
    """How often the last `length` tokens of a text occur."""

    length: int
    followers: Mapping[int, int]
    """Token id -> how often it came next, the most frequent first, ties by id. The document start ends a document."""

    @property
    def count(self) -> int:
        """How often those tokens occur; something comes next each time."""
        return sum(self.followers.values())


def occurrences(side: Shards, context: Sequence[int], start_id: int, longest: int) -> tuple[Occurrences, ...]:
    """The last 1, 2, 3 ... tokens of `context`, up to `longest` of them and as long as they occur at all.

    A context goes back to its own last document start at most, and with that in front is the beginning of a document.
    Raises LoadError for a shard that has been cut short since it was opened.
    """
    tail = context_within(context, start_id, longest)
    counts = [Counter[int]() for _ in tail]
    for block, known in _blocks(side, len(tail)) if tail else ():
        _count(block, known, tail, counts)
    found = (Occurrences(n, _most_frequent_first(c)) for n, c in enumerate(counts, 1))
    return tuple(each for each in found if each.followers)


def context_within(context: Sequence[int], start_id: int, longest: int) -> tuple[int, ...]:
    """The last tokens of a context, at most `longest`, none of them before its last document start.

    >>> context_within([5, 0, 7, 8, 9], start_id=0, longest=9), context_within([5, 0, 7, 8, 9], 0, longest=2)
    ((0, 7, 8, 9), (8, 9))
    """
    ids = [int(i) for i in context]
    begun = max((n for n, i in enumerate(ids) if i == start_id), default=0)
    return tuple(ids[max(begun, len(ids) - longest) :])


def _blocks(side: Shards, overlap: int) -> Iterator[tuple[Ids, int]]:
    """The ids of a side in blocks, and how many at the start of each are the last ones of the block before."""
    before: Ids = np.empty(0, dtype=np.uint16)
    for shard in side.shards:
        for start in range(0, shard.tokens, BLOCK):
            # opened for each block: a map that stays open keeps every page that it has touched in memory
            block = np.concatenate([before, shard.open()[start : start + BLOCK]])
            yield block, len(before)
            before = block[-overlap:]


def _count(block: Ids, known: int, tail: Sequence[int], counts: Sequence[Counter[int]]) -> None:
    """Add what came next in one block: every place behind its `known` ids is that of one possible follower."""
    first = max(known, 1)  # the very first id follows nothing
    at = first + np.flatnonzero(block[first - 1 : -1] == tail[-1])  # [M] places of what follows the last token
    for length, count in enumerate(counts, 1):
        at = at[at >= length]
        at = at[block[at - length] == tail[-length]]
        if not len(at):
            return
        ids, times = np.unique(block[at], return_counts=True)
        count.update(dict(zip(ids.tolist(), times.tolist(), strict=True)))


def _most_frequent_first(count: Counter[int]) -> Mapping[int, int]:
    return dict(sorted(count.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, eq=False)
class Followers(Frozen):
    """What comes next behind each of many contexts of one length, counted over a whole side."""

    row: npt.NDArray[np.int64]
    """[M] which of the contexts, ascending."""
    id: npt.NDArray[np.int64]
    """[M] what came next."""
    count: npt.NDArray[np.int64]
    """[M] how often."""


def followers(side: Shards, contexts: npt.NDArray[np.int64], vocab_size: int) -> Followers:
    """Count what follows each context, all in one reading of the side. contexts: [D, n], each once, n of 0 to 2 ids.

    The rows of the answer are in the order of the contexts. Raises LoadError as `occurrences` does.

    The counts of a block are made by one sort, so a reading costs about a fifth of a second for each million ids and
    three lengths, whatever the number of contexts.
    """
    size, length = np.int64(vocab_size), contexts.shape[1]
    assert vocab_size ** (length + 1) < 2**63  # a context and its follower are one number
    codes = _codes(list(contexts.T), size)  # [D]
    order = np.argsort(codes)
    keys, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for block, known in _blocks(side, max(1, length)):
        first = max(known, length)
        ids = block.astype(np.int64)
        found = _codes([ids[first - length + n : len(ids) - length + n] for n in range(length)], size, len(ids) - first)
        place = np.minimum(np.searchsorted(codes, found, sorter=order), len(codes) - 1)
        wanted = codes[order[place]] == found
        new, times = np.unique(place[wanted] * size + ids[first:][wanted], return_counts=True)
        keys, inverse = np.unique(np.concatenate([keys, new]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([counts, times])).astype(np.int64)
    row, follower = np.divmod(keys, size)
    row = order[row]
    sort = np.lexsort((follower, row))
    return Followers(row[sort], follower[sort], counts[sort])


def _codes(columns: Sequence[npt.NDArray[np.int64]], size: np.int64, count: int = 1) -> npt.NDArray[np.int64]:
    """Contexts as numbers. columns: the first ids, the second ones, and so on; count: of contexts without an id."""
    codes = np.zeros(len(columns[0]) if len(columns) else count, dtype=np.int64)
    for column in columns:
        codes = codes * size + column
    return codes
