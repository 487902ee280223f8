"""The weights of a model in memory: one array for all of them, each matrix as a forward pass reads it.

Special here: one array because Linux gives huge pages only to a large one (NumPy asks for them from 4 MB on); a step
that walks every weight by pages of 4 kB is a third slower. Matrices lie [out, in], whatever the file has, since a
product of one row then reads them in order; a file's own orientation is a view of that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Weights(dict[str, Array]):
    """Tensors by their names in the file, without prefix, in its orientation: to be filled by who reads the file."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        transposed: Callable[[str], bool],
        order: Sequence[str] | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        """shapes: of the file's tensors. transposed: which of them lie there as [in, out].

        order: in which they lie in memory, for neighbours that are read as one; as in `shapes` by default.
        """
        super().__init__()
        sizes = {name: math.prod(shapes[name]) for name in order or shapes}
        self.whole = np.empty(sum(sizes.values()), dtype)
        start = 0
        for name, size in sizes.items():
            room, shape, start = self.whole[start : start + size], shapes[name], start + size
            self[name] = room.reshape(shape[::-1]).T if transposed(name) else room.reshape(shape)

    def filled(self, tensors: Mapping[str, npt.ArrayLike]) -> "Weights":
        """With the numbers of these tensors."""
        for name, tensor in tensors.items():
            self[name][...] = tensor
        return self

    def joined(self, names: Sequence[str]) -> Array:
        """Tensors that lie behind each other, as one with the rows of all of them."""
        first, size = self[names[0]], sum(self[name].size for name in names)
        start = (first.ctypes.data - self.whole.ctypes.data) // self.whole.itemsize
        return self.whole[start : start + size].reshape(-1, *first.shape[1:])


def held(tensors: Mapping[str, Array], room: Callable[[npt.DTypeLike], Weights]) -> Weights:
    """The tensors as they lie, where their reader put them in such room; else copied into some, in their dtype."""
    if isinstance(tensors, Weights):
        return tensors
    return room(next(iter(tensors.values())).dtype).filled(tensors)
