"""Records that agree with themselves and records that do not: both verifiers, Python's and the page's, know them apart.

Rows are far apart here: from one token to the next a probability falls by powers of two of which the last are far below
what an absolute tolerance would notice, though their logarithms are what a reader sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from golden import LOGITS, golden_score, golden_trace
from toy import toy_model

from manako.sampling import distribution
from manako.trace.record import Trace, part_of
from manako.trace.schema import step_columns

FAR = LOGITS * np.float32(8)  # p_model from 1 down to 2^-72


def with_rows(trace: Trace, ids: Sequence[int] | None = None) -> Trace:
    """The record with rows that are far apart, and all that follows from them. ids: other tokens that are scored."""
    steps, c = len(trace), trace.columns
    tokens = np.array(c.token_id if ids is None else ids, np.int32)
    made: dict[str, list[Any]] = {"p": [], "p_model": [], "rank": []}
    for i, token_id in enumerate(tokens.tolist()):
        d = distribution(FAR[i], trace.header.sampling, trace.all_ids[: len(c.prompt_ids) + i])
        for name, value in (("p", d.p[token_id]), ("p_model", d.p_model[token_id]), ("rank", d.rank(token_id))):
            made[name].append(value)
    columns = {name: np.array(values, getattr(c, name).dtype) for name, values in made.items()}
    return replace(trace, columns=replace(c, token_id=tokens, logits=FAR[:steps], **columns))


def in_parts(trace: Trace, count: int) -> Trace:
    """The same with `count` candidates of each step on record."""
    c, logits = trace.columns, trace.logits
    rows = [
        part_of(distribution(logits[i], trace.header.sampling, trace.all_ids[: len(c.prompt_ids) + i]), int(t), count)
        for i, t in enumerate(c.token_id)
    ]
    part = {n: np.array([row[n] for row in rows], column.dtype) for n, column in step_columns("part").items()}
    return replace(trace, columns=replace(c, logits=None, part=part))


def put(trace: Trace, *changes: tuple[str, Any, Any]) -> Trace:
    """Some numbers changed: (column, place, the new number or what makes it of the old one)."""
    columns, part = trace.columns, dict(trace.columns.part or {})
    for name, place, value in changes:
        array = (part[name] if name in part else getattr(columns, name)).copy()
        array[place] = value(array[place]) if callable(value) else value
        if name in part:
            part[name] = array
        else:
            columns = replace(columns, **{name: array})
    return replace(trace, columns=replace(columns, part=part or None))


def configured(trace: Trace, config: dict[str, Any], **header: Any) -> Trace:
    """The record with something else in its model's configuration, and in its header."""
    model = replace(trace.header.model, config={**trace.header.model.config, **config})
    return replace(trace, header=replace(trace.header, model=model, **header))


def score() -> Trace:
    """Its last token has a probability of 2^-72."""
    return with_rows(golden_score(), (1, 5, 10, 7, 4))


def listed() -> Trace:
    """Parts in which the chosen token is listed, and the last one listed has a probability of 2^-64."""
    return in_parts(with_rows(golden_score(), (1, 2, 3, 4, 5)), 11)


def cut() -> Trace:
    """Parts of a draw that keeps four tokens, all of them listed."""
    return in_parts(golden_trace(4, sampling=replace(golden_trace().header.sampling, top_k=4)), 8)


def times(factor: float) -> Callable[[Any], Any]:
    return lambda number: number * factor


def less(by: float) -> Callable[[Any], Any]:
    return lambda number: number - np.float32(by)


def ended(**header: Any) -> Trace:
    """The golden record, which ends with token 0, and says which tokens end a document."""
    return configured(golden_trace(), {"end_ids": [0]}, **header)


def stray(byte: int) -> Trace:
    """Two bytes in the prompt, each of which begins a character that the other does not go on with."""
    model, trace = toy_model(), toy_model().trace("私は", max_new_tokens=1, seed=3)
    for _ in range(2):
        fork = model.fork(trace, 0, token_id=model.tokenizer.token_bytes.index(bytes([byte])), max_new_tokens=1)
        fork.advance()
        trace = fork.trace()
    return trace


GOOD: dict[str, Callable[[], Trace]] = {
    "a score of rows far apart": score,
    "parts of rows far apart": listed,
    "parts of a few tokens": cut,
    "an end token at the end": ended,
    "no end token yet": lambda: configured(golden_trace(5), {"end_ids": [0]}),
    "a score of the last tokens, in windows": lambda: toy_model().score("私は猫である。" * 8, step=40),
    "a context written with a point": lambda: configured(golden_trace(), {"n_positions": 32.0}),
    "two stray bytes that begin a character": lambda: stray(0xE3),
    "two stray bytes that begin nothing": lambda: stray(0xFF),
    "a context out of bounds": lambda: configured(golden_trace(), {"n_positions": 10**400}),
}
FORGED: dict[str, tuple[Callable[[], Trace], str]] = {  # the record, and the column or field that is named
    "a prompt with the sign for a space": (
        lambda: configured(toy_model().trace("a b", max_new_tokens=1, seed=3), {}, prompt="a\u2423b"),
        "prompt",
    ),
    "stray bytes in one bracket": (
        lambda: configured(stray(0xE3), {}, prompt=stray(0xE3).header.prompt.replace("›‹", " ")),
        "prompt",
    ),
    "58 bits shown as 44": (lambda: put(score(), ("p_model", -1, times(2**14)), ("p", -1, times(2**14))), "p"),
    "a small p_model": (lambda: put(score(), ("p_model", -1, times(2))), "p_model"),
    "a small part_p_model": (lambda: put(listed(), ("part_p_model", (0, -1), times(2))), "part_p_model"),
    "a small part_p": (lambda: put(listed(), ("part_p", (0, -1), times(2))), "part_p"),
    "a low part_logit": (lambda: put(listed(), ("part_logit", (0, -1), less(1))), "part_p_model"),
    "two logits of one token": (
        lambda: put(listed(), ("chosen_logit", 2, less(1)), ("p_model", 2, times(np.exp(-1.0)))),
        "chosen_logit",
    ),
    "a rest of nothing": (lambda: put(cut(), ("rest_p", 0, 1e-300)), "rest_p"),
    "an end of a document that is none": (
        lambda: configured(golden_trace(5), {"end_ids": [0]}, end="document_end"),
        "end",
    ),
    "an end token that ended nothing": (lambda: ended(end="interrupted"), "end"),
    "an end token before the last": (
        lambda: configured(golden_trace(), {"end_ids": [0, int(golden_trace().columns.token_id[3])]}),
        "end",
    ),
    "a shorter context written with a point": (
        lambda: configured(golden_trace(), {"n_positions": 4.0}),
        "window_start",
    ),
}
