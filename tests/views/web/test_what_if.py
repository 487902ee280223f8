"""What-if in the page: exact from whole rows, in any order of stages; from a part within the error that it states."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from forged import in_parts
from toy import toy_model

from manako.analysis.compact import compact
from manako.sampling import Sampling, distribution
from manako.trace.file import to_bytes
from manako.trace.record import Trace

Ask = Callable[..., Any]
TEMPERATURES = (5e-324, 1e-4, 0.001, 0.3, 1.0, 1.2, 2.0, 3.0, 1e308)


def rows_of(spread: float) -> Trace:
    """A record whose rows have more tokens than a compact copy keeps."""
    trace = toy_model(vocab_size=400).trace("私は", max_new_tokens=12, seed=2)
    rng = np.random.default_rng(3)
    logits = rng.normal(0, spread, trace.logits.shape).astype(np.float32)
    logits[::2] = np.round(logits[::2])
    return replace(trace, columns=replace(trace.columns, logits=logits))


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0, 30.0])
def test_no_number_of_a_part_is_off_by_more_than_is_said(ask: Ask, spread: float) -> None:
    trace = rows_of(spread)
    settings = [{"temperature": t, "top_k": k} for t in TEMPERATURES for k in (None, 5, 300)]
    found = ask("whatIf", to_bytes(compact(trace)), settings)
    for changed, steps in zip(settings, found, strict=True):
        for i, step in enumerate(steps):
            d = distribution(trace.logits[i], replace(trace.header.sampling, **changed))
            ids = [id for id, _ in step["p"] if id >= 0]
            assert 0 <= step["error"] <= 0.5
            exact = [stage.kept for stage in d.stages]
            assert [k for k in step["kept"] if k is not None] == [
                e for k, e in zip(step["kept"], exact, strict=True) if k is not None
            ], (changed, i)
            for id, p in step["p"]:
                assert p is None or abs(p - d.p[id]) <= step["error"] + 1e-9, (changed, i)
            if all(p is not None for _, p in step["p"]):
                assert abs(step["other"] - (1 - d.p[ids].sum())) <= step["error"] + 1e-9, (changed, i)


def test_how_many_top_k_keeps_is_told_where_no_other_token_can_tie(ask: Ask) -> None:
    """50 tokens of one logit, and one of them on record: whether top_k keeps them all depends on the others."""
    made = rows_of(1.0)
    logits = np.full(made.logits.shape, -1, dtype=np.float32)
    logits[:, 100:150] = 2.0
    logits[1, 7] = 3.0  # a step whose first token stands alone
    trace = in_parts(replace(made, columns=replace(made.columns, logits=logits)), 1)
    order = ("temperature", "top_k"), ("top_k", "temperature")
    chains = [({"temperature": t, "top_k": k, "order": o}) for t in (0.0, 1.5) for k in (1, 2, 50, 400) for o in order]
    found = ask("whatIf", to_bytes(trace), chains)
    told = {
        (c["temperature"], c["top_k"], c["order"]): [s["kept"] for s in steps[:2]]
        for c, steps in zip(chains, found, strict=True)
    }
    assert told[1.5, 1, order[0]] == [[400, None], [400, 1]]
    assert told[1.5, 1, order[1]] == [[None, None], [1, 1]]
    assert told[1.5, 2, order[0]] == told[1.5, 50, order[0]] == [[400, None]] * 2
    assert told[1.5, 400, order[0]] == [[400, 400]] * 2
    assert told[0.0, 1, order[0]] == told[0.0, 50, order[0]] == [[1, 1]] * 2
    assert told[0.0, 1, order[1]] == [[None, 1], [1, 1]]


def test_a_stage_that_the_order_lacks_can_be_tried(ask: Ask) -> None:
    model = toy_model()
    trace = model.trace("私は", max_new_tokens=3, seed=1, order=("temperature",))
    [steps] = ask("whatIf", to_bytes(trace), [{"top_k": 4, "repetition_penalty": 1.5}])
    chain = Sampling(temperature=0.8, top_k=4, repetition_penalty=1.5)
    for i, step in enumerate(steps):
        d = distribution(trace.logits[i], chain, trace.all_ids[: len(trace.columns.prompt_ids) + i])
        assert step["error"] == 0 and all(abs(p - d.p[id]) < 1e-12 for id, p in step["p"])
    forked = model.fork(trace, 1, max_new_tokens=2, top_k=4).record()
    assert forked.header.sampling.order == ("temperature", "top_k")
