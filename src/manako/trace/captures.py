"""What was seen inside the model at each step: attention, the logit lens, contributions, the residual stream.

Special here: numbers as the engine gave them, in float32, unrounded; a view draws what it needs of them. Attention is
one flat column, since the rows of a growing text have no common length: each holds the keys from where the window
starts up to the deciding position, so what lies in the future takes no room and is 0 by definition. Each capture
checks itself, from the numbers of the trace alone.

Letters: S steps, L = n_layer, H = n_head, K keys of one row or candidates on record, C = n_embd, N parts, M tokens,
J candidates of a layer, T = L + 2 tracked tokens, V logits.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from manako.frozen import Frozen
from manako.trace.schema import CAPTURE_COLUMNS

if TYPE_CHECKING:
    from manako.trace.record import Trace

LENS_TOP = 10  # candidates of each layer on record
CONTRIBUTION_TOP = 10  # first candidates of a step whose logits are taken apart, beside the chosen token
Array = npt.NDArray[Any]


class Capture(Frozen, ABC):
    """What was seen of one kind, as a reader sees it. Its columns stand in schema.json under the same name."""

    name: ClassVar[str]
    compact: ClassVar[bool] = True
    """Whether a compact copy of a trace keeps it."""

    @classmethod
    @abstractmethod
    def read(cls, trace: "Trace") -> Self:
        """From the columns of a trace that has it. Raises ValueError when their lengths do not fit."""

    def fit(self) -> None:
        """Raise ValueError naming the first column that cannot be, whatever schema.json says of each alone."""
        return None

    def errors(self, trace: "Trace") -> Mapping[str, float]:
        """Self-check -> its worst error, measured from the columns of the trace that this was read from."""
        return {}


@dataclass(frozen=True, eq=False)
class Attention(Capture):
    """Where each deciding position looked: `attention[step]` is [L, H, K], keys from `start(step)` on."""

    name: ClassVar[str] = "attention"
    flat: npt.NDArray[np.float32]
    n_layer: int
    n_head: int
    prompt_rows: int
    """Rows of the prompt on record, those of the positions just before the one that decides step 0."""
    starts: npt.NDArray[np.int64]
    """[prompt_rows + S] first token that each row sees."""
    first: int
    """Position of the token, counted from the start of the text, that the first row on record belongs to."""

    @classmethod
    def read(cls, trace: "Trace") -> Self:
        columns, got = trace.columns, trace.columns.captured
        return cls.of(got["attention"], got["attention_shape"].tolist(), len(columns.prompt_ids), columns.window_start)

    @classmethod
    def of(
        cls,
        flat: npt.NDArray[np.float32],
        shape: Sequence[int],
        prompt_length: int,
        window_start: npt.NDArray[np.int32],
    ) -> Self:
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

    def errors(self, trace: "Trace") -> Mapping[str, float]:
        rows = (self.row(i).sum(axis=2, dtype=np.float64) for i in range(len(self.starts)))
        return {"attention_rows_sum_to_1": worst(np.abs(sums - 1).max() for sums in rows)}

    def __len__(self) -> int:
        return len(self.starts) - self.prompt_rows

    def __getitem__(self, step: int) -> npt.NDArray[np.float32]:
        return self.row(self.prompt_rows + range(len(self))[step])

    def start(self, step: int) -> int:
        """The token, counted from the start of the text, that key 0 of this step is."""
        return int(self.starts[self.prompt_rows + range(len(self))[step]])

    def row(self, index: int) -> npt.NDArray[np.float32]:
        """[L, H, K] of one row on record, prompt rows first."""
        end, index = self._ends(), range(len(self.starts))[index]
        return self.flat[end[index] : end[index + 1]].reshape(self.n_layer, self.n_head, -1)

    def whole(self, step: int) -> npt.NDArray[np.float32] | None:
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


@dataclass(frozen=True, eq=False)
class Lens(Capture):
    """What each layer would have said; layer 0 is the embedding, layer L the model's own answer.

    The last layer was computed apart from the logits, so where two tokens all but tie it may place them the other way
    round: places are checked by the logits that stand there, within the same limit.
    """

    name: ClassVar[str] = "lens"
    id: npt.NDArray[np.int32]
    logit: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float64]
    tracked_id: npt.NDArray[np.int32]
    tracked_logit: npt.NDArray[np.float32]
    tracked_rank: npt.NDArray[np.int32]

    @classmethod
    def read(cls, trace: "Trace") -> Self:
        return cls(**{n.removeprefix("lens_"): trace.columns.captured[n] for n in CAPTURE_COLUMNS[cls.name]})

    def fit(self) -> None:
        for name, logits in (("lens_logit", self.logit), ("lens_tracked_logit", self.tracked_logit)):
            if not (logits <= self.logsumexp[:, :, None] + 1e-9).all():
                raise ValueError(f"{name}: larger than the logarithm of the sum that it is part of")

    def errors(self, trace: "Trace") -> Mapping[str, float]:
        last = worst(self._last_error(trace, i) for i in range(len(trace)))
        return {"lens_last_equals_logits": last, "lens_lists_fit": float(self._misfits(trace.columns.token_id))}

    def p(self, step: int) -> npt.NDArray[np.float64]:
        """[L+1, 10]: probability of each listed token at each layer, over the whole vocabulary."""
        return np.exp(self.logit[step].astype(np.float64) - self.logsumexp[step][:, None])

    def tracked_p(self, step: int) -> npt.NDArray[np.float64]:
        """[L+1, T]: the same of the tracked tokens."""
        return np.exp(self.tracked_logit[step].astype(np.float64) - self.logsumexp[step][:, None])

    def _last_error(self, trace: "Trace", i: int) -> float:
        """The worst difference, relative to the largest logit of step i, between the last layer and the record."""
        part, count = trace.columns.part, self.id.shape[2]
        ids = np.concatenate([self.id[i, -1], self.tracked_id[i]])  # [J + T]
        logits = np.concatenate([self.logit[i, -1], self.tracked_logit[i, -1]]).astype(np.float64)
        recorded, known = recorded_logits(trace, i, ids)
        if part is None:
            row = trace.logits[i].astype(np.float64)  # [V]
            best: Array = np.sort(row)[::-1]
            errors: list[Array] = [logits - recorded, recorded[:count] - best[:count]]
            errors.append(recorded[count:] - best[self.tracked_rank[i, -1] - 1])  # right if such a logit has the rank
            logsumexp, largest = best[0] + np.log(np.exp(row - best[0]).sum()), best[0]
        else:
            outside = np.maximum(0, logits - part["rest_logit_max"][i])
            errors = [np.where(known, logits - recorded, outside)]
            largest = max(float(part["part_logit"][i].max()), float(part["rest_logit_max"][i]))
            logsumexp = part["logsumexp"][i]
        errors.append(self.logsumexp[i, -1:] - logsumexp)
        return float(np.abs(np.concatenate(errors)).max() / max(1.0, abs(largest)))

    def _misfits(self, token_id: Array) -> int:
        """How many numbers do not fit each other: who is tracked, and what both lists say of a token."""
        wrong = int((self.tracked_id[:, 0] != token_id).sum())
        wrong += int((self.tracked_id[:, 1:] != self.id[:, :, 0]).sum())
        wrong += int((np.diff(self.logit, axis=2) > 0).sum())
        wrong += int((np.diff(np.sort(self.id, axis=2), axis=2) == 0).sum())
        p: Array = np.exp(self.logit - self.logsumexp[:, :, None])
        wrong += int((p.sum(axis=2) > 1 + 1e-6).sum())
        for layer in range(self.id.shape[1]):
            same: Array = self.id[:, layer, :, None] == self.tracked_id[:, None]  # [S, J, T]
            listed, logit = same.any(axis=1), self.logit[:, layer, :, None]
            tracked, rank = self.tracked_logit[:, layer], self.tracked_rank[:, layer]  # [S, T]
            above: Array = (logit > tracked[:, None]).sum(axis=1)
            wrong += int((same & (logit != tracked[:, None])).sum())
            wrong += int((listed & (rank != above + 1)).sum())
            wrong += int((~listed & ((rank <= above) | (tracked > logit[:, -1]))).sum())
            wrong += int(((tracked[:, :, None] > tracked[:, None]) != (rank[:, :, None] < rank[:, None])).sum())
        return wrong


@dataclass(frozen=True, eq=False)
class Contributions(Capture):
    """What each part of the model added to a token's logit; over all parts they sum to it."""

    name: ClassVar[str] = "contributions"
    parts: tuple[str, ...]
    """[N] names: embed, pos_embed, head:L.H, attn_bias:L, mlp:L, final_bias."""
    id: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32] | None
    """[S, N] what each part added to all tokens of the vocabulary, on average; None in a record of an older version."""

    @classmethod
    def read(cls, trace: "Trace") -> Self:
        got = trace.columns.captured
        return cls(trace.header.parts, got["contribution_id"], got["contribution"], got.get("contribution_mean"))

    def errors(self, trace: "Trace") -> Mapping[str, float]:
        each = (max(self._sum_error(trace, i), self._mean_error(trace, i)) for i in range(len(trace)))
        return {"contributions_sum_to_logit": worst(each)}

    def of(self, step: int, token_id: int) -> npt.NDArray[np.float32] | None:
        """[N] of one token of one step; None where it is not on record."""
        places = np.flatnonzero(self.id[step] == token_id)
        return self.value[step, :, places[0]] if len(places) else None

    def _mean_error(self, trace: "Trace", i: int) -> float:
        """How far the means are from adding up to the mean logit, which whole rows alone can tell."""
        row = trace.columns.logits
        if self.mean is None or row is None or not np.isfinite(row[i]).all():
            return 0.0
        mean = row[i].mean(dtype=np.float64)
        logits = np.append(recorded_logits(trace, i, self.id[i])[0], mean)
        return float(abs(self.mean[i].sum(dtype=np.float64) - mean) / logit_scale(logits)[-1])

    def _sum_error(self, trace: "Trace", i: int) -> float:
        part, ids = trace.columns.part, self.id[i]
        recorded, known = recorded_logits(trace, i, ids)
        total = self.value[i].sum(axis=0, dtype=np.float64)  # [M]
        errors: Array = total - recorded
        if part is not None and part["part_id"].shape[1] < len(ids) - 1:  # fewer candidates than tokens taken apart
            errors = np.where(known, errors, np.maximum(0, total - part["rest_logit_max"][i]))
        elif not known.all():
            return float("inf")  # only what is on record is taken apart
        if ids[0] != trace.columns.token_id[i]:
            return float("inf")  # the chosen token first
        return float((np.abs(errors) / logit_scale(recorded)).max())


@dataclass(frozen=True, eq=False)
class Residual(Capture):
    """The residual stream of each deciding position: what stands before the first block, and what each block left."""

    name: ClassVar[str] = "residual"
    compact: ClassVar[bool] = False
    values: npt.NDArray[np.float32]
    """[S, L+1, C]"""

    @classmethod
    def read(cls, trace: "Trace") -> Self:
        return cls(trace.columns.captured["residual"])


CLASSES: Mapping[str, type[Capture]] = {each.name: each for each in (Attention, Lens, Contributions, Residual)}


def worst(errors: Iterable[float]) -> float:
    """The largest error, 0.0 of none; unlike `max`, it never passes over one that is not a number."""
    return float(np.max([0.0, *errors]))


def logit_scale(logits: Array) -> Array:
    """What the error of a sum that makes each of a step's logits is measured in; [..., M] of [..., M].

    Rounding grows with a logit, so beyond 100 the unit does: with the largest of the step, or with the own one where
    that is further from 0, which widens the limit of no other. Below 100 it is 1: parts are larger than their sum.

    >>> logit_scale(np.array([3.0, 500.0, -700.0])).tolist()
    [5.0, 5.0, 7.0]
    """
    return np.maximum(np.maximum(100, logits.max(axis=-1, keepdims=True)), np.abs(logits)) / 100


def recorded_logits(trace: "Trace", step: int, ids: Array) -> tuple[Array, Array]:
    """(recorded logits [M] of some tokens of a step, whether each is on record)."""
    columns, part = trace.columns, trace.columns.part
    if part is None:
        return trace.logits[step, ids].astype(np.float64), np.ones(len(ids), dtype=bool)
    each = np.append(part["part_id"][step], columns.token_id[step])
    logits = np.append(part["part_logit"][step], part["chosen_logit"][step]).astype(np.float64)
    same = ids[:, None] == each  # [M, K + 1]
    known = same.any(axis=1)
    return np.where(known, logits[same.argmax(axis=1)], 0.0), known


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
