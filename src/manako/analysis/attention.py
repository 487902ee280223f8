"""Where the model looked as it chose a token: each head, each layer, all of them, and through the layers.

Special here: the one row of attention that belongs to the choice, that of the last token before it, whole and as it is
on record; nothing is left out of a mean. A weight says from where a head read, not what that changed: Jain and Wallace
2019, "Attention is not Explanation", arXiv:1902.10186.

Letters: L = n_layer, H = n_head, K keys, the tokens in view; the last key is the token that looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from manako.frozen import Frozen
from manako.trace.captures import Attention
from manako.trace.record import Step, Trace, bytes_to_text

SINK_FIRST = 4  # first tokens in view that can be a sink: so many are kept by Xiao et al.
SINK_TIMES = 2  # of an even share, which a sink takes more than

Floats = npt.NDArray[np.float64]
Lack = Literal["window", "prompt", "fork", "given"]
"""Why rows of earlier tokens are not on record as a step sees them: the window has moved since the text began; the
prompt was too long to keep them all; a fork of one token keeps none, since the trace that it continues has them; the
tokens that stand before a scored text have none."""


@dataclass(frozen=True)
class Key:
    """A token in view."""

    position: int
    """Its place in the text, counted from 0 and from the start of the prompt."""
    id: int
    bytes: bytes
    text: str
    """Its bytes as text; bytes that are no whole character stand in ‹hex›."""
    special: bool
    """A special token, never the same as a text of the same letters."""


@dataclass(frozen=True, eq=False)
class StepAttention(Frozen):
    """One step's attention."""

    step: Step
    keys: tuple[Key, ...]
    """[K]"""
    per_head: npt.NDArray[np.float32]
    """[L, H, K]: each head's weights sum to 1."""
    rollout: Floats | None
    """[K]: attention followed through all layers down to the tokens; None where not all of it is on record."""
    rollout_lacks: Lack | None
    """Why there is no rollout; None where there is one."""

    def weights(self, scope: tuple[int, ...] = ()) -> Floats:
        """[K]: mean of all heads, of one layer's for (layer,), or one head's own for (layer, head)."""
        chosen = self.per_head[scope].astype(np.float64)
        return chosen.reshape(-1, len(self.keys)).mean(axis=0)

    @property
    def mean(self) -> Floats:
        """[K]: over all heads."""
        return self.weights()

    @property
    def per_layer(self) -> Floats:
        """[L, K]: over the heads of each layer."""
        return self.per_head.astype(np.float64).mean(axis=1)

    @property
    def entropy(self) -> Floats:
        """[L, H] bits: 0 where a head looks at one token alone, log2 of K where it looks at all of them evenly."""
        p = self.per_head.astype(np.float64)
        bits = -np.log2(p, where=p > 0, out=np.zeros_like(p))
        return (p * bits).sum(axis=2)

    @cached_property
    def sink_heads(self) -> dict[int, int]:
        """The sinks, and how many heads each takes more than SINK_TIMES an even share in: at least half of them.

        A sink is one of the SINK_FIRST first keys, and in the first half of them, so that a recent token is none.
        Source: Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.
        """
        count = len(self.keys)
        heads = (self.per_head > SINK_TIMES / count).sum(axis=(0, 1))  # [K]
        half = self.per_head.shape[0] * self.per_head.shape[1] / 2
        return {k: int(heads[k]) for k in range(min(SINK_FIRST, count // 2)) if heads[k] >= half}


def attention(trace: Trace, index: int) -> StepAttention:
    """The attention of a step, counted from 0. Raises CapabilityError where none is on record."""
    recorded = trace.attention
    per_head, start = recorded[index], recorded.start(index)
    whole = recorded.whole(index)
    return StepAttention(
        step=trace.steps[index],
        keys=_keys(trace, start, per_head.shape[2]),
        per_head=per_head,
        rollout=None if whole is None else rollout(whole.mean(axis=1, dtype=np.float64)),
        rollout_lacks=None if whole is not None else _lacks(trace, recorded, start),
    )


def rollout(per_layer: Floats) -> Floats:
    """[K]: how much of the last token's row leads to each token, by attention [L, K, K] and the stream beside it.

    In each layer half of a row stays with its token, for the residual connection, and half goes where it looks.
    Source: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv:2005.00928.

    >>> rollout(np.array([[[1.0, 0.0], [0.5, 0.5]]])).tolist()
    [0.25, 0.75]
    """
    found = np.zeros(per_layer.shape[2])
    found[-1] = 1
    for layer in per_layer[::-1]:  # from the choice down to the tokens: one row, never a product of matrices
        found = 0.5 * (found @ layer) + 0.5 * found
    return found


def strongest(weights: Sequence[float] | Floats, n: int) -> list[int]:
    """The n keys with the largest weights, best first, equal ones in the order of the text.

    >>> strongest([0.2, 0.5, 0.2, 0.1], 3)
    [1, 0, 2]
    """
    return np.argsort(-np.asarray(weights), kind="stable")[:n].tolist()


def _keys(trace: Trace, start: int, count: int) -> tuple[Key, ...]:
    vocabulary, ids = trace.vocabulary, trace.all_ids[start : start + count].tolist()
    return tuple(
        Key(position, i, vocabulary[i], bytes_to_text(vocabulary[i]), i in vocabulary.special_ids)
        for position, i in enumerate(ids, start)
    )


def _lacks(trace: Trace, recorded: Attention, start: int) -> Lack:
    """As the recorder decides which rows it keeps."""
    if recorded.first <= start:
        return "window"
    if trace.header.kind == "score":
        return "given"
    return "fork" if trace.header.first_step and trace.header.max_new_tokens == 1 else "prompt"
