"""What kind of head each head is, by where it looks in random tokens that come twice.

Special here: the tokens are random, so nothing but their order can tell a head where to look. A score is the mean of
the weights that a head gives to the one place that its kind would look at; 1 is all of them. The sequence is a
document start (where the model has one), then `n` random tokens, then the same again.

- previous-token: the token before. Over all places.
- duplicate-token: the same token, n places before. Over the second half.
- induction: the token behind the same token, n - 1 places before: what came next the last time. Over the second half.

Source: Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv:2209.11895 (prefix matching).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[Any]


def repeated(vocabulary: Sequence[int], n: int, front: Sequence[int], seed: int = 0) -> list[int]:
    """Some tokens in front, then n random ones out of a vocabulary, then the same n again.

    >>> repeated([5, 6, 7], 2, [0])
    [0, 7, 5, 7, 5]
    """
    drawn = np.random.default_rng(seed).permutation(np.asarray(vocabulary))
    some = np.resize(drawn, n).tolist()  # a small vocabulary comes several times
    return [*front, *some, *some]


def head_scores(pattern: npt.NDArray[Any], n: int) -> Floats:
    """[L, H, 3]: previous-token, duplicate-token and induction score. pattern: [L, H, T, T], n twice at its end."""
    size = int(pattern.shape[2])
    every: Places = np.arange(1, size)
    second: Places = np.arange(size - n, size)
    looked: list[tuple[Places, Places]] = [(every, every - 1), (second, second - n), (second, second - n + 1)]
    return np.stack([pattern[:, :, at, to].mean(axis=2, dtype=np.float64) for at, to in looked], axis=2)


def chance(size: int, n: int) -> Floats:
    """[3]: the same of a head that looks at every token in view alike. size: T.

    >>> chance(4, 2).round(3).tolist()
    [0.361, 0.292, 0.292]
    """
    even = 1 / np.arange(1, size + 1)
    return np.array([even[1:].mean(), even[size - n :].mean(), even[size - n :].mean()])
