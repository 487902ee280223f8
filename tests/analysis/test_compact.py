"""A compact copy: what stays is the record's own, what is cut off stays as a sum, and what was rounded says so."""

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from golden import golden_inside, golden_score, golden_trace, large_generation, large_inside
from toy import toy_model

import manako
from manako import messages
from manako.analysis.compact import KEPT, ROUNDING, compact, rounded
from manako.sampling import Sampling
from manako.trace.file import to_bytes
from manako.trace.record import Listed, SelfCheck, Trace, derive
from manako.trace.schema import CAPTURES
from manako.views.html import WEB

STAGES = Sampling(temperature=0.9, top_k=200, top_p=0.97, repetition_penalty=1.3)


def toy_trace(**settings: Any) -> Trace:
    """Whole rows of 277 tokens, everything captured."""
    settings = {"max_new_tokens": 6, "seed": 5, "sampling": STAGES, "capture": CAPTURES} | settings
    return toy_model().trace("私は", **settings)


def reopened(trace: Trace, path: Path) -> Trace:
    """Through its file, with every check of the reader."""
    trace.save(path / "c.manako", force=True)
    return manako.open(path / "c.manako")


def large_trace() -> Trace:
    """A record of parts: 256 candidates of 20,000 tokens."""
    generation = large_generation()
    list(generation)
    return generation.trace()


# --- rows -------------------------------------------------------------------------------------------------------------


def test_whole_rows_become_their_first_candidates_and_an_exact_rest(tmp_path: Path) -> None:
    trace = toy_trace()
    made = reopened(compact(trace), tmp_path)
    assert made.columns.logits is None and made.columns.part is not None
    assert made.columns.part["part_id"].shape == (6, KEPT)
    for i, (step, was) in enumerate(zip(made.steps, trace.steps, strict=True)):
        assert step.candidates[:] == was.candidates[:KEPT]
        assert (step.chosen, step.u, step.entropy, step.stages) == (was.chosen, was.u, was.entropy, was.stages)
        row = Listed.of(derive(trace, i), KEPT).rest
        assert step.other(step.candidates[:]) == row and row.count == trace.vocabulary.size - KEPT
        assert made.columns.part["rest_logit_max"][i] == np.delete(trace.logits[i], step.listed.id).max()
        logits = trace.logits[i].astype(np.float64)
        assert made.columns.part["logsumexp"][i] == pytest.approx(np.log(np.exp(logits).sum()), abs=1e-12)


def test_longer_parts_are_cut_and_what_is_cut_off_joins_the_rest(tmp_path: Path) -> None:
    trace = large_trace()
    made = reopened(compact(trace), tmp_path)
    part, before = made.columns.part, trace.columns.part
    assert part is not None and before is not None
    for name, column in before.items():
        if name.startswith("part_"):
            assert (part[name] == column[:, :KEPT]).all() and column.shape[1] == 256
        elif name not in ("rest_p", "rest_p_model", "rest_logit_max"):
            assert (part[name] == column).all(), name
    for p, rest in (("part_p", "rest_p"), ("part_p_model", "rest_p_model")):
        assert np.abs(part[p].sum(axis=1) + part[rest] - 1).max() < 1e-12
    assert (part["rest_logit_max"] == before["part_logit"][:, KEPT:].max(axis=1)).all()  # flat rows: no stage, T alone
    assert trace.columns.part is before and before["part_id"].shape[1] == 256  # nothing of the record was changed


def test_the_largest_logit_left_out_may_lie_outside_the_longer_part_too() -> None:
    trace = large_trace()
    part = dict(trace.columns.part or {})
    part["rest_logit_max"] = part["rest_logit_max"] + np.float32(50)  # as a penalty may leave it
    made = compact(replace(trace, columns=replace(trace.columns, part=part))).columns.part
    assert made is not None and (made["rest_logit_max"] == part["rest_logit_max"]).all()


def test_a_token_taken_from_outside_keeps_its_numbers() -> None:
    trace = large_trace()
    made = compact(trace)
    outside = [i for i in range(len(trace)) if KEPT < trace.columns.rank[i]]
    assert outside
    for i in outside:
        chosen, was = made.steps[i].chosen, trace.steps[i].chosen
        assert (chosen.id, chosen.p, chosen.p_model, chosen.rank) == (was.id, was.p, was.p_model, was.rank)


@pytest.mark.parametrize("trace", [golden_trace(), golden_inside(), golden_score()])
def test_rows_of_a_small_vocabulary_stay_whole(trace: Trace) -> None:
    made = compact(trace)
    assert made.columns.logits is trace.columns.logits and made.columns.part is None


@pytest.mark.parametrize("count", [KEPT, KEPT + 1])
def test_a_row_is_cut_from_one_token_more_than_are_kept(count: int, tmp_path: Path) -> None:
    generation = large_generation(count, steps=3)
    list(generation)
    made = reopened(compact(generation.trace()), tmp_path)
    assert (made.columns.part is None) == (count == KEPT) and manako.verify(made).ok


def test_tokens_without_any_chance_are_no_trouble(tmp_path: Path) -> None:
    trace = toy_trace(capture=())
    logits = np.full_like(trace.logits, -np.inf)
    for i, id in enumerate(trace.columns.token_id):
        logits[i, [id, 7]] = 1, 0
    made = reopened(compact(replace(trace, columns=replace(trace.columns, logits=logits))), tmp_path)
    assert made.columns.part is not None and (made.columns.part["rest_logit_max"] == -np.inf).all()
    assert (made.columns.part["rest_p"] == 0).all()


# --- what was captured ------------------------------------------------------------------------------------------------


def test_the_residual_stream_is_left_out_and_attention_alone_is_rounded(tmp_path: Path) -> None:
    trace = toy_trace()
    made = reopened(compact(trace), tmp_path)
    assert made.header.capture == ("attention", "lens", "contributions")
    assert made.header.rounded == {"attention": ROUNDING} and trace.header.rounded == {}
    kept = {name: a for name, a in trace.columns.captured.items() if name not in ("attention", "residual")}
    assert all((made.columns.captured[name] == a).all() for name, a in kept.items())
    was, now = trace.columns.captured["attention"].astype(np.float64), made.columns.captured["attention"]
    assert 0 < np.abs(now - was).max() and (np.abs(now - was) <= ROUNDING * was).all()
    assert not (now.view(np.uint32) & 0xFFFF).any()
    kept_fields = {"capture", "rounded", "self_checks"}
    assert {n for n in vars(made.header) if getattr(made.header, n) != getattr(trace.header, n)} == kept_fields


def test_without_attention_nothing_is_said_to_be_rounded() -> None:
    assert compact(toy_trace(capture=("lens",))).header.rounded == {}


def rounded_by_hand(number: float) -> float:
    """The nearer of the two numbers with 8 binary digits around it; of two equally near the one with an even last."""
    exponent = math.frexp(number)[1] - 8
    return math.ldexp(round(math.ldexp(number, -exponent)), exponent)  # Python rounds to the even one, exactly


def test_rounding_goes_to_the_nearest_and_is_off_by_no_more_than_it_says() -> None:
    rng = np.random.default_rng(0)
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 0.5 + 2**-9, 1 - 2**-9, 3 * 2.0**-126 * (1 + 2**-8)], np.float32)
    edges = np.array([0, 1, 1e-5, 2.0**-126, np.nextafter(np.float32(1), np.float32(0)), 1 + 1e-5], np.float32)
    numbers: npt.NDArray[np.float32] = np.concatenate(
        [ties, edges, np.exp(rng.uniform(-87, 0, 2000)).astype(np.float32)]
    )
    assert rounded(numbers).tolist() == [rounded_by_hand(x) for x in numbers.tolist()]
    exact = numbers.astype(np.float64)
    error = np.abs(rounded(numbers) - exact)
    assert (error <= ROUNDING * exact).all() and error[0] / exact[0] > 0.99 * ROUNDING  # 1 % less would not hold
    small = np.array([2.0**-149, 1e-45, 1e-39, np.nextafter(np.float32(2.0**-126), np.float32(0))], np.float32)
    assert (rounded(small) == small).all()


def test_twice_is_once() -> None:
    for trace in (toy_trace(), large_inside()):
        once = compact(trace)
        assert to_bytes(compact(once)) == to_bytes(once)


# --- what it says of itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", [toy_trace(), large_inside(), golden_inside(), golden_score(), toy_trace(seed=8)])
def test_verify_accepts_it_and_its_checks_are_true(trace: Trace, tmp_path: Path) -> None:
    made = reopened(compact(trace), tmp_path)
    found, before = manako.verify(made), manako.verify(trace)
    assert found.ok and found.rederived + found.unverifiable == before.rederived + before.unverifiable == len(trace)
    measured = {check.name: check for check in found.checks}
    for check, was in zip(made.header.self_checks, trace.header.self_checks, strict=True):
        is_rounded = check.name == "attention_rows_sum_to_1"
        assert check.ok and (check == was if not is_rounded else check.error >= measured[check.name].error > was.error)
        assert check.limit == was.limit + (ROUNDING if is_rounded else 0)


def test_the_check_of_attention_measures_what_the_rounding_did() -> None:
    errors = {check.name: check.error for check in compact(toy_trace()).header.self_checks}
    assert 1e-6 < errors["attention_rows_sum_to_1"] < ROUNDING


def test_a_check_that_had_failed_stays_failed(tmp_path: Path) -> None:
    trace = toy_trace()
    for error in (2e-3, math.inf):  # within the limit that rounding widens, and beyond any
        wrong = SelfCheck("attention_rows_sum_to_1", error, 1e-6)
        checks = (*(c for c in trace.header.self_checks if c.name != wrong.name), wrong)
        made = compact(replace(trace, header=replace(trace.header, self_checks=checks)))
        assert made.header.self_checks[-1] == wrong and not made.header.rounded
        assert not reopened(made, tmp_path).header.self_checks[-1].ok


def test_what_did_not_follow_from_the_record_still_does_not() -> None:
    trace = toy_trace()
    p = trace.columns.p.copy()
    p[2] /= 2
    made = compact(replace(trace, columns=replace(trace.columns, p=p)))
    failure = manako.verify(made).failure
    assert failure is not None and failure[0] == 2


def test_a_record_of_nothing_and_one_that_goes_on_from_another(tmp_path: Path) -> None:
    assert len(reopened(compact(toy_trace(max_new_tokens=0)), tmp_path)) == 0
    trace = toy_trace()
    run = toy_model().fork(trace, 3, token_id=260, max_new_tokens=2)
    list(run)
    made = reopened(compact(run.trace()), tmp_path)
    assert made.header.first_step == 4 and manako.verify(made).ok


def test_the_page_says_how_many_candidates_a_compact_copy_keeps() -> None:
    kept = r"const KEPT = (\d+);"
    assert re.findall(kept, (WEB / "trace" / "compact.js").read_text(encoding="utf-8")) == [str(KEPT)]
    for lang, key in itertools.product(messages.LANGUAGES, ("page.save_means", "page.save_means_live")):
        assert re.findall(r"\d{3,}", messages.text(key, lang)) == [str(KEPT)]
