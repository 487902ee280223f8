"""Turns activations into trace columns, one recorder for each capture: attention, lens, contributions, residual stream.

Special here: the lens is lazy in time, not in place. What a step left waits until there is enough for one large product
with the output matrix, and is read then; the record holds numbers, never a promise. Each number that can be checked is
checked as it is made, and the worst error goes into the record.

Letters as in captures.py; R rows, V logits.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from manako.engines.protocol import Engine, need
from manako.families.activations import Activations
from manako.frozen import sealed
from manako.settings import check_captures
from manako.trace.captures import (
    CONTRIBUTION_TOP,
    LENS_TOP,
    Attention,
    Contributions,
    Lens,
    Residual,
    logit_scale,
    part_names,
)
from manako.trace.record import Header, SelfCheck
from manako.trace.schema import CAPTURE_COLUMNS, check_limit

Array = npt.NDArray[Any]
Seen = dict[str, Array]  # what waits of one step
PROMPT_ROWS_BYTES = 64_000_000  # of a prompt's own attention rows; of a longer prompt only deciding rows are kept
_CHUNK = 8_000_000  # logits of the lens at a time, 32 MB in float32
_GROUP = 64  # neighbours that the search for the best candidates takes the largest of first


class CaptureRecorder:
    """The captured columns of a record while they grow.

    wanted: names out of CAPTURES. Raises UsageError for another name, CapabilityError for what the model cannot give.
    """

    def __init__(self, engine: Engine, wanted: Sequence[str]) -> None:
        self.wanted = check_captures(wanted)
        for name in self.wanted:
            need(engine, name)
        self._engine = engine
        self._each = [kind(engine) for kind in RECORDERS if kind.name in self.wanted]
        self._reads_residual = any(each.reads_residual for each in self._each)
        self._waiting: list[Seen] = []  # steps whose columns have not been made yet
        self._done: list[tuple[int, dict[str, Array]]] = []  # (steps, columns); of the prompt first, which is no step
        self._lock = threading.RLock()  # a step may be looked into in one thread while another makes the next

    def fresh(self, prompt: int = 0) -> Activations | None:
        """What to hand to the next pass. prompt: how long the prompt is where it reads that, whose rows count too."""
        if not self._each:
            return None
        asked = Activations()
        for each in self._each:
            each.ask(asked, prompt)
        return asked

    def step_bytes(self, keys: int) -> int:
        """Bytes that one step takes, with `keys` tokens before it, of which the context shows so many at most."""
        c = self._engine.config
        sizes = {"S": 1, "L": c.n_layer, "C": c.n_embd, "J": LENS_TOP, "M": 1 + CONTRIBUTION_TOP}
        sizes |= {"N": c.n_layer * (c.n_head + 2) + 3, "F": c.n_layer * c.n_head * min(keys, c.block_size)}
        return sum(column.bytes(sizes) for name in self.wanted for column in CAPTURE_COLUMNS[name].values())

    def add_prompt(self, kept: Activations) -> None:
        """What there is of the prompt's own positions, before the last one, which decides."""
        found = {name: column for each in self._each for name, column in each.prompt(kept).items()}
        with self._lock:
            self._done = [(0, found)]

    def add(self, kept: Activations, row: int, keys: int, logits: Array, ids: Sequence[int]) -> None:
        """One step: the chosen token is ids[0], the first candidates follow. row: its place among the rows kept.

        keys: tokens in its view, itself included. logits: [V], the row that it was drawn from.
        """
        with self._lock:
            waiting = len(self._waiting)
            if waiting * (self._engine.config.n_layer + 1) * self._engine.config.vocab_size >= _CHUNK:
                self._read(self._steps_done() + waiting)  # not the step just taken, which Ctrl-C may still undo
        shown = np.array(ids[: 1 + CONTRIBUTION_TOP], dtype=np.int32)
        seen = {"ids": shown, "logits": logits[shown], "largest": logits.max()}
        if self._reads_residual:
            seen["residual"] = kept.residual()[:, row]  # [L+1, C]
        for each in self._each:
            seen |= each.take(kept, row, keys)
        with self._lock:
            self._waiting.append(seen)

    def forget_after(self, steps: int) -> None:
        """Drop what is here of a later step, which was interrupted before it counted."""
        with self._lock:
            del self._waiting[max(0, steps - self._steps_done()) :]

    def finish(self, steps: int) -> dict[str, Array]:
        """The captured columns of the first `steps` steps, one or more; nothing of later ones is read for them."""
        with self._lock:
            self._read(steps)
            if len(self._done) > 1:  # together from now on: who asks again copies nothing
                each = [columns for _, columns in self._done]
                names = dict.fromkeys(name for columns in each for name in columns)
                found = {n: np.concatenate([columns[n] for columns in each if n in columns]) for n in names}
                self._done = [(self._steps_done(), found)]
            found = self._done[0][1] if self._done else {}  # where nothing is captured
        return {name: column for each in self._each for name, column in each.finish(found, steps).items()}

    @property
    def parts(self) -> tuple[str, ...]:
        """What the header says of the parts of the model, once a step has been added."""
        return tuple(part for each in self._each for part in each.parts)

    def entered(self, header: Header) -> Header:
        """The header with what was captured, and the worst error of each thing that must hold for it to be true."""
        measured = {name: error for each in self._each for name, error in each.worst.items()}
        checks = tuple(SelfCheck(n, error, check_limit(n, header.model.dtype)) for n, error in measured.items())
        return replace(header, self_checks=header.self_checks + checks, capture=self.wanted, parts=self.parts)

    def _steps_done(self) -> int:
        return sum(count for count, _ in self._done)

    @np.errstate(over="ignore", invalid="ignore")  # of weights out of all bounds; the self-checks say it
    def _read(self, steps: int) -> None:
        """Make the columns of the first `steps` steps, as far as they are not yet."""
        taken = self._waiting[: max(0, steps - self._steps_done())]
        if not taken:
            return
        together = {name: [seen[name] for seen in taken] for name in taken[0]}
        found = {name: column for each in self._each for name, column in each.read(together).items()}
        done = [*self._done, (len(taken), found)]
        self._done, self._waiting = done, self._waiting[len(taken) :]  # at once: Ctrl-C loses no step and doubles none


class Captured(Mapping[str, Array]):
    """The captured columns of the first `steps` steps of a run that may go on: read when somebody asks for one."""

    def __init__(self, recorder: CaptureRecorder, steps: int) -> None:
        self._recorder, self._steps = recorder, steps

    @cached_property
    def _columns(self) -> dict[str, Array]:
        return {name: sealed(column) for name, column in self._recorder.finish(self._steps).items()}

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or what is sent to another process, has the columns and not the run that makes them."""
        return dict, (self._columns,)


class Recorder(ABC):
    """Makes the columns of one capture."""

    name: ClassVar[str]
    reads_residual: ClassVar[bool] = False
    """Whether `read` needs the residual stream of each step."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.parts: tuple[str, ...] = ()
        """What the header says of the parts of the model."""
        self.worst: dict[str, float] = {}
        """Self-check -> the worst error so far."""

    def ask(self, asked: Activations, prompt: int) -> None:
        """Say what a pass must keep beyond the rest, which is always there. prompt: as in `CaptureRecorder.fresh`."""
        return None

    def prompt(self, kept: Activations) -> dict[str, Array]:
        """What is recorded of the prompt: what columns of `read` begin with."""
        return {}

    def take(self, kept: Activations, row: int, keys: int) -> Seen:
        """What `read` needs of one step beside its ids, logits and residual stream."""
        return {}

    @abstractmethod
    def read(self, steps: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
        """The columns of some steps, each of which `steps` has everything that was taken of."""

    def finish(self, columns: Mapping[str, Array], steps: int) -> dict[str, Array]:
        """The columns of the record, of the first `steps` steps, from what `read` made of those or of more."""
        return {name: columns[name][:steps] for name in CAPTURE_COLUMNS[self.name]}

    def note(self, name: str, error: float) -> None:
        """Keep the error of a self-check if it is the worst."""
        error = float(error)
        self.worst[name] = max(self.worst.get(name, 0.0), error) if error == error else float("inf")


class AttentionRecorder(Recorder):
    """Rows of attention, from the pattern of each layer."""

    name = Attention.name

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._prompt_rows = self._prompt_size = 0

    def ask(self, asked: Activations, prompt: int) -> None:
        c, rows = self.engine.config, min(prompt, self.engine.config.block_size) - 1
        size = 4 * c.n_layer * c.n_head * rows * (rows + 1) // 2
        asked.attention, asked.last_attention = True, rows < 1 or size > PROMPT_ROWS_BYTES

    def prompt(self, kept: Activations) -> dict[str, Array]:
        rows = [self._row(kept, t, t + 1) for t in range(kept.pattern[0].shape[1] - 1)]
        self._prompt_rows, self._prompt_size = len(rows), sum(map(len, rows))
        return {"attention": np.concatenate(rows)} if rows else {}

    def take(self, kept: Activations, row: int, keys: int) -> Seen:
        return {"pattern": self._row(kept, row - kept.returned, keys)}  # both end with the last token

    def read(self, steps: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
        rows = steps["pattern"]
        return {"attention": np.concatenate(rows), "attention_sizes": np.array(list(map(len, rows)))}

    def finish(self, columns: Mapping[str, Array], steps: int) -> dict[str, Array]:
        c, end = self.engine.config, self._prompt_size + int(columns["attention_sizes"][:steps].sum())
        shape = np.array([c.n_layer, c.n_head, self._prompt_rows], dtype=np.int32)
        return {"attention": columns["attention"][:end], "attention_shape": shape}

    def _row(self, kept: Activations, row: int, keys: int) -> Array:
        whole = np.stack([pattern[:, row, :keys] for pattern in kept.pattern]).astype(
            np.float32, copy=False
        )  # [L, H, K]
        self.note("attention_rows_sum_to_1", np.abs(whole.sum(axis=2, dtype=np.float64) - 1).max())
        return whole.ravel()


class LensRecorder(Recorder):
    """Every layer's stream, read through the output matrix."""

    name = Lens.name
    reads_residual = True

    def read(self, steps: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
        chosen, logits = np.stack(steps["ids"])[:, 0], np.stack(steps["logits"])[:, 0]
        found = lens_columns(self.engine, np.stack(steps["residual"]), chosen)
        last = found["lens_tracked_logit"][:, -1, 0].astype(np.float64)  # the chosen token at the last layer
        scale = np.maximum(1, np.abs(np.stack(steps["largest"])))
        self.note("lens_last_equals_logits", (np.abs(last - logits) / scale).max())
        return found


class ContributionRecorder(Recorder):
    """What each part of the model wrote, along the directions of some tokens."""

    name = Contributions.name
    reads_residual = True

    def take(self, kept: Activations, row: int, keys: int) -> Seen:
        self.parts = self.parts or self._part_names(len(kept.embed), bool(kept.z))
        return {
            "embed": np.stack([e[row] for e in kept.embed]),  # [1 or 2, C]
            "z": np.stack([z[row] for z in kept.z]) if kept.z else np.empty(0),  # [L, nh, hs]
            "mlp_out": np.stack([out[row] for out in kept.mlp_out]),  # [L, C]
        }

    def read(self, steps: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
        together = {name: np.stack(steps[name]) for name in ("ids", "logits", "residual", "embed", "z", "mlp_out")}
        value = contribution_values(self.engine, together, together["residual"][:, -1], together["ids"])
        value, mean = value[:, :, :-1], value[:, :, -1]
        total = value.sum(axis=1, dtype=np.float64)  # [S, M]
        errors = np.abs(total - together["logits"]) / logit_scale(together["logits"].astype(np.float64))
        self.note("contributions_sum_to_logit", errors.max())
        return {"contribution_id": together["ids"], "contribution": value, "contribution_mean": mean}

    def _part_names(self, embeddings: int, attention: bool) -> tuple[str, ...]:
        c, readout = self.engine.config, self.engine.readout
        assert readout is not None  # an engine without one lacks contributions
        biases = attention and self.engine.output_bias(0) is not None
        return tuple(part_names(c.n_layer, c.n_head, embeddings == 2, attention, biases, readout.bias is not None))


class ResidualRecorder(Recorder):
    """The residual stream as it is."""

    name = Residual.name
    reads_residual = True

    def read(self, steps: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
        return {"residual": np.stack(steps["residual"]).astype(np.float32, copy=False)}


RECORDERS = (AttentionRecorder, LensRecorder, ContributionRecorder, ResidualRecorder)  # in the order of CAPTURES


def lens_columns(engine: Engine, resid: Array, chosen: Array) -> dict[str, Array]:
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
    row, column = np.divmod(np.flatnonzero(~(rows < bound[:, None])), size)  # NaN too; ten times as fast as np.nonzero
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


def contribution_values(engine: Engine, kept: Mapping[str, Array], last: Array, ids: Array) -> Array:
    """[S, N, M + 1]: what each part added to the logits of `ids` [S, M], at the one scale of the last rows [S, C].

    Last comes what it added to all tokens of the vocabulary, on average: as TransformerLens has it, what is above that
    moved the probability (its `center_unembed`).

    Source: direct logit attribution, Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    readout = engine.readout
    assert readout is not None  # an engine without one lacks contributions
    mean = np.broadcast_to(readout.mean_direction(), (len(ids), 1, last.shape[1]))
    directions = np.concatenate([readout.directions(ids), mean], axis=1)  # [S, M + 1, C]
    directions = (directions * readout.scale(last)[:, :, None]).transpose(0, 2, 1)  # [S, C, M + 1]
    found = [kept["embed"] @ directions]  # [S, 1 or 2, M + 1]
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
        constant = np.append(readout.constant(ids), np.full((len(ids), 1), readout.mean_constant()), axis=1)
        found.append(constant[:, None].astype(directions.dtype))
    return np.concatenate(found, axis=1).astype(np.float32, copy=False)
