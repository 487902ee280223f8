"""From a row of the residual stream to logits: the two norms, and the final one with the output matrix.

Special here: the final norm is linear once its scale is known, so a logit is a sum of what each part of the model added
to the last row; `direct` is that sum, part by part. A logit lens needs the opposite: every layer its own scale, which
is what `logits` computes from any row. TransformerLens took one for the other once (TransformerLens#1076).

Letters: R rows, C = n_embd, V logits, N parts, M tokens.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """LayerNorm over the last axis; a new array. Source: Ba et al. 2016, arXiv:1607.06450."""
    width = x.dtype.type(1 / x.shape[-1])
    x = x - np.add.reduce(x, axis=-1, keepdims=True) * width
    variance = np.add.reduce(x * x, axis=-1, keepdims=True) * width
    x *= 1 / np.sqrt(variance + x.dtype.type(epsilon))
    x *= weight
    x += bias
    return x


def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    """RMSNorm over the last axis; a new array. Source: Zhang and Sennrich 2019, arXiv:1910.07467."""
    mean = np.add.reduce(x * x, axis=-1, keepdims=True) * x.dtype.type(1 / x.shape[-1])
    x = x * (1 / np.sqrt(mean + x.dtype.type(epsilon)))
    x *= weight
    return x


@dataclass(frozen=True, eq=False)
class Readout:
    """The final norm and the output matrix of a model."""

    weight: Array
    """[C] of the norm."""
    bias: Array | None
    """[C] of a LayerNorm; None makes it an RMSNorm, which does not centre."""
    epsilon: float
    head: Array
    """[V, C]"""

    def normed(self, x: Array) -> Array:
        """[R, C] -> [R, C], each row with its own scale."""
        if self.bias is None:
            return rms_norm(x, self.weight, self.epsilon)
        return layer_norm(x, self.weight, self.bias, self.epsilon)

    def logits(self, x: Array) -> Array:
        """[R, C] -> [R, V]: what the model would say if its last row were this one."""
        h = self.normed(x)
        return np.vecdot(self.head, h[0])[None] if len(h) == 1 else h @ self.head.T

    def scale(self, x: Array) -> Array:
        """[R, C] -> [R, 1]: what the norm multiplies these rows by, apart from its weight."""
        if self.bias is not None:
            x = x - x.mean(axis=-1, keepdims=True)
        return 1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + x.dtype.type(self.epsilon))

    def directions(self, ids: Array) -> Array:
        """[M] token ids -> [M, C]: the direction in the residual stream that raises each token's logit, scale apart."""
        found = self.head[ids] * self.weight
        return found if self.bias is None else found - found.mean(axis=-1, keepdims=True)

    def mean_direction(self) -> Array:
        """[C]: the mean of the directions of all tokens, along which a part moves no probability."""
        found = self.head.mean(axis=0, dtype=np.float64) * self.weight
        return (found if self.bias is None else found - found.mean()).astype(self.head.dtype)

    def mean_constant(self) -> Array:
        """The mean of `constant` over all tokens."""
        return self.head.dtype.type(0 if self.bias is None else self.head.mean(axis=0, dtype=np.float64) @ self.bias)

    def constant(self, ids: Array) -> Array:
        """[M] token ids -> [M]: the part of each logit that no row changes, from the norm's bias."""
        if self.bias is None:
            return np.zeros(np.shape(ids), dtype=self.head.dtype)
        return self.head[ids] @ self.bias
