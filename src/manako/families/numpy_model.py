"""What the NumPy models of all families share: weights, and copies of the model with another part in a block.

Special here: a family adds its forward pass and says where a block's two outputs lie among the weights; the rest
follows from that. Computes in the dtype of its weights (float32 in use).

Letters: R rows, C = n_embd, nh heads, hs the size of one, V logits.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from manako.families import blas
from manako.families.activations import Activations
from manako.families.attention import Cache
from manako.families.readout import Readout
from manako.families.shape import FileShape
from manako.trace.schema import CAPTURES

Array = npt.NDArray[Any]
C = TypeVar("C", bound=FileShape)


class NumpyModel(ABC, Generic[C]):
    """A model with its weights; an engine as engines/protocol.py describes it."""

    name = "numpy"
    device = "cpu"
    libraries = ()
    captures = CAPTURES  # they read Activations, which every family fills
    attention_output: ClassVar[str]
    """Block i's matrix from its heads to the residual stream, without ".weight"; {} stands for i."""
    mlp_output: ClassVar[str]
    """The same of its MLP."""
    in_out: ClassVar[bool]
    """Whether these matrices lie as [in, out]."""

    def __init__(self, config: C, weights: dict[str, Array], readout: Readout) -> None:
        self.config, self.weights, self.readout = config, weights, readout
        self.dtype = readout.head.dtype

    @property
    def lacks(self) -> Mapping[str, str]:
        """What it cannot do, with the catalog key of the reason."""
        return {}

    @property
    def kernel(self) -> Mapping[str, str]:
        """What NumPy's linear algebra chose for this processor."""
        return blas.kernel()

    @property
    def threads(self) -> int | None:
        """Those of NumPy's linear algebra."""
        return blas.threads()

    @property
    def n_parameters(self) -> int:
        """How many numbers its weights are."""
        return sum(weight.size for weight in self.weights.values())

    def name_with(self, captures: Sequence[str]) -> str:
        """The name again: captures change no bit."""
        return self.name

    @abstractmethod
    def new_cache(self) -> Cache:
        """An empty cache for this model."""

    @abstractmethod
    def forward(
        self, ids: Sequence[int] | Array, cache: Cache, last_only: bool = True, keep: Activations | None = None
    ) -> Array:
        """Logits of `ids`, which follow the tokens in `cache`; the cache grows by them."""

    def unembed(self, resid: Array) -> Array:
        """[R, C] -> [R, V]: what the final norm and the output matrix say of any row of the residual stream."""
        return self.readout.logits(resid)

    def output_weight(self, i: int) -> Array:
        """Block i's matrix from the heads to the residual stream, [nh * hs, C]."""
        return self._turned(self.weights[self.attention_output.format(i) + ".weight"])

    def output_bias(self, i: int) -> Array | None:
        """[C]: what that block's attention adds whatever its heads read; None where it adds nothing."""
        return self.weights.get(self.attention_output.format(i) + ".bias")

    def with_output(self, i: int, weight: Array, bias: Array) -> Self:
        """This model with another such matrix and bias."""
        return self._with(self.attention_output.format(i), self._turned(weight), bias)

    def with_constant_mlp(self, i: int, out: Array) -> Self:
        """This model with `out` [C] as the output of block i's MLP, whatever the text."""
        name = self.mlp_output.format(i)
        return self._with(name, np.zeros_like(self.weights[f"{name}.weight"]), out)

    def _turned(self, weight: Array) -> Array:
        """From the orientation of the file to [in, out], and back."""
        return weight if self.in_out else weight.T

    def _with(self, name: str, weight: Array, bias: Array) -> Self:
        changed = copy.copy(self)
        lies = np.asarray(weight, order="F" if self.in_out else "C")  # [out, in] in memory, as all of them
        changed.weights = self.weights | {f"{name}.weight": lies, f"{name}.bias": bias}
        return changed
