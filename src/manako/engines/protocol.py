"""What an engine is: everything that generation, scoring, captures and ablation ask of whatever runs a model.

Special here: an engine may lack things, and says so before anybody asks for them. `lacks` maps what it cannot do to the
catalog key of the reason. Its keys are the captures (attention, lens, contributions, residual), `ablation`, and `rows`:
an engine that is told only some candidates of each step, as by a server, lacks whole rows of logits and everything that
needs them. What an engine lacks is never called: it may have no such method, or one that raises.

Several threads may run one engine at the same time, each with a cache of its own; where its passes would disturb each
other, the engine lets them wait.

The NumPy models of families/ are engines as they are; hf_engine.py is one over `transformers`.

Letters: T tokens given, R rows, C = n_embd, nh heads, hs the size of one, V logits.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, TypeGuard

import numpy as np
import numpy.typing as npt

from manako.errors import CapabilityError
from manako.families.activations import Activations
from manako.families.readout import Readout
from manako.families.shape import Shape
from manako.messages import Phrase
from manako.trace.schema import CAPTURES

Array = npt.NDArray[Any]


class Engine(Protocol):
    """A model that is ready to run. Every engine has the first part; the rest as far as `lacks` leaves it."""

    # ---- what it is

    @property
    def config(self) -> Shape: ...
    @property
    def name(self) -> str:
        """As headers name it, such as "numpy"."""
        ...

    def name_with(self, captures: Sequence[str]) -> str:
        """The name for a run with these captures: with the way of computing, where that changes the last digits."""
        ...

    @property
    def libraries(self) -> Sequence[str]:
        """Packages beside NumPy whose versions decide what is computed."""
        ...

    @property
    def kernel(self) -> Mapping[str, str]:
        """What else decides the last bits of a logit, such as the kernel of NumPy's linear algebra; {} for nothing."""
        ...

    @property
    def device(self) -> str: ...
    @property
    def threads(self) -> int | None:
        """How many threads of the processor a pass takes; None where another device computes, or nobody tells."""
        ...

    @property
    def dtype(self) -> np.dtype[Any] | str:
        """What it computes in, such as float32."""
        ...

    @property
    def n_parameters(self) -> int:
        """How many numbers its weights are."""
        ...

    @property
    def captures(self) -> Sequence[str]:
        """The captures that it was written for; `lacking` has any other one."""
        ...

    @property
    def lacks(self) -> Mapping[str, str]:
        """What it cannot do -> catalog key of the reason; see the header of this file."""
        ...

    # ---- rows

    def new_cache(self) -> Any:
        """What it keeps between two passes over one text: an object with a `length` in tokens, 0 at first.

        Setting the length to 0 forgets everything.
        """
        ...

    def forward(
        self, ids: Sequence[int] | Array, cache: Any, last_only: bool = True, keep: Activations | None = None
    ) -> Array:
        """Logits of `ids`, which follow the tokens in `cache`; the cache grows by them.

        Returns [1, V] for the last token alone, or [T, V]. Together they must not exceed the context. keep: filled on
        the way with what is not lacking; it changes no logit.
        """
        ...

    # ---- lens and contributions

    def unembed(self, resid: Array) -> Array:
        """[R, C] -> [R, V]: what the model says where these rows stand behind its last block."""
        ...

    @property
    def readout(self) -> Readout | None:
        """Final norm and output matrix; None where contributions are lacking."""
        ...

    def output_weight(self, i: int) -> Array:
        """Block i's matrix from the heads to the residual stream, [nh * hs, C]."""
        ...

    def output_bias(self, i: int) -> Array | None:
        """[C]: what that block's attention adds whatever its heads read; None where it adds nothing."""
        ...


class Editable(Engine, Protocol):
    """An engine that does not lack `ablation`: it makes copies of itself with another part in a block."""

    def with_output(self, i: int, weight: Array, bias: Array) -> Self:
        """With this as block i's `output_weight` and `output_bias`."""
        ...

    def with_constant_mlp(self, i: int, out: Array) -> Self:
        """With `out` [C] as the output of block i's MLP, whatever the text."""
        ...


def editable(engine: Engine) -> TypeGuard[Editable]:
    """Whether parts of it can be switched off."""
    return "ablation" not in engine.lacks


def lacking(engine: Engine) -> Mapping[str, str]:
    """All that it cannot do: what it says itself, and every capture that came after it was written."""
    return {name: "lacks.engine" for name in CAPTURES if name not in engine.captures} | dict(engine.lacks)


def need(engine: Engine, what: str) -> None:
    """Raise CapabilityError, with the engine's own reason, where it lacks this."""
    lacks = lacking(engine)
    if what in lacks:
        can = ", ".join(name for name in CAPTURES if name not in lacks) or "-"
        raise CapabilityError("capture_lacking", got=what, reason=Phrase(lacks[what]), can=can)
