"""A frozen dataclass that holds arrays: nobody writes into them, and it equals what holds the same.

Special here: `frozen` alone keeps nobody from writing into an array that a field holds, and the `==` that `dataclass`
makes asks arrays for a truth value, which they have not. Arrays are compared by their bytes, so that NaN equals itself.
Whoever wrote into an array before may still do so: what is held is a view, no copy.
"""

from collections.abc import Hashable, Mapping
from dataclasses import fields
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_HASHED = 16  # numbers of each array: a hash need not tell all apart, and rows of logits may be many


class Frozen:
    """What a frozen dataclass with arrays inherits from; it is declared with `eq=False`, so that these count."""

    def __post_init__(self) -> None:
        held = vars(self)  # written here, since a frozen dataclass lets no field be set
        for name, value in held.items():
            if isinstance(value, np.ndarray):
                held[name] = sealed(cast(Array, value))
            elif isinstance(value, dict):  # another mapping, such as one that reads when it is asked, sees to itself
                inner = cast(dict[Any, Any], value)
                held[name] = {
                    key: sealed(cast(Array, v)) if isinstance(v, np.ndarray) else v for key, v in inner.items()
                }

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return same(self.content(), other.content())

    def __hash__(self) -> int:
        return hash((type(self), _hashed(self.content())))

    def content(self) -> tuple[Any, ...]:
        """What it is compared by: its fields, but for those that are declared with `compare=False`."""
        return tuple(getattr(self, field.name) for field in fields(cast(Any, self)) if field.compare)


def sealed(array: Array) -> Array:
    """The array for somebody who is to read it alone: a view of the same numbers that nobody can write through."""
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def same(one: Any, other: Any) -> bool:
    """Whether two values hold the same, arrays in them by type, shape and bytes.

    >>> same([np.array([np.nan])], [np.array([np.nan])]), same(np.zeros(2), np.zeros(3)), same(0, 0.0)
    (True, False, True)
    """
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and _same_bytes(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        ours, theirs = cast(Mapping[Any, Any], one), cast(Mapping[Any, Any], other)
        return ours.keys() == theirs.keys() and all(same(value, theirs[name]) for name, value in ours.items())
    if isinstance(one, tuple | list) and type(one) is type(other):  # pyright: ignore[reportUnknownArgumentType]
        ours, theirs = cast(list[Any], one), cast(list[Any], other)
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(one is other or one == other)


def _same_bytes(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return np.array_equal(_bytes(one), _bytes(other))


def _bytes(array: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _hashed(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        array = cast(Array, value)
        return array.dtype.str, array.shape, array.flat[:_HASHED].tobytes()
    if isinstance(value, Mapping):
        return frozenset(cast(Mapping[Any, Any], value))
    if isinstance(value, tuple | list):
        return tuple(map(_hashed, cast(list[Any], value)))
    return value
