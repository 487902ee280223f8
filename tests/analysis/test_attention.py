"""Attention of one step: numbers by hand, rollout by brute force, what a sink is, what is not on record."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from golden import TOKENS, golden_inside, golden_trace, patterns
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_model

import manako
from manako.analysis.attention import StepAttention, attention, rollout, strongest
from manako.engines import captures
from manako.errors import CapabilityError


def step_attention(per_head: object) -> StepAttention:
    """A step with weights [L, H, K] of one's own."""
    weights = np.array(per_head, dtype=np.float32)
    found = attention(golden_inside(steps=12), weights.shape[2] - 1)
    return replace(found, per_head=weights)


def test_means_and_entropy_by_hand() -> None:
    """Heads: halves towards the end; the first token alone; a quarter to the first, the rest to itself; even."""
    found = attention(golden_inside(), 3)
    assert found.per_head.tolist() == patterns(4).tolist()
    expected = [[[0.125, 0.125, 0.25, 0.5], [1, 0, 0, 0]], [[0.25, 0, 0, 0.75], [0.25, 0.25, 0.25, 0.25]]]
    assert found.per_head.tolist() == expected
    assert found.per_layer.tolist() == [[0.5625, 0.0625, 0.125, 0.25], [0.25, 0.125, 0.125, 0.5]]
    assert found.mean.tolist() == [0.40625, 0.09375, 0.125, 0.375]
    assert found.weights((1,)).tolist() == found.per_layer[1].tolist()
    assert found.weights((0, 1)).tolist() == [1, 0, 0, 0]
    expected = [[1.75, 0], [0.5 + 0.75 * np.log2(4 / 3), 2]]
    assert np.allclose(found.entropy, expected, rtol=1e-12)


def test_one_key() -> None:
    found = attention(golden_inside(), 0)
    assert found.mean.tolist() == [1] and found.entropy.tolist() == [[0, 0], [0, 0]]
    assert found.rollout is not None and found.rollout.tolist() == [1] and not found.sink_heads


def test_keys_are_the_tokens_in_view() -> None:
    trace = golden_inside()
    found = attention(trace, 4)
    assert [k.position for k in found.keys] == [0, 1, 2, 3, 4]
    assert [k.id for k in found.keys] == trace.all_ids[:5].tolist()
    assert [k.bytes for k in found.keys] == [TOKENS[i] for i in trace.all_ids[:5]]
    assert found.step.index == 4 and not any(k.special for k in found.keys)
    moved = golden_inside(context=3)
    found = attention(moved, 6)
    assert [k.position for k in found.keys] == [4, 5, 6]
    assert [k.id for k in found.keys] == moved.all_ids[4:7].tolist()
    assert found.per_head.tolist() == patterns(3).tolist()


# --- rollout ----------------------------------------------------------------------------------------------------------


def by_all_paths(per_layer: np.ndarray) -> np.ndarray:
    """The same by definition: every way down from the last token, each layer staying or looking, one term a way."""
    layers, size = per_layer.shape[:2]
    step = 0.5 * per_layer + 0.5 * np.eye(size)
    found = np.zeros(size)
    for way in product(range(size), repeat=layers):
        places = (size - 1, *way)
        found[way[-1]] += np.prod([step[layers - 1 - n][places[n], places[n + 1]] for n in range(layers)])
    return found


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_rollout_by_brute_force(layers: int) -> None:
    trace = toy_model(n_layer=layers).trace("あいう", max_new_tokens=3, seed=1, capture=("attention",))
    for index in range(3):
        whole = trace.attention.whole(index)
        assert whole is not None
        found = attention(trace, index).rollout
        assert found is not None and len(found) == 3 + index
        per_layer = whole.astype(np.float64).mean(axis=1)
        assert np.allclose(found, by_all_paths(per_layer), rtol=0, atol=1e-12)
        product_of_all = np.eye(3 + index)
        for layer in per_layer:  # the recurrence of the paper, whole matrices
            product_of_all = (0.5 * layer + 0.5 * np.eye(3 + index)) @ product_of_all
        assert np.allclose(found, product_of_all[-1], rtol=0, atol=1e-12)


def test_order_of_the_layers_counts() -> None:
    first = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]])  # token 1 looks at 0
    second = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]])  # the last looks at 1
    assert rollout(np.array([first, second], dtype=float)).tolist() == [0.25, 0.25, 0.5]
    assert rollout(np.array([second, first], dtype=float)).tolist() == [0, 0.5, 0.5]


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
@pytest.mark.slow
def test_rollout_shares_out_one(layers: int, keys: int, seed: int) -> None:
    weights = np.tril(np.random.default_rng(seed).random((layers, keys, keys)) + 1e-3)
    found = rollout(weights / weights.sum(axis=2, keepdims=True))
    assert found.min() >= 0 and abs(found.sum() - 1) < 1e-12 and found[-1] >= 0.5**layers - 1e-12


def test_no_rollout_past_the_context() -> None:
    trace = golden_inside(context=5)
    assert [attention(trace, i).rollout_lacks for i in range(6)] == [None] * 5 + ["window"]
    assert attention(trace, 5).rollout is None and attention(trace, 4).rollout is not None


def test_no_rollout_where_the_prompts_rows_were_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "PROMPT_ROWS_BYTES", 0)
    found = attention(toy_model().trace("あいう", max_new_tokens=1, seed=1, capture=("attention",)), 0)
    assert found.rollout is None and found.rollout_lacks == "prompt" and found.per_head.shape == (2, 2, 3)


def test_no_rollout_of_a_forks_only_token_nor_behind_given_ones() -> None:
    model = toy_model()
    before = model.trace("あいう", max_new_tokens=3, seed=1)
    made = {count: model.fork(before, 2, max_new_tokens=count, capture=("attention",)) for count in (1, 2)}
    assert [len(list(each)) for each in made.values()] == [1, 2]
    one, two = (each.trace() for each in made.values())
    assert attention(one, 0).rollout_lacks == "fork" and attention(two, 0).rollout_lacks is None
    given = replace(one, header=replace(one.header, kind="score"))  # a text whose first tokens are given
    assert attention(given, 0).rollout_lacks == "given"


def test_a_given_text_has_it_in_its_first_window() -> None:
    trace = toy_model().score("私は猫、犬。" * 4, capture=("attention",))  # context 16
    lacks = [attention(trace, i).rollout_lacks for i in range(len(trace))]
    assert lacks == [None if start == 0 else "window" for start in trace.columns.window_start.tolist()]
    assert None in lacks and "window" in lacks


# --- sinks ------------------------------------------------------------------------------------------------------------


def test_the_golden_sink() -> None:
    """Of twelve keys an even share is 1/12; the first has more than twice that in heads 0.1 and 1.0, 2 of 4."""
    assert attention(golden_inside(), 11).sink_heads == {0: 2}


def test_a_sink_takes_more_than_twice_an_even_share_in_half_of_the_heads() -> None:
    def sinks(*first: float) -> dict[int, int]:
        rest = [[w, *[(1 - w) / 9] * 9] for w in first]
        return step_attention([rest[:2], rest[2:]]).sink_heads

    assert sinks(0.21, 0.21, 0.1, 0.1) == {0: 2}
    assert sinks(0.21, 0.1, 0.1, 0.1) == {}
    assert sinks(0.2, 0.19, 0.19, 0.19) == {}  # twice is not more than twice
    assert sinks(0.9, 0.9, 0.9, 0.0) == {0: 3}


def test_recent_and_later_tokens_are_no_sinks() -> None:
    def all_on(k: int, count: int) -> dict[int, int]:
        return step_attention(np.eye(count)[[k] * 4].reshape(2, 2, count)).sink_heads

    assert all_on(3, 10) == {3: 4} and all_on(4, 10) == {}  # one of the first four alone
    assert all_on(2, 6) == {2: 4} and all_on(3, 6) == {}  # in the first half alone
    assert all_on(0, 2) == {} == all_on(1, 2)  # of two keys none can have more than twice a half


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_strongest_by_weight_then_place() -> None:
    assert strongest([0.1, 0.4, 0.1, 0.4], 3) == [1, 3, 0]
    assert strongest([0.5, 0.5], 9) == [0, 1]


def test_without_attention_on_record() -> None:
    with pytest.raises(CapabilityError, match="attention"):
        attention(golden_trace(), 0)
    with pytest.raises(CapabilityError, match="attention"):
        attention(golden_inside(capture=("lens",)), 0)


def test_a_saved_record_says_the_same(tmp_path: Path) -> None:
    trace = toy_model().trace("私は", max_new_tokens=4, seed=1, capture=("attention",))
    trace.save(tmp_path / "a.manako")
    opened = manako.open(tmp_path / "a.manako")
    for index in range(len(trace)):
        live, saved = attention(trace, index), attention(opened, index)
        assert saved.keys == live.keys and saved.per_head.tolist() == live.per_head.tolist()
        assert saved.rollout is not None and live.rollout is not None
        assert saved.rollout.tolist() == live.rollout.tolist()
