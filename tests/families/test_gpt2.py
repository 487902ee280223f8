"""The NumPy forward pass against itself: cached and whole, one row and all, past the context (N6), and its parts."""

import math
from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_config, toy_weights, worst, worst_of_row

from manako.engines.session import Session
from manako.families.attention import QUERY_BLOCK
from manako.families.gpt2 import ModelConfig, NumpyGPT2
from manako.families.nonlinear import erf, gelu, gelu_new, relu

SWITCHES = [
    {},
    {"residual": False},
    {"norm": "post"},
    {"attention": False},
    {"norm": "post", "residual": False},
    {"norm": "post", "attention": False},
    {"residual": False, "attention": False},
    {"norm": "post", "residual": False, "attention": False},
]


def engine(seed: int = 0, dtype: str = "float32", **changes: object) -> NumpyGPT2:
    config = toy_config(**changes)
    return NumpyGPT2(config, toy_weights(config, seed, dtype))


def ids_for(config: ModelConfig, length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, length).tolist()


def whole(model: NumpyGPT2, ids: Sequence[int]) -> np.ndarray:
    return model.forward(ids, model.new_cache(), last_only=False)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_token_by_token_equals_whole(switches: dict[str, object]) -> None:
    model = engine(**switches)
    ids = ids_for(model.config, model.config.block_size)
    expected, cache = whole(model, ids), model.new_cache()  # [T, V]
    for i, token_id in enumerate(ids):
        row = model.forward([token_id], cache)
        assert row.shape == (1, model.config.vocab_size)
        assert worst_of_row(row[0], expected[i]) <= 1e-5
    assert cache.length == len(ids)


@given(st.lists(st.integers(1, 16), min_size=1, max_size=6), st.booleans(), st.integers(0, 7))
def test_any_division_into_pieces_gives_the_same_rows(pieces: list[int], last_only: bool, kind: int) -> None:
    model = engine(**SWITCHES[kind])
    ids = ids_for(model.config, model.config.block_size)
    expected, cache, done = whole(model, ids), model.new_cache(), 0
    for size in pieces:
        piece = ids[done : done + size]
        if not piece:
            break
        rows = model.forward(piece, cache, last_only=last_only)
        done += len(piece)
        assert rows.shape[0] == (1 if last_only else len(piece))
        assert worst_of_row(rows, expected[done - len(rows) : done]) <= 1e-5


@pytest.mark.parametrize("cached", [0, 1, QUERY_BLOCK - 1, QUERY_BLOCK, QUERY_BLOCK + 3])
def test_a_text_longer_than_a_block_of_attention_rows(cached: int) -> None:
    model = engine(block_size=2 * QUERY_BLOCK + 9)
    ids = ids_for(model.config, model.config.block_size)
    lengths = (5, QUERY_BLOCK, QUERY_BLOCK + 1, 2 * QUERY_BLOCK - 3, 2 * QUERY_BLOCK + 9)
    cache, expected = model.new_cache(), np.concatenate([whole(model, ids[:n])[-1:] for n in lengths])
    if cached:
        model.forward(ids[:cached], cache)
    rows = model.forward(ids[cached:], cache, last_only=False)
    for n, row in zip(lengths, expected, strict=True):
        if n > cached:
            assert worst_of_row(rows[n - cached - 1], row) <= 1e-5


def test_a_later_token_changes_no_earlier_row() -> None:
    model = engine()
    ids = ids_for(model.config, 12)
    other = [*ids[:8], *ids_for(model.config, 4, seed=9)]
    assert np.array_equal(whole(model, ids)[:8], whole(model, other)[:8])
    assert not np.allclose(whole(model, ids)[8:], whole(model, other)[8:])


def test_the_input_weights_are_not_changed() -> None:
    config = toy_config()
    weights = toy_weights(config)
    before = {name: t.copy() for name, t in weights.items()}
    for t in weights.values():
        t.setflags(write=False)
    model = NumpyGPT2(config, weights)
    whole(model, ids_for(config, 16))
    assert all(np.array_equal(weights[n], before[n]) for n in before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu"])
def test_computes_in_the_dtype_of_its_weights(dtype: str, activation: str) -> None:
    model = engine(dtype=dtype, activation_function=activation)
    assert whole(model, ids_for(model.config, 5)).dtype == dtype


@pytest.mark.parametrize(("function", "reference"), [
    (gelu, lambda x: x * (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2),
    (gelu_new, lambda x: x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + 0.044715 * x**3))) / 2),
    (relu, lambda x: max(x, 0)),
    (erf, mpmath.erf),
])  # fmt: skip
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-6), ("float64", 1e-14)])
def test_activations_against_mpmath(function: object, reference: object, dtype: str, limit: float) -> None:
    x = np.concatenate([np.linspace(-9, 9, 401), [0.0, 1e-8, -1e-8, 30, -30, 1e4, -1e4]]).astype(dtype)
    expected = np.array([float(reference(mpmath.mpf(float(v)))) for v in x])  # type: ignore[operator]
    assert worst(function(x), expected) <= limit  # type: ignore[operator]


def test_erf_float32_keeps_the_bound_its_docstring_states() -> None:
    x = np.linspace(-6, 6, 200_001).astype(np.float32)
    expected = np.array([math.erf(v) for v in x.tolist()])
    assert np.abs(erf(x) - expected).max() <= 5e-7


@pytest.mark.parametrize(("tensor", "layer"), [
    ("wte.weight", 0),
    ("h.0.mlp.c_fc.weight", 1),
    ("h.0.attn.c_attn.weight", 1),
    ("h.1.mlp.c_proj.weight", 2),
    ("ln_f.weight", 3),
])  # fmt: skip
def test_first_bad_layer_is_the_one_with_the_bad_weight(tensor: str, layer: int) -> None:
    config = toy_config()
    weights = toy_weights(config)
    weights[tensor] = weights[tensor] * np.float32(np.nan)
    assert Session(NumpyGPT2(config, weights)).first_bad_layer(ids_for(config, 6)) == layer


def test_a_residual_switch_that_does_nothing_would_be_seen() -> None:
    ids = ids_for(toy_config(), 9)
    rows = [whole(engine(**switches), ids)[-1] for switches in SWITCHES]
    for i, row in enumerate(rows):
        assert all(np.abs(row - other).max() > 1e-2 for other in rows[:i])
