"""The JSON of watch and view: its exact shape, the golden document, and that every number comes back bit for bit."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from golden import HOSTILE, LOGITS, golden_score, golden_trace, large_generation

from manako.trace.record import SelfCheck, Trace
from manako.views.document import step_record, trace_document


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def test_golden(golden_trace: Trace, check_golden: Callable[[str, str], None]) -> None:
    text = json.dumps(trace_document(golden_trace, top=12), indent=1, ensure_ascii=True, allow_nan=False)
    check_golden("trace.json", text + "\n")


def test_shape_is_the_documented_one(golden_trace: Trace) -> None:
    document = trace_document(golden_trace, top=3)
    assert list(document) == [
        *(
            "schema",
            "kind",
            "model",
            "prompt",
            "sampling",
            "seed",
            "first_step",
            "ablate",
            "capture",
            "rounded",
            "steps",
            "text",
            "end",
            "stop",
            "self_checks",
        ),
    ]
    assert document["schema"] == "manako.steps/1"
    assert list(document["prompt"]) == ["text", "ids"]
    assert document["sampling"]["order"] == [
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "temperature"),
        *("top_k", "top_p", "min_p", "typical_p"),
    ]
    step = document["steps"][0]
    assert list(step) == [
        *("index", "text_before", "window_start", "u", "entropy_bits", "chosen", "candidates", "other", "stages"),
    ]
    assert list(step["chosen"]) == ["id", "text", "bytes", "p", "p_model", "rank"]
    assert list(step["candidates"][0]) == ["id", "text", "bytes", "logit", "p", "p_model", "rank", "cut_by"]
    assert list(step["other"]) == ["count", "p", "p_model"]
    assert [list(stage) for stage in step["stages"]] == [["name", "kept", "removed_mass"]] * 3
    assert [c["rank"] for c in step["candidates"]] == [1, 2, 3]


def test_numbers_by_hand(golden_trace: Trace) -> None:
    step = trace_document(golden_trace, top=12)["steps"][0]
    assert [round(c["p"] * 1408, 4) for c in step["candidates"]] == [1024, 256, 64, 64] + [0] * 8
    assert [round(c["p_model"] * 72.9375, 4) for c in step["candidates"]] == [
        *(32, 16, 8, 8, 4, 2, 1, 1, 0.5, 0.25, 0.125, 0.0625),
    ]
    assert [c["cut_by"] for c in step["candidates"]] == [None] * 4 + ["top_p"] * 4 + ["top_k"] * 4
    # top_k leaves 8 of 12 tokens: of 4^5 + 4^4 + ... it removes 4^-1 + 4^-2 + 4^-3 + 4^-4
    lost = 4**-1 + 4**-2 + 4**-3 + 4**-4
    removed = {s["name"]: (s["kept"], s["removed_mass"]) for s in step["stages"]}
    assert removed["temperature"] == (12, 0.0)
    assert removed["top_k"][0] == 8 and abs(removed["top_k"][1] - lost / (1408 + 16 + 4 + 1 + 1 + lost)) < 1e-7
    assert removed["top_p"][0] == 4 and abs(removed["top_p"][1] - 22 / 1430) < 1e-7


def test_an_error_without_a_number_is_null(golden_trace: Trace) -> None:
    check = SelfCheck("probabilities_sum_to_1", float("inf"), 1e-9)
    document = trace_document(replace(golden_trace, header=replace(golden_trace.header, self_checks=(check,))), top=1)
    wanted = [{"name": "probabilities_sum_to_1", "error": None, "limit": 1e-9, "ok": False}]
    assert through_json(document)["self_checks"] == wanted


def test_every_number_is_exact(golden_trace: Trace) -> None:
    document = through_json(trace_document(golden_trace, top=12))
    for step, record in zip(golden_trace, document["steps"], strict=True):
        assert (record["u"], record["entropy_bits"]) == (step.u, step.entropy)
        for c, shown in zip(step.candidates, record["candidates"], strict=True):
            assert (shown["p"], shown["p_model"], shown["logit"]) == (c.p, c.p_model, c.logit)
            assert base64.b64decode(shown["bytes"]) == c.bytes
        assert record["chosen"]["id"] == step.token_id
        assert record["candidates"][record["chosen"]["rank"] - 1]["id"] == step.token_id


def test_listed_and_other_cover_the_vocabulary(golden_trace: Trace) -> None:
    for top in (1, 5, 11, 12, 50):
        for record in trace_document(golden_trace, top)["steps"]:
            assert len(record["candidates"]) + record["other"]["count"] == 12
            for name in ("p", "p_model"):
                total = sum(c[name] for c in record["candidates"]) + record["other"][name]
                assert abs(total - 1) < 1e-12


def test_hostile_tokens_come_back_as_their_bytes(golden_trace: Trace) -> None:
    document = through_json(trace_document(golden_trace, top=12))
    shown = {base64.b64decode(c["bytes"]) for c in document["steps"][0]["candidates"]}
    assert set(HOSTILE) <= shown


def test_a_score_has_no_luck() -> None:
    document = through_json(trace_document(golden_score(), top=2))
    assert document["kind"] == "score" and document["seed"] is None
    assert all(step["u"] is None for step in document["steps"])


def test_a_logit_of_minus_infinity_is_null() -> None:
    logits = LOGITS.copy()
    logits[0][11] = -float("inf")
    trace = replace(golden_trace(), columns=replace(golden_trace().columns, logits=logits))
    last = step_record(trace.steps[0], top=12)["candidates"][-1]
    assert (last["id"], last["logit"], last["p_model"]) == (11, None, 0.0)
    through_json(last)


def test_chosen_outside_the_list_is_not_in_other_twice() -> None:
    generation = large_generation()
    steps = list(generation)
    far = [step for step in steps if step.chosen.rank > 256]
    assert far  # the fixture is made for this
    for step in far:
        record = through_json(step_record(step, top=10))
        assert record["chosen"]["rank"] == step.chosen.rank
        assert record["other"]["count"] == 20_000 - 10  # it is one of the others here: the list is of the first ten
        total = sum(c["p"] for c in record["candidates"]) + record["other"]["p"]
        assert abs(total - 1) < 1e-9
