"""From what a pass leaves behind to the columns of a record: attention rows, lens, contributions, residual stream.

Special here: the lens is lazy in time, not in place. Rows of the residual stream wait until there are enough for one
large product with the output matrix, and are read then; the record holds numbers, never a promise. Each number that can
be checked is checked as it is made, and the worst error goes into the record.

Letters as in captures.py; R rows, V logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from manako.errors import CapabilityError
from manako.families.activations import Activations
from manako.families.readout import Readout
from manako.messages import Phrase
from manako.settings import check_captures
from manako.trace.captures import CAPTURES, CONTRIBUTION_TOP, LENS_TOP, check_limit, part_names
from manako.trace.record import Header, SelfCheck

Array = npt.NDArray[Any]
PROMPT_ROWS_BYTES = 64_000_000  # of a prompt's own attention rows; of a longer prompt only deciding rows are kept
_CHUNK = 8_000_000  # logits of the lens at a time, 32 MB in float32
_GROUP = 64  # neighbours that the search for the best candidates takes the largest of first


class Inside(Protocol):
    """What an engine must offer for its inside to be recorded."""

    @property
    def config(self) -> Any: ...
    @property
    def lacks(self) -> Mapping[str, str]: ...
    @property
    def readout(self) -> Readout | None: ...
    def unembed(self, resid: Array) -> Array: ...
    def output_weight(self, i: int) -> Array: ...
    def output_bias(self, i: int) -> Array | None: ...


class CaptureRecorder:
    """The captured columns of a record while they grow.

    wanted: names out of CAPTURES. Raises UsageError for another name, CapabilityError for what the model cannot give.
    """

    def __init__(self, engine: Inside, wanted: Sequence[str]) -> None:
        self.wanted = check_captures(wanted)
        for name in self.wanted:
            if name in engine.lacks:
                can = ", ".join(n for n in CAPTURES if n not in engine.lacks) or "-"
                raise CapabilityError("capture_lacking", got=name, reason=Phrase(engine.lacks[name]), can=can)
        self._engine = engine
        self._attention: list[Array] = []
        self._prompt_rows = 0
        self._waiting: list[dict[str, Array]] = []
        self._done: list[dict[str, Array]] = []
        self._worst: dict[str, float] = {}
        self._parts: tuple[str, ...] = ()

    def fresh(self, prompt: int = 0) -> Activations | None:
        """What to hand to the next pass. prompt: how long the prompt is where it reads that, whose rows count too."""
        attention, rows = "attention" in self.wanted, min(prompt, self._engine.config.block_size) - 1
        size = 4 * self._engine.config.n_layer * self._engine.config.n_head * rows * (rows + 1) // 2
        last = rows < 1 or size > PROMPT_ROWS_BYTES
        return Activations(attention=attention, last_attention=last) if self.wanted else None

    def step_bytes(self, keys: int) -> int:
        """Bytes that one step takes, with `keys` tokens before it, of which the context shows so many at most."""
        c, layers = self._engine.config, self._engine.config.n_layer + 1
        keys = min(keys, c.block_size)
        sizes = {
            "attention": 4 * c.n_layer * c.n_head * keys,
            "lens": layers * (8 * LENS_TOP + 8 + 8 * (layers + 1)) + 4 * (layers + 1),
            "contributions": 4 * (1 + CONTRIBUTION_TOP) * (c.n_layer * (c.n_head + 2) + 4),
            "residual": 4 * layers * c.n_embd,
        }
        return sum(sizes[name] for name in self.wanted)

    def add_prompt(self, kept: Activations) -> None:
        """The attention of the prompt's own positions, before the last one, which decides."""
        if "attention" in self.wanted:
            self._prompt_rows = kept.pattern[0].shape[1] - 1
            for t in range(self._prompt_rows):
                self._add_attention(kept, t, t + 1)

    def add(self, kept: Activations, row: int, keys: int, logits: Array, ids: Sequence[int]) -> None:
        """One step: the chosen token is ids[0], the first candidates follow. row: its place among the rows kept.

        keys: tokens in its view, itself included. logits: [V], the row that it was drawn from.
        """
        if "attention" in self.wanted:
            self._add_attention(kept, row - kept.returned, keys)  # both end with the last token
        if set(self.wanted) == {"attention"}:
            return
        if len(self._waiting) * (self._engine.config.n_layer + 1) * self._engine.config.vocab_size >= _CHUNK:
            self._read_waiting()  # not with the step just taken, which an interruption may still undo
        waiting = {"residual": kept.residual()[:, row], "ids": np.array(ids, dtype=np.int32)}
        last = waiting["ids"][: 1 + CONTRIBUTION_TOP]
        waiting["logits"] = logits[last]
        waiting["largest"] = np.array([logits.max()])
        if "contributions" in self.wanted:
            waiting["embed"] = np.stack([e[row] for e in kept.embed])  # [1 or 2, C]
            waiting["z"] = np.stack([z[row] for z in kept.z]) if kept.z else np.empty(0)  # [L, nh, hs]
            waiting["mlp_out"] = np.stack([out[row] for out in kept.mlp_out])  # [L, C]
        self._waiting.append(waiting)

    def forget_after(self, steps: int) -> None:
        """Drop what is here of a later step, which was interrupted before it counted."""
        del self._attention[self._prompt_rows + steps if steps else 0 :]
        done = sum(len(next(iter(part.values()))) for part in self._done)
        del self._waiting[max(0, steps - done) :]

    def finish(self) -> dict[str, Array]:
        """The captured columns so far; everything that waited has been read."""
        self._read_waiting()
        found: dict[str, Array] = {}
        if "attention" in self.wanted:
            c = self._engine.config
            found["attention"] = np.concatenate(self._attention or [np.empty(0, np.float32)])
            found["attention_shape"] = np.array([c.n_layer, c.n_head, self._prompt_rows], dtype=np.int32)
        if self._done:
            found |= {name: np.concatenate([part[name] for part in self._done]) for name in self._done[0]}
        return found

    def entered(self, header: Header) -> Header:
        """The header with what was captured, and the worst error of each thing that must hold for it to be true."""
        checks = tuple(
            SelfCheck(name, error, check_limit(name, header.model.dtype)) for name, error in self._worst.items()
        )
        return replace(header, self_checks=header.self_checks + checks, capture=self.wanted, parts=self._parts)

    def _add_attention(self, kept: Activations, row: int, keys: int) -> None:
        whole = np.stack([pattern[:, row] for pattern in kept.pattern]).astype(np.float32, copy=False)  # [L, H, K...]
        self._note("attention_rows_sum_to_1", np.abs(whole[:, :, :keys].sum(axis=2, dtype=np.float64) - 1).max())
        self._attention.append(whole[:, :, :keys].ravel())

    @np.errstate(over="ignore", invalid="ignore")  # of weights out of all bounds; the self-checks say it
    def _read_waiting(self) -> None:
        if not self._waiting:
            return
        together = {name: np.stack([w[name] for w in self._waiting]) for name in self._waiting[0]}  # [S, ...]
        resid, ids, logits = together["residual"], together["ids"], together["logits"]
        found: dict[str, Array] = {}
        if "lens" in self.wanted:
            found |= lens_columns(self._engine, resid, ids[:, 0])
            last = found["lens_tracked_logit"][:, -1, 0].astype(np.float64)  # the chosen token at the last layer
            scale = np.maximum(1, np.abs(together["largest"][:, 0]))
            self._note("lens_last_equals_logits", (np.abs(last - logits[:, 0]) / scale).max())
        if "contributions" in self.wanted:
            self._parts = self._parts or self._part_names(len(together["embed"][0]))
            found["contribution_id"] = ids
            found["contribution"] = contribution_values(self._engine, together, resid[:, -1], ids)
            total = found["contribution"].sum(axis=1, dtype=np.float64)  # [S, M]
            self._note("contributions_sum_to_logit", np.abs(total - logits).max())
        if "residual" in self.wanted:
            found["residual"] = resid.astype(np.float32, copy=False)
        self._done, self._waiting = [*self._done, found], []  # at once: Ctrl-C loses no step and doubles none

    def _part_names(self, embeddings: int) -> tuple[str, ...]:
        c, readout = self._engine.config, self._engine.readout
        assert readout is not None  # an engine without one lacks contributions
        attention = bool(getattr(c, "attention", True))
        biases = attention and self._engine.output_bias(0) is not None
        return tuple(part_names(c.n_layer, c.n_head, embeddings == 2, attention, biases, readout.bias is not None))

    def _note(self, name: str, error: float) -> None:
        error = float(error)
        self._worst[name] = max(self._worst.get(name, 0.0), error) if error == error else float("inf")


def lens_columns(engine: Inside, resid: Array, chosen: Array) -> dict[str, Array]:
    """What each layer would have said. resid: [S, L+1, C]; chosen: [S] token ids.

    Every row goes through the final norm with its own scale and through the output matrix. Source: nostalgebraist 2020,
    "interpreting GPT: the logit lens".
    """
    steps, layers, width = resid.shape
    rows = engine.unembed(resid.reshape(-1, width)).astype(np.float32, copy=False)  # [S * layers, V]
    ids, logits = best_of(rows, LENS_TOP)  # [S * layers, K]
    tracked = np.concatenate([chosen[:, None], ids[:, 0].reshape(steps, layers)], axis=1)  # [S, T]
    places = np.repeat(tracked, layers, axis=0)  # [S * layers, T]
    values = np.take_along_axis(rows, places, axis=1)
    return {
        "lens_id": ids.reshape(steps, layers, -1).astype(np.int32),
        "lens_logit": logits.reshape(steps, layers, -1),
        "lens_logsumexp": logsumexps(rows, logits[:, 0]).reshape(steps, layers),
        "lens_tracked_id": tracked.astype(np.int32),
        "lens_tracked_logit": values.reshape(steps, layers, -1),
        "lens_tracked_rank": ranks_of(rows, values).reshape(steps, layers, -1),
    }


def best_of(rows: Array, n: int) -> tuple[Array, Array]:
    """(ids, logits) of the n largest of each row [R, V], best first, equal ones by id.

    A whole sort of every layer's row would cost more than the model itself: the n-th largest of the maxima of groups
    is a bound below which nothing can be among the first n, and few numbers lie above it.
    """
    size, n = rows.shape[1], min(n, rows.shape[1])
    groups = size // _GROUP
    if groups >= 2 * n:
        largest = rows[:, : groups * _GROUP].reshape(len(rows), _GROUP, groups).max(axis=1)  # [R, groups]
        bound = np.partition(largest, groups - n, axis=1)[:, groups - n]
    else:
        bound = np.partition(rows, size - n, axis=1)[:, size - n]
    row, column = np.divmod(np.flatnonzero(rows >= bound[:, None]), size)  # ten times as fast as np.nonzero
    order = np.lexsort((column, -rows[row, column], row))
    starts = np.searchsorted(row, np.arange(len(rows)))  # `row` is sorted; `order` keeps each row's stretch
    ids = column[order][starts[:, None] + np.arange(n)]
    return ids, np.take_along_axis(rows, ids, axis=1)


def ranks_of(rows: Array, values: Array) -> Array:
    """[R, T]: 1 + how many numbers of each row [R, V] are larger than each of its values [R, T]."""
    found = np.empty(values.shape, dtype=np.int32)
    for row, value, rank in zip(rows, values.tolist(), found, strict=True):
        each = {v: 1 + np.count_nonzero(row > v) for v in set(value)}  # several layers often agree on a token
        rank[:] = [each[v] for v in value]
    return found


def logsumexps(rows: Array, largest: Array) -> npt.NDArray[np.float64]:
    """[R] of rows [R, V], each with its largest number, in float64; one row at a time stays in the cache."""
    found, room = np.empty(len(rows)), np.empty(rows.shape[1])
    for i, row in enumerate(rows):
        np.exp(np.subtract(row, largest[i], out=room, dtype=np.float64), out=room)
        found[i] = largest[i] + np.log(room.sum())
    return found


def contribution_values(engine: Inside, kept: Mapping[str, Array], last: Array, ids: Array) -> Array:
    """[S, N, M]: what each part added to the logits of `ids` [S, M], at the one scale of the last rows [S, C].

    Source: direct logit attribution, Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    readout = engine.readout
    assert readout is not None  # an engine without one lacks contributions
    directions = readout.directions(ids) * readout.scale(last)[:, :, None]  # [S, M, C]
    directions = directions.transpose(0, 2, 1)  # [S, C, M]
    found = [kept["embed"] @ directions]  # [S, 1 or 2, M]
    for i in range(engine.config.n_layer):
        if kept["z"].size:
            z = kept["z"][:, i]  # [S, nh, hs]
            weight = engine.output_weight(i).reshape(z.shape[1], z.shape[2], -1)  # [nh, hs, C]
            heads = (z.transpose(1, 0, 2) @ weight).transpose(1, 0, 2)  # [S, nh, C]
            found.append(heads @ directions)
            if (bias := engine.output_bias(i)) is not None:
                found.append((bias @ directions)[:, None])
        found.append(kept["mlp_out"][:, i : i + 1] @ directions)
    if readout.bias is not None:
        found.append(readout.constant(ids)[:, None])
    return np.concatenate(found, axis=1).astype(np.float32, copy=False)
