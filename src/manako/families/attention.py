"""Causal attention in NumPy: the cache of keys and values, and what each head reads.

Special here: queries go in blocks, so that their scores stay in the processor's cache and most of the masked half is
never computed. Heads that share keys and values (grouped queries) are one product, so no key is copied. Rows of
attention that only a capture wants are blocks of their own: the others have the same bits with it and without.

Letters: T tokens given, P tokens cached, K = P + T, nh heads, nkv heads of keys and values, G = nh / nkv, hs the size
of one head.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.families.activations import Activations

Array = npt.NDArray[Any]
QUERY_BLOCK = 64  # rows of attention at a time
_FIRST_ROOM = 256  # tokens that a new cache has room for


class Cache:
    """Keys and values of the tokens seen so far: [n_layer, nkv, room, hs] each.

    Each head's are contiguous, so a step is a handful of BLAS calls. The room grows by doubling, since a context of
    131,072 tokens would take gigabytes at once.
    """

    def __init__(self, n_layer: int, n_kv_head: int, head_size: int, block_size: int, dtype: npt.DTypeLike) -> None:
        shape = (n_layer, n_kv_head, min(_FIRST_ROOM, block_size), head_size)
        self.k = np.empty(shape, dtype=dtype)
        self.v = np.empty(shape, dtype=dtype)
        self.length = 0
        self.limit = block_size

    def make_room(self, length: int) -> None:
        """Room for `length` tokens, at least twice what there was, at most the context."""
        room = self.k.shape[2]
        if length > room:
            self.k, self.v = (self._grown(a, max(length, min(2 * room, self.limit))) for a in (self.k, self.v))

    def put(self, i: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Block i's keys and values [nkv, T, hs] behind those of the tokens seen; both whole, [nkv, K, hs]."""
        stop = self.length + k.shape[1]
        self.k[i, :, self.length : stop], self.v[i, :, self.length : stop] = k, v
        return self.k[i, :, :stop], self.v[i, :, :stop]

    def _grown(self, old: Array, room: int) -> Array:
        new = np.empty((*old.shape[:2], room, old.shape[3]), dtype=old.dtype)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new


def attend(q: Array, keys: Array, values: Array, rows: int, keep: Activations | None = None) -> Array:
    """Every token looks at itself and the past: z [rows, nh, hs], what the heads of the last `rows` tokens read.

    q: [nh, T, hs], divided by sqrt(hs) already. keys, values: [nkv, K, hs], those of the T tokens last.
    """
    (nh, T, hs), (nkv, K, _) = q.shape, keys.shape
    P, first = K - T, T - rows
    seen = T - (keep.pattern_rows(T) if keep is not None else 0)  # the first row of the pattern, as `first` is of z
    z = np.empty((rows, nh, hs), dtype=q.dtype)
    pattern = np.zeros((nh, T - seen, K), dtype=q.dtype)
    for start, stop in pairwise([*range(seen, first, QUERY_BLOCK), *range(first, T, QUERY_BLOCK), T]):
        n = stop - start
        grouped = q[:, start:stop].reshape(nkv, -1, hs)  # [nkv, G * n, hs]: heads that share keys lie behind each other
        scores = grouped @ keys[:, : P + stop].transpose(0, 2, 1)  # [nkv, G * n, P + stop]
        if n > 1:
            scores.reshape(nh, n, -1)[:, :, P + start :] += _future(n, q.dtype)
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        sums = np.add.reduce(scores, axis=-1, keepdims=True)  # pattern = scores / sums: divided where it is smaller
        if start >= first:
            read = (scores @ values[:, : P + stop]) / sums  # [nkv, G * n, hs]
            z[start - first : stop - first] = read.reshape(nh, n, hs).transpose(1, 0, 2)
        if (low := max(start, seen)) < stop:
            shown = slice(low - start, None)
            whole, total = scores.reshape(nh, n, -1)[:, shown], sums.reshape(nh, n, 1)[:, shown]
            np.divide(whole, total, out=pattern[:, low - seen : stop - seen, : P + stop])
    if keep is not None:
        keep.z.append(z)
        keep.pattern.append(pattern)
    return z


@lru_cache(maxsize=4)  # of a window past the context, every layer and every step asks for the same
def _future(rows: int, dtype: np.dtype[Any]) -> Array:
    """[rows, rows]: 0 where a row may look, -inf above the diagonal."""
    return np.triu(np.full((rows, rows), -np.inf, dtype=dtype), k=1)
