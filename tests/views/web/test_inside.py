"""What was seen inside the model: the page computes the numbers that Python's analysis computes."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import golden_inside, large_inside
from toy import louder, toy_checkpoint

from manako.analysis.attention import StepAttention, attention, strongest
from manako.analysis.contributions import Why, contributions
from manako.analysis.lens import LensToken, lens
from manako.model import Model
from manako.trace.file import to_bytes
from manako.trace.record import Trace
from manako.trace.schema import CAPTURES

Ask = Callable[..., Any]
WEB = Path(__file__).parents[3] / "src/manako/views/web"
OVERVIEW = f"""
import {{ buffer }} from "node:stream/consumers";
const inside = await import("{WEB.as_uri()}/analysis/inside.js");
const {{ readTrace }} = await import("{WEB.as_uri()}/trace/trace-file.js");
const {{ file, side }} = JSON.parse(await buffer(process.stdin));
const trace = readTrace(Uint8Array.from(Buffer.from(file, "base64")).buffer);
const {{ squares, filling }} = inside.attentionSquares(inside.attentionRecord(trace), side);
const rows = [...filling].length;
const favourites = Array.from({{ length: trace.steps }}, (_, step) => inside.favouriteKeys(trace.attention(step)));
process.stdout.write(JSON.stringify({{ ...squares, data: [...squares.data], rows, favourites }}));
"""
RECORDS: dict[str, Callable[[], Trace]] = {
    "golden": golden_inside,
    "a prompt": lambda: golden_inside(5, prompt_ids=(9, 2, 3, 4, 5, 6, 7)),
    "a moving window": lambda: golden_inside(8, prompt_ids=(9, 2, 3, 4), context=6),
    "large": lambda: large_inside(16_400, 3),
    "large logits": lambda: Model("loud", louder(toy_checkpoint(), 30)).trace("私", max_new_tokens=3, capture=CAPTURES),
}


@pytest.mark.parametrize("make", RECORDS.values(), ids=RECORDS.keys())
def test_the_numbers_of_each_step_are_pythons(ask: Ask, make: Callable[[], Trace]) -> None:
    trace = make()
    for i, step in enumerate(ask("trace", to_bytes(trace))["steps"]):
        assert_attention(step["inside"], attention(trace, i))
        assert_lens(step["inside"]["lens"], trace, i)
        assert_contributions(step["inside"], trace, i)


@pytest.mark.parametrize("side", [3, 7, 96])
@pytest.mark.parametrize("make", [RECORDS["golden"], RECORDS["a prompt"], RECORDS["a moving window"]])
def test_the_overview_of_all_heads_has_the_largest_share_of_each_place(
    node: Callable[..., str], make: Callable[[], Trace], side: int
) -> None:
    trace = make()
    given = json.dumps({"file": base64.b64encode(to_bytes(trace)).decode(), "side": side})
    found = json.loads(node("--input-type=module", "--eval", OVERVIEW, given=given))
    recorded = trace.attention
    rows, first = len(recorded.starts), int(recorded.starts[0])
    columns = recorded.first + rows - first  # from the first token in view to the last one that looks
    height, width = min(side, rows), min(side, columns)
    expected = np.zeros((recorded.n_layer * recorded.n_head, height, width), dtype=np.float32)
    for i in range(rows):
        for k, shares in enumerate(recorded.row(i).reshape(len(expected), -1).T, int(recorded.starts[i]) - first):
            place = expected[:, i * height // rows, k * width // columns]
            np.maximum(place, shares, out=place)
    assert (found["rows"], found["height"], found["width"]) == (rows, height, width)
    assert found["data"] == expected.ravel().tolist() and expected.max() > 0
    favourites = [
        row.reshape(len(expected), -1).argmax(axis=1).tolist() for row in (recorded[i] for i in range(len(trace)))
    ]
    assert found["favourites"] == favourites


def assert_attention(found: Any, expected: StepAttention) -> None:
    def close(ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)

    close(found["mean"], expected.mean)
    close(found["perLayer"], expected.per_layer)
    close(found["lastHead"], expected.per_head[-1, -1])
    assert {int(k): heads for k, heads in found["sinks"].items()} == expected.sink_heads
    assert found["strongest"] == strongest(expected.mean, 3)
    assert (found["rollout"] is None) == (expected.rollout is None)
    if expected.rollout is not None:
        close(found["rollout"], expected.rollout)


def assert_lens(found: Any, trace: Trace, i: int) -> None:
    expected = lens(trace, i)
    assert found["layers"] == list(expected.layers)
    assert (found["appears"], found["wins"]) == (expected.appears, expected.wins)
    for name in ("first", "tracked"):
        rows: tuple[tuple[LensToken, ...], ...] = getattr(expected, name)
        readings = [(r["id"], r["rank"]) for row in found[name] for r in row]
        assert [len(row) for row in found[name]] == [len(row) for row in rows]
        assert readings == [(r.id, r.rank) for row in rows for r in row]
        p = [r["p"] for row in found[name] for r in row]
        np.testing.assert_allclose(p, [r.p for row in rows for r in row], rtol=0, atol=1e-12)


def assert_contributions(found: Any, trace: Trace, i: int) -> None:
    expected = contributions(trace, i)
    assert found["ids"] == [c.id for c in expected.tokens]
    for ours, token in zip(found["why"], expected.tokens, strict=True):
        assert_why(ours, expected.why(token))
    for ours, rival in zip(found["rather"], expected.tokens[1:], strict=True):
        assert_why(ours, expected.why(expected.tokens[0], rival))


def assert_why(found: Any, expected: Why) -> None:
    def same(ours: Any, theirs: Any) -> None:
        assert [p["name"] for p in ours] == [p.name for p in theirs]
        assert [(p["kind"], p["layer"], p["head"]) for p in ours] == [(p.kind, p.layer, p.head) for p in theirs]
        for mine, his in (("value", "value"), ("overMean", "over_mean")):
            values = [(p[mine], getattr(q, his)) for p, q in zip(ours, theirs, strict=True)]
            assert all((a is None) == (b is None) and (a is None or abs(a - b) < 1e-9) for a, b in values)

    assert found["allowed"] == pytest.approx(expected.allowed, rel=1e-9)
    assert abs(found["logit"] - expected.logit) < 1e-9 and abs(found["total"] - expected.total) < 1e-9
    same(found["parts"], expected.parts)
    first, rest = expected.strongest(4)
    same(found["strongest"]["first"], first)
    assert found["strongest"]["rest"]["count"] == rest.count
    assert abs(found["strongest"]["rest"]["value"] - rest.value) < 1e-9
    assert found["groups"] == pytest.approx(expected.groups, abs=1e-9)
