"""Which documents are the same work: copies, editions in old and in new spelling, a work and its parts.

Special here: documents are compared by runs of kanji alone, since editions differ in kana, punctuation and front
matter. Each document keeps a sample of the hashes of its runs (FracMinHash: those below a limit that is the same for
all), so that the share of a small document inside a large one can be seen; when there are too many of them the limit
is halved, so memory is bounded. Sources: Broder 1997, "On the resemblance and containment of documents"; Irber et al.
2022, "Lightweight compositional analysis of metagenomes with FracMinHash".
"""

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

KANJI_RUN, LETTER_RUN = 4, 16  # characters of a run: of kanji, or of all letters in a text with hardly any kanji
SAMPLED = 4  # one run in so many is kept, at first
MOST_HASHES = 16 * 2**20  # of all documents together: 128 MB, and as much for their owners
CONTAINED = 0.2  # share of the smaller document's runs that the larger one must have
LEAST_SHARED = 4  # sampled runs in common; fewer may be a quotation or chance
_NEIGHBOURS = 4  # documents that a hash is compared with, next in order; enough for all to be chained
_BLOCK = 2**20  # runs hashed at a time
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Sketches:
    """What is kept of each document, in the order in which they were added."""

    def __init__(self) -> None:
        self._limit = 2**64 // SAMPLED
        self._hashes: list[Hashes] = []
        self._least: list[int] = []
        self._held = 0

    def add(self, codes: npt.NDArray[np.uint32]) -> None:
        """One more document by its code points [characters]."""
        key, length = _key(codes)
        least, kept = 2**64, []
        for begin in range(0, len(key) - length + 1, _BLOCK):
            hashes = run_hashes(key[begin : begin + _BLOCK + length - 1], length)
            least = min(least, int(hashes.min()))
            kept.append(hashes[hashes < np.uint64(self._limit)])
        self._least.append(least)
        self._hashes.append(np.unique(np.concatenate(kept)))
        self._held += len(self._hashes[-1])
        while self._held > MOST_HASHES:
            self._limit //= 2
            self._hashes = [h[: np.searchsorted(h, np.uint64(self._limit))].copy() for h in self._hashes]
            self._held = sum(map(len, self._hashes))

    def groups(self) -> tuple[npt.NDArray[np.int64], list[int]]:
        """(group of each document [documents], the key of each group).

        Groups are numbered by their first document. A key is the least hash of the group's documents: it stays the same
        when documents of other groups come or go, and nearly always when one more edition comes.
        """
        parents = list(range(len(self._hashes)))
        for a, b in self._pairs():
            parents[max(_root(parents, a), _root(parents, b))] = min(_root(parents, a), _root(parents, b))
        roots = [_root(parents, i) for i in range(len(parents))]
        number = {root: n for n, root in enumerate(dict.fromkeys(roots))}
        keys: dict[int, int] = {}
        for root, least in zip(roots, self._least, strict=True):
            keys[number[root]] = min(least, keys.get(number[root], least))
        return np.array([number[root] for root in roots], dtype=np.int64), [keys[n] for n in range(len(keys))]

    def _pairs(self) -> list[tuple[int, int]]:
        """Documents that belong together, as pairs that chain all of a group."""
        sizes = np.array([len(h) for h in self._hashes])
        same = [(i, j) for least in _equal(self._least) for i, j in zip(least, least[1:], strict=False)
                if np.array_equal(self._hashes[i], self._hashes[j])]  # fmt: skip
        hashes = np.concatenate([np.zeros(0, np.uint64), *self._hashes])
        owners = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        found = []
        for k in range(1, _NEIGHBOURS + 1):
            shared = hashes[k:] == hashes[:-k]
            found.append(owners[:-k][shared].astype(np.uint64) << np.uint64(32) | owners[k:][shared])
        pairs, counts = np.unique(np.concatenate(found), return_counts=True)
        a, b = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(2**32 - 1)).astype(np.int64)
        alike = (counts >= LEAST_SHARED) & (counts >= CONTAINED * np.minimum(sizes[a], sizes[b]))
        return same + list(zip(a[alike].tolist(), b[alike].tolist(), strict=True))


def run_hashes(key: npt.NDArray[np.uint32], length: int) -> Hashes:
    """The hash of each run of `length` characters [characters - length + 1]."""
    wide = key.astype(np.uint64)
    hashes = np.zeros(len(key) - length + 1, dtype=np.uint64)
    for k in range(length):  # a polynomial, modulo 2^64
        hashes = hashes * _MULTIPLIER + _mixed(wide[k : len(key) - length + 1 + k])
    return _mixed(hashes)


def _key(codes: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], int]:
    """What a document is compared by, at least one character, and the length of its runs: kanji, or all letters."""
    kanji = codes[(codes >= 0x4E00) & (codes <= 0x9FFF)]
    if len(kanji) >= max(2 * KANJI_RUN, 0.05 * len(codes)):
        return kanji, KANJI_RUN
    letters = codes[(codes > 0x20) & (codes != 0x3000)]
    if len(letters) == 0:
        letters = np.zeros(1, np.uint32)
    return letters, min(LETTER_RUN, len(letters))


def _mixed(x: Hashes) -> Hashes:
    """SplitMix64's finaliser: every bit of the result depends on every bit given."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _equal(values: list[int]) -> list[list[int]]:
    """The places of each value that occurs more than once."""
    places: dict[int, list[int]] = {}
    for i, value in enumerate(values):
        places.setdefault(value, []).append(i)
    return [p for p in places.values() if len(p) > 1]


def _root(parents: list[int], i: int) -> int:
    while parents[i] != i:
        parents[i] = i = parents[parents[i]]
    return i
