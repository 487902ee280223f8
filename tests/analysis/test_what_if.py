"""The same row and the same u under other settings: numbers worked out by hand, and what needs a whole row."""

import pytest
from golden import golden_score, golden_trace, large_inside
from toy import toy_model

from manako.analysis.what_if import what_if
from manako.errors import ManakoError
from manako.sampling import Sampling


def test_the_settings_on_record_give_the_step_on_record() -> None:
    trace = golden_trace()
    for i, step in enumerate(trace.steps):
        found = what_if(trace, i, trace.header.sampling)
        assert (found.chosen, found.u, found.candidates[:]) == (step.chosen, step.u, step.candidates[:])


def test_other_probabilities_by_hand() -> None:
    """At temperature 1 the favourite of row 0 has 2^5 of 72.9375."""
    found = what_if(golden_trace(), 0, Sampling(temperature=1))
    assert found.candidates[0].p == pytest.approx(32 / 72.9375)
    assert found.candidates[0].p == found.candidates[0].p_model


def test_the_token_is_the_one_that_a_run_with_these_settings_draws() -> None:
    """Whatever the settings, a step forked with them draws what the what-if says."""
    model = toy_model()
    trace = model.trace("私", max_new_tokens=6, temperature=1.5, seed=3)
    drawn = set()
    for settings in (Sampling(temperature=0), Sampling(temperature=1.45), Sampling(temperature=1, top_k=2)):
        for i in range(6):
            found = what_if(trace, i, settings)
            step = model.fork(trace, i, sampling=settings, max_new_tokens=1)
            assert found.token_id == next(iter(step)).token_id == found.chosen.id
            drawn.add(found.token_id == trace.steps[i].token_id)
    assert drawn == {True, False}


def test_another_random_number() -> None:
    assert what_if(golden_trace(), 0, Sampling(temperature=1), u=0.0).chosen.rank == 1
    assert what_if(golden_trace(), 0, Sampling(temperature=1), u=0.999).chosen.rank > 1


def test_a_score_keeps_its_token() -> None:
    trace = golden_score()
    found = what_if(trace, 0, Sampling(temperature=0.2))
    assert (found.u, found.token_id) == (None, trace.steps[0].token_id)
    assert found.candidates[0].p > trace.steps[0].candidates[0].p


def test_a_part_of_a_row_is_not_enough() -> None:
    with pytest.raises(ManakoError) as caught:
        what_if(large_inside(), 0, Sampling(temperature=1))
    assert caught.value.key == "trace_partial"
