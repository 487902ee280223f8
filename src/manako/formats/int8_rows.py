"""Weights of a model folder as int8 with one scale a row: a fourth of float32, for a model that travels in a package.

A matrix W [R, C] lies as two tensors, NAME (I8 [R, C], W's name) and NAME_scale (F32 [R]), rows as in the file's own
orientation. All of it is float32, each operation rounded to nearest, ties to even:

    scale[r]  = max over c of |W[r, c]| / 127      0 for a row of zeros
    q[r, c]   = rint(W[r, c] / scale[r])           -127 to 127, 0 where the scale is 0
    W'[r, c]  = q[r, c] * scale[r]                 what is computed with

They lie in a file of their own name, FILE, in place of model.safetensors, so that no other program takes q for W:
`transformers` warns of a `quantization_config` that it does not know, and loads q all the same. The digest of such a
tensor in the metadata is that of W' as little-endian float32, so a model has the fingerprint of its export in float32.

Special here: every matrix is written so, embeddings included; norms and biases, which are few, stay float32. A reader
takes any matrix in either form. Measured on the embedded model: 0.0008 bits a character more than float16, of which the
position embedding makes 0.00005.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError
from manako.formats.tensor_files import Stored, check_finite

FILE = "int8.safetensors"
SCALE = "_scale"
_MOST = np.float32(127)


def quantised(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """(q, scale) of a matrix, see the module.

    >>> q, scale = quantised(np.array([[1.27, -0.5], [0, 0]], np.float32))
    >>> q.tolist(), [round(float(s), 4) for s in scale]
    ([[127, -50], [0, 0]], [0.01, 0.0])
    """
    scale = np.abs(weight).max(axis=1) / _MOST  # [R]
    ratio = np.divide(weight, scale[:, None], out=np.zeros_like(weight), where=scale[:, None] > 0)
    return np.rint(ratio).clip(-_MOST, _MOST).astype(np.int8), scale  # clipped: a scale near 0 has few digits


def dequantised(q: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """W' of q [R, C] and scale [R], see the module."""
    return np.multiply(q, scale[:, None], dtype=np.float32)


@dataclass(frozen=True)
class Int8Rows:
    """Such a pair of tensors as a file announces it; it reads like one tensor."""

    q: Stored
    scale: Stored
    dtype = "int8"
    is_float = True

    @property
    def file(self) -> Path:
        return self.q.file

    @property
    def name(self) -> str:
        return self.q.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.q.shape

    @property
    def size(self) -> int:
        return self.q.size

    def read(self) -> npt.NDArray[np.uint8]:
        """[size] the bytes of q as they lie there."""
        return self.q.read()

    def widened(self) -> tuple[npt.NDArray[np.float32], str]:
        """(W', all finite; SHA-256 of its bytes, hexadecimal). Raises LoadError."""
        scale, _ = self.scale.widened()
        with np.errstate(over="ignore"):  # what is not finite is named below, with its place
            numbers = dequantised(self.read().view(np.int8).reshape(self.shape), scale)
        check_finite(str(self.file), self.name, numbers)
        return numbers, hashlib.sha256(numbers.data).hexdigest()


def paired(stored: list[Stored]) -> list[Stored | Int8Rows]:
    """The tensors of a file, each I8 matrix with its scales as one. Raises LoadError for one without the other."""
    scales = {tensor.name: tensor for tensor in stored if tensor.name.endswith(SCALE)}
    found: list[Stored | Int8Rows] = []
    for tensor in stored:
        if tensor.dtype != "I8" or len(tensor.shape) != 2:
            found += [] if tensor.name.endswith(SCALE) else [tensor]
            continue
        scale = scales.pop(tensor.name + SCALE, None)
        if scale is None:
            raise LoadError("tensor_missing", file=tensor.file, tensor=tensor.name + SCALE)
        if scale.dtype != "F32":
            raise LoadError("tensor_dtype", file=tensor.file, tensor=scale.name, dtype=scale.dtype)
        if scale.shape != tensor.shape[:1]:
            where = {"file": tensor.file, "tensor": scale.name}
            raise LoadError("tensor_shape", **where, found=list(scale.shape), expected=[tensor.shape[0]])
        found.append(Int8Rows(tensor, scale))
    return [*found, *scales.values()]  # what is left belongs to nothing, and is refused as unknown
