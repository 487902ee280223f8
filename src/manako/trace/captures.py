"""What was seen inside the model at each step: attention, the logit lens, contributions, the residual stream.

Special here: numbers as the engine gave them, in float32, unrounded; a view draws what it needs of them. Attention is
one flat column, since the rows of a growing text have no common length: each holds the keys from where the window
starts up to the deciding position, so what lies in the future takes no room and is 0 by definition.

Letters: S steps, L = n_layer, H = n_head, K keys of one row, C = n_embd, N parts, M tokens, T = L + 2 tracked tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CAPTURES = ("attention", "lens", "contributions", "residual")
LENS_TOP = 10  # candidates of each layer on record
CONTRIBUTION_TOP = 10  # first candidates of a step whose logits are taken apart, beside the chosen token

CAPTURE_COLUMNS: Mapping[str, Mapping[str, tuple[str, int]]] = {  # capture -> column -> (dtype, dimensions)
    "attention": {
        "attention": ("float32", 1),  # the rows one after another, each [L, H, K]
        "attention_shape": ("int32", 1),  # [3] L, H, and how many rows of the prompt stand in front of step 0's
    },
    "lens": {
        "lens_id": ("int32", 3),  # [S, L+1, 10] best first; layer 0 is the embedding
        "lens_logit": ("float32", 3),  # [S, L+1, 10]
        "lens_logsumexp": ("float64", 2),  # [S, L+1] of the whole row of that layer
        "lens_tracked_id": ("int32", 2),  # [S, T] the chosen token, then the first candidate of each layer
        "lens_tracked_logit": ("float32", 3),  # [S, L+1, T]
        "lens_tracked_rank": ("int32", 3),  # [S, L+1, T] counted from 1
    },
    "contributions": {
        "contribution_id": ("int32", 2),  # [S, M] the chosen token, then the first candidates of the draw
        "contribution": ("float32", 3),  # [S, N, M] what each part added to the logit of each token
    },
    "residual": {"residual": ("float32", 3)},  # [S, L+1, C] the stream before the first block and behind each
}

_LIMITS = {  # name of a self-check: (limit in float32, units of rounding that a shorter type may be off by)
    "cached_equals_uncached": (1e-5, 40),
    "attention_rows_sum_to_1": (1e-6, 4),
    "lens_last_equals_logits": (1e-5, 40),
    "contributions_sum_to_logit": (1e-4, 40),
}
_ROUNDING = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
Array = npt.NDArray[np.float32]


def check_limit(name: str, dtype: str) -> float:
    """The largest error that a self-check allows, for a model that computed in `dtype`.

    >>> check_limit("attention_rows_sum_to_1", "float32"), check_limit("attention_rows_sum_to_1", "bfloat16")
    (1e-06, 0.03125)
    """
    limit, units = _LIMITS[name]
    return max(limit, units * _ROUNDING.get(dtype, 0.0))


@dataclass(frozen=True)
class Attention:
    """Where each deciding position looked: `attention[step]` is [L, H, K], keys from `start(step)` on."""

    flat: Array
    n_layer: int
    n_head: int
    prompt_rows: int
    """Rows of the prompt on record, those of the positions just before the one that decides step 0."""
    starts: npt.NDArray[np.int64]
    """[prompt_rows + S] first token that each row sees."""
    first: int
    """Position of the token, counted from the start of the text, that the first row on record belongs to."""

    @classmethod
    def of(
        cls, flat: Array, shape: Sequence[int], prompt_length: int, window_start: npt.NDArray[np.int32]
    ) -> "Attention":
        """From the columns of a record. Raises ValueError when the lengths do not fit."""
        n_layer, n_head, prompt_rows = (int(n) for n in shape)
        begin = int(window_start[0]) if len(window_start) else 0
        if n_layer < 1 or n_head < 1 or not 0 <= prompt_rows <= prompt_length - 1 - begin:
            raise ValueError("attention_shape or window_start")
        starts = np.concatenate([np.full(prompt_rows, begin), window_start]).astype(np.int64)
        found = cls(flat, n_layer, n_head, prompt_rows, starts, prompt_length - 1 - prompt_rows)
        if (found._keys() < 1).any():
            raise ValueError("window_start: a row without a token in view")
        least = n_layer * n_head * len(starts)  # numbers that so many rows have; without it a product could wrap around
        if least > len(flat) or len(flat) != found._ends()[-1]:
            raise ValueError("attention, attention_shape: not as many numbers as the rows have")
        return found

    def __len__(self) -> int:
        return len(self.starts) - self.prompt_rows

    def __getitem__(self, step: int) -> Array:
        return self.row(self.prompt_rows + range(len(self))[step])

    def start(self, step: int) -> int:
        """The token, counted from the start of the text, that key 0 of this step is."""
        return int(self.starts[self.prompt_rows + range(len(self))[step]])

    def row(self, index: int) -> Array:
        """[L, H, K] of one row on record, prompt rows first."""
        end = self._ends()
        return self.flat[end[index] : end[index + 1]].reshape(self.n_layer, self.n_head, -1)

    def whole(self, step: int) -> Array | None:
        """[L, H, K, K]: the rows of every position that this step sees, 0 above the diagonal.

        None where they are not all on record as this step sees them: the window has moved, or the prompt was long.
        """
        last = self.prompt_rows + range(len(self))[step]
        start, size = self.start(step), self.row(last).shape[2]
        begin = start - self.first
        if begin < 0 or (self.starts[begin : last + 1] != start).any():
            return None
        found = np.zeros((self.n_layer, self.n_head, size, size), dtype=np.float32)
        for i in range(size):
            found[:, :, i, : i + 1] = self.row(begin + i)
        return found

    def _keys(self) -> npt.NDArray[np.int64]:
        """[rows] tokens in view of each."""
        return self.first + np.arange(len(self.starts)) + 1 - self.starts

    def _ends(self) -> npt.NDArray[np.int64]:
        """[rows + 1] where each row begins in `flat`."""
        return np.concatenate([[0], np.cumsum(self._keys() * self.n_layer * self.n_head)]).astype(np.int64)


@dataclass(frozen=True)
class Lens:
    """What each layer would have said; layer 0 is the embedding, layer L the model's own answer."""

    id: npt.NDArray[np.int32]
    logit: Array
    logsumexp: npt.NDArray[np.float64]
    tracked_id: npt.NDArray[np.int32]
    tracked_logit: Array
    tracked_rank: npt.NDArray[np.int32]

    def p(self, step: int) -> npt.NDArray[np.float64]:
        """[L+1, 10]: probability of each listed token at each layer, over the whole vocabulary."""
        return np.exp(self.logit[step].astype(np.float64) - self.logsumexp[step][:, None])

    def tracked_p(self, step: int) -> npt.NDArray[np.float64]:
        """[L+1, T]: the same of the tracked tokens."""
        return np.exp(self.tracked_logit[step].astype(np.float64) - self.logsumexp[step][:, None])


@dataclass(frozen=True)
class Contributions:
    """What each part of the model added to a token's logit; over all parts they sum to it."""

    parts: tuple[str, ...]
    """[N] names: embed, pos_embed, head:L.H, attn_bias:L, mlp:L, final_bias."""
    id: npt.NDArray[np.int32]
    value: Array

    def of(self, step: int, token_id: int) -> Array | None:
        """[N] of one token of one step; None where it is not on record."""
        places = np.flatnonzero(self.id[step] == token_id)
        return self.value[step, :, places[0]] if len(places) else None


def part_names(n_layer: int, n_head: int, positions: bool, attention: bool, biases: bool, constant: bool) -> list[str]:
    """The parts of a model in the order of the stream; layers and heads count from 0, as in the names of weights."""
    names = ["embed", "pos_embed"][: 1 + positions]
    for i in range(n_layer):
        if attention:
            names += [f"head:{i}.{h}" for h in range(n_head)]
        if biases:
            names.append(f"attn_bias:{i}")
        names.append(f"mlp:{i}")
    return [*names, "final_bias"] if constant else names
