"""What a forward pass keeps when it is asked to, in the names of TransformerLens.

Special here: arrays, not hooks. An engine appends what it has computed anyway; nothing is computed twice. Rows are
those whose logits the pass returns (R of them); `pattern` alone may have a row for every token that was given.

Letters: T tokens given, K = tokens cached and given, C = n_embd, nh heads, hs the size of one.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(eq=False)
class Activations:
    """Give a fresh one to `forward(..., keep=...)`; it is filled layer by layer."""

    attention: bool = False
    """Whether `pattern` is wanted."""
    last_attention: bool = False
    """Whether of the pattern the R rows are enough; without it a row of every given token is wanted."""
    returned: int = 0
    """R, which the engine sets as it begins."""
    embed: list[Array] = field(default_factory=list)
    """[R, C] each: what begins the residual stream, the token's embedding and, where learned, the position's."""
    pattern: list[Array] = field(default_factory=list)
    """[nh, T or R, K] a layer: softmaxed attention, exactly 0 for the future; empty rows where it is not wanted."""
    z: list[Array] = field(default_factory=list)
    """[R, nh, hs] a layer: what each head read, before the output matrix."""
    mlp_out: list[Array] = field(default_factory=list)
    """[R, C] a layer, its bias included."""
    resid_post: list[Array] = field(default_factory=list)
    """[R, C] a layer: the residual stream behind each block."""

    def residual(self) -> Array:
        """[n_layer + 1, R, C]: the stream before the first block and behind each one."""
        start = self.embed[0]
        for more in self.embed[1:]:
            start = start + more
        return np.stack([start, *self.resid_post])

    def pattern_rows(self, given: int) -> int:
        """How many of the last of T given tokens need their row of attention."""
        return 0 if not self.attention else self.returned if self.last_attention else given

    def trim(self, rows: int) -> None:
        """Keep the last `rows` rows of everything but `pattern`."""
        for each in (self.embed, self.z, self.mlp_out, self.resid_post):
            each[:] = [array[-rows:] for array in each]
