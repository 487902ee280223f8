"""What `verify` sees and what it cannot: each column and each header field changed once, with the verdict expected of
it; and no false alarm, whatever the chain.

A verdict is "refused" (the file does not open), a column or field that is named, a self-check that fails, or None: the
change cannot be seen. docs/trace-format.md lists what cannot.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from forged import FORGED, GOOD
from golden import PROMPT_IDS, golden_inside, golden_score, large_inside
from parts import random_step
from toy import toy_model

from manako.analysis.compact import compact
from manako.analysis.partial import misfit
from manako.analysis.verification import verify
from manako.errors import LoadError
from manako.sampling import DEFAULT_ORDER, Sampling
from manako.settings import RunSettings
from manako.trace.file import read_parts, to_bytes, trace_of
from manako.trace.record import Trace, Vocabulary
from manako.trace.schema import CAPTURE_COLUMNS, CAPTURES, COLUMNS, TRACE

CHAIN = Sampling(temperature=0.7, top_k=60, top_p=0.95, min_p=1e-4)


def whole() -> Trace:
    """Whole rows with all captures, four steps of a text that may have gone on."""
    trace = golden_inside(4, CAPTURES, sampling=CHAIN, stop=("zzz",))
    return replace(trace, header=replace(trace.header, prompt_rewritten=False))


def partial() -> Trace:
    """256 candidates of 20,000, and some of them cut."""
    trace = large_inside(20_000, 4, CAPTURES, sampling=CHAIN, stop=("zzz",))
    return replace(trace, header=replace(trace.header, prompt_rewritten=False))


def open_parts() -> Trace:
    """The same with nothing cut, so that draws lie outside the candidates too."""
    return replace(large_inside(20_000, 4, CAPTURES, sampling=Sampling(0.4)))


def put(trace: Trace, name: str, place: Any, value: Any) -> Trace:
    """One number of a column changed. value: the new one, or what makes it of the old one."""
    columns = trace.columns
    groups = {"part": columns.part or {}, "captured": columns.captured}
    group = next((g for g, held in groups.items() if name in held), None)
    array = (groups[group][name] if group else getattr(columns, name)).copy()
    array[place] = value(array[place]) if callable(value) else value
    change = {name: array} if group is None else {group: {**groups[group], name: array}}
    return replace(trace, columns=replace(columns, **change))


def said(trace: Trace) -> str | None:
    """The verdict on the file of a record."""
    data = to_bytes(trace)
    try:
        again = trace_of(read_parts(data, "x"), "x")
    except LoadError:
        return "refused"
    found = verify(again)
    names = [*found.contradictions, *(c.name for c in (*found.checks, *found.recorded_checks) if not c.ok)]
    if not names and found.failure:
        names = ["draw"]
    assert found.ok is not bool(names)
    return names[0] if names else None


Changes = list[tuple[str, Any, Any, str | None]]
ATTENTION, LENS, LISTS, SUMS = (
    "attention_rows_sum_to_1",
    "lens_last_equals_logits",
    "lens_lists_fit",
    "contributions_sum_to_logit",
)
EVERYWHERE: Changes = [
    ("prompt_ids", 0, 10, "prompt"),
    ("u", 2, lambda u: np.nextafter(u, 0), "u"),
    ("window_start", 3, 1, "refused"),  # attention has other rows then; without it: below
    ("p", 1, lambda p: p * 1.07, "p"),
    ("p_model", 1, lambda p: p * 1.07, "p_model"),
    ("rank", 1, lambda rank: rank + 1, "rank"),
    ("attention", 3, lambda weight: weight / 2 + 0.1, ATTENTION),
    ("attention_shape", 2, 1, "refused"),
    ("lens_id", (1, -1, 1), 11, LENS),
    ("lens_logit", (1, -1, 0), lambda logit: logit - 0.07, LENS),
    ("lens_logit", (1, 0, 9), lambda logit: logit - 1e-3, None),  # of an inner layer, the last of its list
    ("lens_logsumexp", (1, -1), lambda value: value + 0.07, LENS),
    ("lens_logsumexp", (1, 0), lambda value: value + 0.07, None),
    ("lens_tracked_logit", (1, -1, 0), lambda logit: logit - 0.07, LENS),
    ("lens_tracked_rank", (1, 0, 1), lambda rank: rank + 1, LISTS),
    ("contribution_id", (1, 0), 11, "refused"),
    ("contribution", (1, 0, 0), lambda value: value + 0.07, SUMS),
    ("residual", (1, 0, 0), lambda value: value + 0.07, None),
]
WHOLE: Changes = [
    ("contribution_mean", (1, 0), lambda value: value + 0.07, SUMS),
    ("logits", (1, 3), lambda logit: logit + 0.7, "draw"),
    ("lens_tracked_id", (1, 2), 11, LENS),
]
PART: Changes = [
    ("contribution_mean", (1, 0), lambda value: value + 0.07, None),  # the mean of a row is not on record
    ("lens_tracked_id", (1, 2), 11, LISTS),
    ("part_id", (1, 255), 19_999, None),  # another name for a token that was cut
    ("part_logit", (1, 3), lambda logit: logit * 1.01, "part_p_model"),
    ("part_p", (1, slice(3, 5)), lambda p: p[::-1] * [1.01, 0.99], "rest_p"),
    ("part_p", (1, slice(3, 5)), lambda p: p + [1e-3, -1e-3], "part_p"),
    ("part_p_model", (1, 3), lambda p: p * 1.07, "part_p_model"),
    ("part_cut_by", (1, 3), 1, "part_cut_by"),
    ("part_cut_by", (1, 200), -1, "part_cut_by"),
    ("part_cut_by", (1, 200), 2, "stage_kept"),
    ("logsumexp", 1, lambda value: value * 1.001, "part_p_model"),
    ("rest_p", 1, 0.01, "rest_p"),
    ("rest_p_model", 1, lambda p: p * 0.93, "rest_p_model"),
    ("rest_logit_max", 1, lambda logit: logit + 0.5, "rest_logit_max"),  # above the last one listed
    ("rest_logit_max", 1, lambda logit: logit - 0.01, None),  # as good a largest one as any
    ("entropy", 1, lambda bits: bits * 1.001, "entropy"),
    ("stage_kept", (1, 1), lambda kept: kept + 1, "part_cut_by"),
    ("stage_kept", (1, -1), lambda kept: kept + 1, "part_cut_by"),
    ("stage_removed_mass", (1, 2), lambda mass: mass * 1.07, "part_cut_by"),
    ("stage_removed_mass", (1, 0), 0.01, "stage_removed_mass"),
    ("chosen_logit", 1, lambda logit: logit * 1.01, "p_model"),
]


def of_the_header(trace: Trace) -> dict[str, tuple[Any, str | None]]:
    """Field -> (another value, the verdict)."""
    header = trace.header
    checks = (replace(header.self_checks[0], error=1.0, limit=2.0), *header.self_checks[1:])
    return {
        "kind": ("score", "refused"),
        "model": (replace(header.model, weights_sha256="f" * 64, ref="another", engine="another"), None),
        "prompt": ("い", "prompt"),
        "prompt_rewritten": (True, None),
        "sampling": (replace(header.sampling, temperature=0.71), "draw" if trace.exact else "stage_removed_mass"),
        "seed": (header.seed and header.seed + 1, "u"),
        "stop": (("あ",), None),  # no step completed it: another wish that changed nothing
        "end": ("stop", "end"),
        "max_new_tokens": (3, "refused"),
        "window": ("hop", "refused"),
        "special_ids": (PROMPT_IDS, "prompt"),
        "self_checks": (checks, header.self_checks[0].name),
        "capture": (("attention",), "refused"),
        "parts": (header.parts[1:], "refused"),
        "ablate": (("head:0.0",), None),
        "first_step": (1, "u"),
        "rounded": ({"attention": 0.5}, None),
    }


def changed_records() -> dict[str, tuple[Callable[[], Trace], str | None]]:
    found: dict[str, tuple[Callable[[], Trace], str | None]] = {}
    for kind, make, table in (("whole", whole, WHOLE), ("part", partial, PART)):
        for n, (name, place, value, verdict) in enumerate([*EVERYWHERE, *table]):
            found[f"{kind} {name} {n}"] = (lambda m=make, c=(name, place, value): put(m(), *c), verdict)
        for field, (value, verdict) in of_the_header(make()).items():
            found[f"{kind} {field}"] = (
                lambda m=make, f=field, v=value: replace(t := m(), header=replace(t.header, **{f: v})),
                verdict,
            )
    return found


CHANGED = changed_records()


@pytest.mark.parametrize("name", CHANGED)
def test_each_column_and_each_field_changed_once(name: str) -> None:
    make, verdict = CHANGED[name]
    found = said(make())
    assert found == verdict or (verdict == "draw" and found in ("draw", "p", "p_model", "rank"))


def test_none_is_left_out() -> None:
    changed = {name.split()[1] for name in CHANGED}
    tables = [*COLUMNS.values(), *CAPTURE_COLUMNS.values()]
    held = {"schema", "vocab_size", "columns_sha256", "sha256"}  # the container's own: test_record.py
    spelled = {"vocab_bytes", "vocab_end", "vocab_id"}  # below
    assert changed >= {name for table in tables for name in table} - spelled - {"token_id"}
    assert changed >= set(TRACE.header) - held


@pytest.mark.parametrize("make", [whole, partial, open_parts])
def test_good_records_are_told_so(make: Callable[[], Trace]) -> None:
    assert said(make()) is None


def test_another_token_or_another_spelling() -> None:
    trace = partial()
    other = next(int(i) for i in (trace.columns.part or {})["part_id"][1] if i != trace.columns.token_id[1])
    assert said(put(trace, "token_id", 1, other)) == "refused"  # the captures begin with the chosen one
    plain = large_inside(20_000, 4, ())
    assert said(put(plain, "token_id", 1, other)) in ("p_model", "rank", "p")
    spelled = [trace.vocabulary[i] for i in range(trace.vocabulary.size)]
    for i, verdict in ((int(trace.columns.token_id[1]), None), (PROMPT_IDS[0], "prompt")):
        again = [*spelled[:i], b"x", *spelled[i + 1 :]]
        assert said(replace(trace, vocabulary=Vocabulary(again, len(again), frozenset()))) == verdict


def test_a_text_that_should_have_ended_and_one_that_ended_for_nothing() -> None:
    model = toy_model()
    trace = model.trace("私は", RunSettings(max_new_tokens=12, seed=3))
    piece = trace.steps[5].chosen.text
    stopped = model.trace("私は", RunSettings(max_new_tokens=12, seed=3, stop=(piece,)))
    assert verify(stopped).ok and stopped.header.end == "stop" and len(stopped) <= 6
    for one, changes in (
        (trace, {"stop": (piece,)}),
        (trace, {"end": "stop"}),
        (trace, {"max_new_tokens": 13}),
        (stopped, {"stop": ()}),
        (stopped, {"end": "interrupted"}),
    ):
        forged = replace(one, header=replace(one.header, **changes))
        assert verify(forged).contradictions == ("end",) and not verify(forged).ok


def test_windows_follow_from_the_context() -> None:
    model = toy_model()
    for trace in (model.trace("私は", max_new_tokens=40, seed=1), model.score("私は" * 30), golden_score()):
        assert verify(trace).ok
        for place in (0, len(trace) - 1):
            assert verify(put(trace, "window_start", place, lambda start: start + 1)).contradictions == (
                "window_start",
            )


@pytest.mark.parametrize("name", GOOD)
def test_what_is_far_apart_or_at_an_edge_is_told_as_good(name: str) -> None:
    assert said(GOOD[name]()) is None


@pytest.mark.parametrize("name", FORGED)
def test_a_forgery_is_named(name: str) -> None:
    make, column = FORGED[name]
    assert said(make()) == column


def test_limits_are_the_readers_own() -> None:
    trace = golden_inside()
    wide = tuple(replace(check, error=5.0, limit=1e9) for check in trace.header.self_checks)
    again = trace_of(read_parts(to_bytes(replace(trace, header=replace(trace.header, self_checks=wide))), "x"), "x")
    assert [c.limit for c in again.header.self_checks] == [c.limit for c in trace.header.self_checks]
    assert not verify(again).ok


def test_a_type_in_the_header_widens_the_limits_as_its_rounding_does_and_a_made_up_one_does_not() -> None:
    for dtype, factor in (("bfloat16", 0.0078125 * 40), ("constructor", 1e-5)):
        trace = golden_inside()
        trace = replace(trace, header=replace(trace.header, model=replace(trace.header.model, dtype=dtype)))
        again = trace_of(read_parts(to_bytes(trace), "x"), "x")
        limits = {c.name: c.limit for c in (*again.header.self_checks, *verify(again).checks)}
        assert limits[LENS] == factor


# No false alarm


@pytest.mark.parametrize("cases", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_false_alarm_whatever_the_chain(cases: int) -> None:
    rng = np.random.default_rng(5)
    stages = set[str]()
    for _ in range(cases):
        trace = random_step(rng)
        stages |= set(trace.header.sampling.active)
        assert misfit(trace, 0) is None, trace.header.sampling
    assert stages == set(DEFAULT_ORDER)


def test_a_compact_copy_is_as_true_as_its_record() -> None:
    made = toy_model().trace("私は", max_new_tokens=20, temperature=1.3, top_p=0.9, seed=5)
    assert verify(compact(made)).ok and said(compact(golden_inside())) is None
