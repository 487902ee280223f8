"""The page's own verdict on a record is Python's: on good records, on forged ones, on those that hold only a part."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from forged import FORGED, GOOD
from golden import golden_inside, golden_score, golden_trace, large_generation, large_inside, with_candidates
from parts import random_step
from toy import toy_model

from manako.analysis.compact import compact
from manako.analysis.verification import verify
from manako.engines.generation import Generation
from manako.errors import LoadError
from manako.sampling import Sampling
from manako.trace.file import read_parts, to_bytes, trace_of
from manako.trace.record import Trace

Ask = Callable[..., Any]
EVERY_STAGE = Sampling(0.9, 9, 0.99, 1e-6, 0.99, 1.1, 0.1, 0.1)
RECORDS: dict[str, Callable[[], Trace]] = {
    "golden": golden_trace,
    "no steps": lambda: golden_trace(0),
    "score": golden_score,
    "greedy": lambda: golden_trace(3, sampling=Sampling(0)),
    "every stage": lambda: golden_trace(4, sampling=EVERY_STAGE),
    "inside": golden_inside,
    "toy": lambda: toy_model().trace("私は", max_new_tokens=40, seed=2**64 - 1, temperature=1.1, top_p=0.95),
    "fork": lambda: golden_inside(2, (), (9, 2, 3), first_step=2),
    "large": large_inside,
    "few candidates": lambda: with_candidates(large_inside(sampling=Sampling(0.2)), 12),
    "draws outside the part": lambda: with_candidates(drawn(large_generation(steps=30, sampling=Sampling(0.2)), 30), 2),
    "compact": lambda: compact(toy_model().trace("私は", max_new_tokens=20, temperature=2.0)),
}


def drawn(generation: Generation, steps: int) -> Trace:
    for _ in range(steps):
        generation.advance()
    return generation.trace()


def listed(trace: Trace) -> int:
    """The last step whose token is among the candidates on record: of others a forged p or rank cannot be told."""
    part = trace.columns.part
    if part is None:
        return len(trace) - 1
    return int(np.flatnonzero((part["part_id"] == trace.columns.token_id[:, None]).any(axis=1))[-1])


def forged(trace: Trace, name: str, index: int, value: Any) -> Trace:
    """The record with one number changed; its digests fit, since they are made when it is written."""
    part = trace.columns.part
    array: npt.NDArray[Any] = (part[name] if part and name in part else getattr(trace.columns, name)).copy()
    array[index] = value(array[index]) if callable(value) else value
    if part and name in part:
        return replace(trace, columns=replace(trace.columns, part={**part, name: array}))
    return replace(trace, columns=replace(trace.columns, **{name: array}))


def assert_same(ask: Ask, traces: dict[str, Trace]) -> dict[str, Any]:
    found = dict(zip(traces, ask("verified", [to_bytes(trace) for trace in traces.values()]), strict=True))
    for name, trace in traces.items():
        theirs = verify(trace)
        failure = theirs.failure and dict(zip(("index", "recorded", "again"), theirs.failure, strict=True))
        ours = found[name]
        assert ours == {
            "steps": theirs.steps,
            "rederived": theirs.rederived,
            "unverifiable": theirs.unverifiable,
            "failure": failure,
            "contradictions": list(theirs.contradictions),
        }, name
    return found


def test_the_same_verdict_on_good_records(ask: Ask) -> None:
    found = assert_same(ask, {name: make() for name, make in RECORDS.items()})
    assert all(each["failure"] is None for each in found.values())
    assert found["draws outside the part"]["unverifiable"] > 0 < found["draws outside the part"]["rederived"]


@pytest.mark.parametrize("name", ["golden", "every stage", "score", "toy", "large", "few candidates", "compact"])
def test_the_same_verdict_on_forged_records(ask: Ask, name: str) -> None:
    trace = RECORDS[name]()
    last = listed(trace)
    changes: dict[str, tuple[str, Any, Any]] = {
        "p": ("p", last, lambda p: p * 0.999),
        "p by little": ("p", last, lambda p: p + 1e-8),
        "p by rounding": ("p", last, lambda p: p - 1e-12),
        "p_model": ("p_model", 0, lambda p: p / 2),
        "rank": ("rank", last, lambda rank: rank + 1),
    }
    if trace.header.seed is not None:
        changes["u by the last bit"] = ("u", 0, lambda u: np.nextafter(u, 0))
        changes["u"] = ("u", last, 0.999)
    if trace.exact:
        ids = [int(i) for i in np.argsort(trace.logits[last])]
        changes["token"] = ("token_id", last, next(i for i in ids if i != trace.columns.token_id[last]))
    else:
        changes |= {
            "part_logit": ("part_logit", (last, 0), lambda x: x - 0.5),
            "part_p": ("part_p", (last, 0), lambda p: p / 2),
            "logsumexp": ("logsumexp", last, lambda x: x + 1e-6),
            "rest_p": ("rest_p", last, lambda p: min(1.0, p + 0.25)),
            "rest_p_model": ("rest_p_model", last, lambda p: p / 2 + 0.01),
            "chosen_logit": ("chosen_logit", last, lambda x: x - 1),
        }
    found = assert_same(ask, {name: forged(trace, *change) for name, change in changes.items()})
    assert {name for name, each in found.items() if each["failure"] is None} <= {"p by rounding"}


def test_the_same_verdict_on_what_is_far_apart_or_at_an_edge(ask: Ask) -> None:
    found = assert_same(ask, {name: make() for name, make in GOOD.items()})
    assert all(each["failure"] is None and not each["contradictions"] for each in found.values())
    found = assert_same(ask, {name: make() for name, (make, _) in FORGED.items()})
    assert {name: each["contradictions"][0] for name, each in found.items()} == {n: c for n, (_, c) in FORGED.items()}


def test_another_seed_or_step_is_told(ask: Ask) -> None:
    trace = golden_trace()
    changed = {"seed": {"seed": trace.header.seed + 1}, "first_step": {"first_step": 1}}
    traces = {name: replace(trace, header=replace(trace.header, **change)) for name, change in changed.items()}
    assert [each["failure"]["index"] for each in assert_same(ask, traces).values()] == [0, 0]


def test_the_same_verdict_whatever_the_chain(ask: Ask) -> None:
    """Parts of random rows as they were drawn, and each with one number of the part changed."""
    rng = np.random.default_rng(8)
    traces: dict[str, Trace] = {}
    for n in range(120):
        trace = random_step(rng)
        name = str(
            rng.choice(["part_p", "part_cut_by", "stage_kept", "stage_removed_mass", "entropy", "rest_logit_max"])
        )
        traces[f"{n}"] = trace
        value = 1 if name in ("part_cut_by", "stage_kept") else 0.0625
        part = trace.columns.part or {}
        place = tuple(int(rng.integers(size)) for size in part[name].shape)
        wrong = forged(trace, name, place, lambda x, by=value: x + by)
        try:
            trace_of(read_parts(to_bytes(wrong), "x"), "x")
        except LoadError:
            continue  # out of its range
        traces[f"{n} {name}"] = wrong
    found = assert_same(ask, traces)
    assert all(found[name]["failure"] is None for name in traces if name.isdigit())
    assert sum(found[name]["failure"] is not None for name in traces if not name.isdigit()) > 20


def test_the_same_contradictions(ask: Ask) -> None:
    made = toy_model().trace("私は", max_new_tokens=20, seed=4)
    piece = made.steps[7].chosen.text
    changes: list[dict[str, Any]] = [{}, {"prompt": "私"}, {"end": "stop"}, {"stop": (piece,)}, {"end": "interrupted"}]
    changes += [{"max_new_tokens": 21}, {"first_step": 1}]
    traces = {str(n): replace(made, header=replace(made.header, **change)) for n, change in enumerate(changes)}
    traces["score"] = toy_model().score("私は猫である。" * 8)
    for name in ("score", "0"):
        traces[f"{name} window"] = forged(traces[name], "window_start", -1, lambda start: start + 1)
    assert_same(ask, traces)
