"""One text under every snapshot of a training, as one file: columns, and a trace of what each snapshot wrote on.

Special here: a row of logits for each snapshot and token would take forty megabytes, so the likeliest 64 are on record
with the exact sum over all, which every probability follows from. The continuations are whole trace files inside, as
the branches of a tree are: each can be verified alone. Written and checked as a trace is: see docs/dynamics.md.

Letters: Z snapshots, S tokens of the text that are scored, L layers, H heads.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.checks import check_properties
from manako.errors import LoadError
from manako.files import write_file
from manako.frozen import Frozen, sealed
from manako.trace.file import (
    Array,
    Parts,
    array_of,
    check_digests,
    check_ranges,
    check_shapes,
    container,
    digests,
    read_bytes,
    read_header,
    read_parts,
    spelled,
    to_bytes,
    trace_of,
)
from manako.trace.model_name import model_name
from manako.trace.record import Trace, Vocabulary
from manako.trace.schema import DYNAMICS, DYNAMICS_COLUMNS

SCORES = ("previous", "duplicate", "induction")
"""What `head_score` has of each head, in this order."""
_CONTINUATION = "trace-"


@dataclass(frozen=True)
class DynamicsHeader:
    """All of the record that is not a column of numbers."""

    run: str
    text: str
    characters: int
    """That the scored tokens stand for."""
    model: Mapping[str, Any]
    """What all snapshots share, under the names of a trace's header."""
    weights_sha256: tuple[str, ...]
    """[Z] which weights each snapshot has."""
    damaged: tuple[int, ...]
    """Steps whose snapshot could not be read."""
    groups: tuple[str, ...]
    """Which columns there are beside those that every record has: heads, ngrams, curve."""
    attention_step: int | None
    """Which token of the text `attention` decides, counted from 0; None where it has a row for each of them."""
    held_out_tokens: int
    """How many tokens of held-out text the n-gram distances are means over; 0 without them."""
    special_ids: tuple[int, ...]
    vocab_size: int


@dataclass(frozen=True, eq=False)
class Dynamics(Frozen):
    """The record. `manako.dynamics` makes one, `open_dynamics` reads one."""

    header: DynamicsHeader
    columns: Mapping[str, Array]
    continuations: tuple[Trace, ...]
    """[Z] what each snapshot writes behind the text, all with the same random numbers."""
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.columns["step"])

    def __repr__(self) -> str:
        return f"<Dynamics {model_name(self.header.run)!r} {len(self)} snapshots {self.header.text!r}>"

    def content(self) -> tuple[Any, ...]:
        """What its file would hold."""
        header, arrays = _content(self)
        return json.dumps(header, sort_keys=True), arrays

    @property
    def steps(self) -> tuple[int, ...]:
        """[Z] after how many steps of training each snapshot was left."""
        return tuple(self.columns["step"].tolist())

    @property
    def tokens(self) -> tuple[int, ...]:
        """[S] the ids that are scored."""
        return tuple(self.columns["token_id"].tolist())

    @cached_property
    def logprob(self) -> npt.NDArray[np.float64]:
        """[Z, S] natural logarithm of each token's own probability."""
        return sealed(self.columns["logit"].astype(np.float64) - self.columns["logsumexp"])

    @property
    def p_model(self) -> npt.NDArray[np.float64]:
        """[Z, S] probability of each token at each snapshot, over the whole vocabulary."""
        return np.exp(self.logprob)

    @property
    def rank(self) -> npt.NDArray[np.int32]:
        """[Z, S] counted from 1."""
        return self.columns["rank"]

    @property
    def surprisal(self) -> npt.NDArray[np.float64]:
        """[Z, S] in bits."""
        return -self.logprob / math.log(2)

    @property
    def bits_per_character(self) -> npt.NDArray[np.float64]:
        """[Z] of the text."""
        return self.surprisal.sum(axis=1) / self.header.characters

    @property
    def first_place(self) -> tuple[int | None, ...]:
        """[S] after how many steps of training each token became the likeliest and stayed so; None where it did not."""
        behind = self.rank > 1  # [Z, S]
        places = np.where(behind.any(axis=0), len(self) - behind[::-1].argmax(axis=0), 0)
        return tuple(self.steps[z] if z < len(self) else None for z in places.tolist())

    @property
    def lens_layer(self) -> npt.NDArray[np.int64]:
        """[Z, S] the layer from which on the model's own first choice is the likeliest; 0 is the embedding."""
        other = self.columns["lens_id"] != self.columns["lens_id"][:, :, -1:]  # [Z, S, L+1]
        return np.where(other.any(axis=2), other.shape[2] - other[:, :, ::-1].argmax(axis=2), 0)

    def attention(self, snapshot: int, token: int) -> Array | None:
        """[L, H, keys] what decided a token of the text looked at; None where that is not in the record."""
        rows, one = self.columns.get("attention"), self.header.attention_step
        token = range(len(self.tokens))[token]  # from the end too, as in the other columns
        if rows is None or one not in (None, token):
            return None
        starts = attention_starts(len(self.columns["prompt_ids"]), len(self.tokens), one)
        at = token if one is None else 0
        return rows[snapshot, :, :, starts[at] : starts[at + 1]]

    def top(self, snapshot: int, token: int, count: int = 10) -> list[tuple[int, bytes, float]]:
        """The likeliest tokens at a place of the text: (id, bytes, p_model), best first. Both counted from 0."""
        ids = self.columns["top_id"][snapshot, token, :count].tolist()
        logits = self.columns["top_logit"][snapshot, token, :count].astype(np.float64)
        p = np.exp(logits - self.columns["logsumexp"][snapshot, token])
        return [(i, self.vocabulary[i], float(each)) for i, each in zip(ids, p, strict=True)]

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write one file, whole or not at all. Raises as `Trace.save` does."""
        write_file(Path(path), dynamics_bytes(self), replace=force)


def attention_starts(prompt: int, tokens: int, one: int | None) -> list[int]:
    """Where the row of each token that has one begins in `attention`, and where the last one ends.

    >>> attention_starts(1, 3, None), attention_starts(1, 3, 2)
    ([0, 1, 3, 6], [0, 3])
    """
    return [0, *accumulate(prompt + token for token in (range(tokens) if one is None else [one]))]


def dynamics_bytes(found: Dynamics) -> bytes:
    """The file's content; the same record gives the same bytes."""
    header, arrays = _content(found)
    return container(DYNAMICS, header | {"columns_sha256": digests(arrays)}, arrays)


def _content(found: Dynamics) -> tuple[dict[str, Any], dict[str, Array]]:
    """What the file holds: its header and its arrays."""
    ids = ids_on_record(found.columns)
    bytes_of = [found.vocabulary[int(i)] for i in ids]
    arrays = {name: np.ascontiguousarray(a) for name, a in found.columns.items()}
    arrays["vocab_id"] = ids
    arrays["vocab_bytes"] = np.frombuffer(b"".join(bytes_of), dtype=np.uint8)
    arrays["vocab_end"] = np.cumsum([len(b) for b in bytes_of], dtype=np.int32)
    for n, trace in enumerate(found.continuations):
        arrays[f"{_CONTINUATION}{n}"] = np.frombuffer(to_bytes(trace), dtype=np.uint8)
    return asdict(found.header), arrays


def open_dynamics(path: str | Path) -> Dynamics:
    """Read a record and check it whole, its traces too. Raises LoadError as `manako.open` does."""
    return dynamics_of(read_parts(read_bytes(Path(path)), str(path)), str(path))


def is_dynamics(read: Parts) -> bool:
    """Whether the parts of a file say that they are such a record."""
    return DYNAMICS.name in read[1]


def dynamics_of(read: Parts, file: str) -> Dynamics:
    """The record in the parts of a file, checked whole. Raises LoadError as `open_dynamics` does."""
    parts, metadata = read
    meta, version = read_header(DYNAMICS, metadata, file)
    arrays = {name: array_of(name, part, file) for name, part in parts}
    check_digests(file, meta, arrays)
    try:
        check_properties(meta, DYNAMICS.rules(version), "")
        return _from_arrays(meta, arrays, file)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LoadError("trace_damaged", file=file, part=error) from None


def _from_arrays(meta: dict[str, Any], arrays: dict[str, Array], file: str) -> Dynamics:
    values: dict[str, Any] = {name: meta[name] for name in DynamicsHeader.__dataclass_fields__}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    header = DynamicsHeader(**values)
    count = len(header.weights_sha256)
    inside = {n: arrays.pop(f"{_CONTINUATION}{n}") for n in range(count)}
    table = dict(DYNAMICS_COLUMNS["all"])
    for group in header.groups:
        table |= DYNAMICS_COLUMNS[group]
    if odd := sorted(arrays.keys() ^ table.keys()):
        raise ValueError(f"{', '.join(odd)}: missing or unknown")
    steps, one = len(arrays["token_id"]), header.attention_step
    keys = attention_starts(len(arrays["prompt_ids"]), steps, one)[-1]
    check_shapes(table, arrays, {"V": header.vocab_size, "Z": count, "T": keys})
    check_ranges(table, arrays, {"V-1": header.vocab_size - 1, "V": header.vocab_size})
    if any(i >= header.vocab_size for i in header.special_ids):
        raise ValueError("special_ids")
    vocabulary = Vocabulary(spelled(arrays), header.vocab_size, frozenset(header.special_ids))
    if not np.array_equal(arrays["vocab_id"], ids_on_record(arrays)):
        raise ValueError("vocab_id")
    if not steps or (one is not None and one >= steps) or (np.diff(arrays["step"]) <= 0).any():
        raise ValueError("step, token_id or attention_step")
    traces = tuple(trace_of(read_parts(bytes(a.tobytes()), file), file) for a in inside.values())
    columns = {name: a for name, a in arrays.items() if not name.startswith("vocab_")}
    return Dynamics(header, columns, traces, vocabulary)


def ids_on_record(columns: Mapping[str, Array]) -> npt.NDArray[np.int32]:
    """Every token that a column names, ascending."""
    names = ("prompt_ids", "token_id", "top_id", "lens_id")
    return np.unique(np.concatenate([columns[name].ravel() for name in names])).astype(np.int32)
