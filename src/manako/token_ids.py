"""Ids of tokens that a program gives.

Special here: NumPy and a list take -1 for the last token, and True for the second. What comes from outside is
therefore looked at once, whole, where it comes in; nothing behind that looks again.
"""

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.errors import UsageError

Ids = npt.NDArray[np.integer[Any]]


def check_ids(given: Iterable[int] | Ids, size: int, least: int = 0, most: int | None = None) -> Ids:
    """[T] the ids as an array; one that is an array already is not copied.

    size: of the vocabulary, whose ids are 0 to size - 1. least, most: how many there may be; most is the context of a
    model. Raises UsageError naming the first that is no such id, or how many there are.

    >>> check_ids(range(3), 5)
    array([0, 1, 2])
    """
    ids = np.asarray(given) if hasattr(given, "__array__") else _array(given, size)
    if ids.dtype.kind not in "iu" or ids.ndim != 1:
        raise _wrong(given, size)
    if len(ids) < least or (most is not None and len(ids) > most):
        raise UsageError("token_ids_count", got=len(ids), least=least, most=most)
    if len(ids) and not (ids.min() >= 0 and ids.max() < size):
        raise _wrong(ids[(ids < 0) | (ids >= size)][0], size)
    return ids


def _array(given: Any, size: int) -> Ids:
    """Values of Python, of which NumPy would turn some into others: a True among numbers into 1."""
    values: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    types = {kind for kind in set(map(type, values)) if kind is bool or not issubclass(kind, numbers.Integral)}
    if types or not isinstance(given, Iterable):
        raise _wrong(next((value for value in values if type(value) in types), given), size)
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:  # beyond 64 bits, and so beyond any vocabulary
        raise _wrong(next(value for value in values if not 0 <= value < size), size) from None


def _wrong(got: object, size: int) -> UsageError:
    return UsageError("token_ids", got=got, last=size - 1)
