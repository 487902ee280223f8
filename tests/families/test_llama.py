"""The Llama forward pass against itself: cached and whole, to the context border (N6); what it leaves behind (N7)."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import worst_of_row
from toy_llama import toy_llama_config, toy_llama_weights

from manako.engines.session import Session
from manako.families.activations import Activations
from manako.families.attention import QUERY_BLOCK
from manako.families.llama import LlamaConfig, NumpyLlama
from manako.families.rope import Rope

KINDS: list[dict[str, object]] = [
    {},
    {"n_kv_head": 4},
    {"n_kv_head": 1, "attention_bias": True},
    {"tie_word_embeddings": True, "mlp_bias": True, "output_bias": True},
    {"rope": Rope("yarn", factor=4.0, original_context=8, attention_factor=1.2)},
]


def engine(seed: int = 0, dtype: str = "float32", **changes: object) -> NumpyLlama:
    config = toy_llama_config(**changes)
    return NumpyLlama(config, toy_llama_weights(config, seed, dtype))


def ids_for(config: LlamaConfig, length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, length).tolist()


def whole(model: NumpyLlama, ids: Sequence[int]) -> np.ndarray:
    return model.forward(ids, model.new_cache(), last_only=False)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_token_by_token_equals_whole(kind: dict[str, object]) -> None:
    model = engine(**kind)
    ids = ids_for(model.config, model.config.block_size)
    expected, cache = whole(model, ids), model.new_cache()  # [T, V]
    for i, token_id in enumerate(ids):
        row = model.forward([token_id], cache)
        assert row.shape == (1, model.config.vocab_size)
        assert worst_of_row(row[0], expected[i]) <= 1e-5 and row[0].argmax() == expected[i].argmax()
    assert cache.length == len(ids)


@given(st.lists(st.integers(1, 16), min_size=1, max_size=6), st.booleans(), st.integers(0, 4))
def test_any_division_into_pieces_gives_the_same_rows(pieces: list[int], last_only: bool, kind: int) -> None:
    model = engine(**KINDS[kind])
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


@pytest.mark.slow
def test_a_cache_that_has_grown_holds_the_same_keys() -> None:
    model = engine(n_layer=1, block_size=1500)
    ids, cache = ids_for(model.config, 1500), model.new_cache()
    rooms = {cache.k.shape[2]}
    for start in (0, 200, 300, 301, 700, 1400, 1499):
        stop = {0: 200, 200: 300, 300: 301, 301: 700, 700: 1400, 1400: 1499, 1499: 1500}[start]
        row = model.forward(ids[start:stop], cache)
        rooms.add(cache.k.shape[2])
        assert worst_of_row(row, whole(model, ids[:stop])[-1:]) <= 1e-5
    assert rooms == {256, 512, 1024, 1500}


def test_a_long_context_takes_no_memory_before_it_is_used() -> None:
    model = engine(block_size=131_072)
    cache = model.new_cache()
    model.forward([1, 2, 3], cache)
    assert cache.k.nbytes + cache.v.nbytes < 200_000
    assert cache.k[0, 0].flags.c_contiguous


def test_positions_matter_only_by_their_distance() -> None:
    """The law of rotary positions: the same keys and queries, all moved, give the same rows."""
    model = engine(dtype="float64", block_size=2000)
    ids = ids_for(model.config, 9)
    moved = engine(dtype="float64", block_size=2000)
    rotation = moved.rotation
    moved.rotation = lambda first, count: rotation(first + 1000, count)  # type: ignore[method-assign]
    assert worst_of_row(whole(moved, ids), whole(model, ids)) <= 1e-11
    moved.rotation = lambda first, count: rotation(0, 1)  # type: ignore[method-assign]
    assert worst_of_row(whole(moved, ids), whole(model, ids)) > 1e-2  # a negative control: no positions at all


# --- N7, N8: what it leaves behind ------------------------------------------------------------------------------------


def kept(model: NumpyLlama, ids: Sequence[int], cached: int = 0, last_only: bool = True, **wanted: bool) -> Activations:
    """What the pass over ids[cached:] leaves behind."""
    cache, keep = model.new_cache(), Activations(**wanted)
    if cached:
        model.forward(ids[:cached], cache)
    model.forward(ids[cached:], cache, last_only=last_only, keep=keep)
    return keep


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("length", "cached"), [(16, 0), (16, 5), (6, 5), (1, 0)])
@pytest.mark.parametrize("last_only", [True, False])
def test_attention_rows(kind: dict[str, object], length: int, cached: int, last_only: bool) -> None:
    model = engine(**kind)
    c, ids, T = model.config, ids_for(model.config, length), length - cached
    keep = kept(model, ids, cached, last_only, attention=True)
    every = kept(model, ids, last_only=False, attention=True)
    for pattern, expected in zip(keep.pattern, every.pattern, strict=True):
        assert pattern.shape == (c.n_head, T, length) and pattern.dtype == np.float32
        assert np.abs(pattern.sum(axis=-1, dtype=np.float64) - 1).max() <= 1e-6
        assert (pattern[:, ~np.tri(T, length, cached, dtype=bool)] == 0).all()
        assert np.abs(pattern - expected[:, cached:]).max() <= 1e-6
    last = kept(model, ids, cached, last_only, attention=True, last_attention=True)
    R = 1 if last_only else T
    assert all(np.array_equal(a, b[:, -R:]) for a, b in zip(last.pattern, keep.pattern, strict=True))


@pytest.mark.parametrize("length", [3, QUERY_BLOCK, 2 * QUERY_BLOCK + 5])
def test_attention_rows_recomputed_from_q_and_k(length: int) -> None:
    """One head after another, with complex numbers for the turning: nothing of the engine's code."""
    model = engine(dtype="float64", block_size=200, n_kv_head=2, attention_bias=True)
    c, ids = model.config, ids_for(model.config, length)
    keep = kept(model, ids, attention=True)
    weights = toy_llama_weights(c, 0, "float64")
    x = weights["embed_tokens.weight"][ids]
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + c.rms_norm_epsilon)
    x = x * weights["layers.0.input_layernorm.weight"]
    turn = np.exp(1j * np.outer(np.arange(length), c.rope.theta ** (-np.arange(0, c.head_size, 2) / c.head_size)))

    def head(name: str, h: int) -> np.ndarray:
        rows = slice(h * c.head_size, (h + 1) * c.head_size)
        found = (
            x @ weights[f"layers.0.self_attn.{name}.weight"][rows].T + weights[f"layers.0.self_attn.{name}.bias"][rows]
        )
        return (found[:, : c.head_size // 2] + 1j * found[:, c.head_size // 2 :]) * turn

    for h in range(c.n_head):
        q, k = head("q_proj", h), head("k_proj", h // 2)
        scores = (q @ k.conj().T).real / math.sqrt(c.head_size)
        weight = np.where(np.tri(length, dtype=bool), np.exp(scores - scores.max()), 0)
        assert np.abs(keep.pattern[0][h] - weight / weight.sum(axis=1, keepdims=True)).max() <= 1e-12


def test_negative_control_attention_is_far_from_uniform() -> None:
    pattern = kept(engine(), ids_for(toy_llama_config(), 16), attention=True).pattern
    assert all(np.abs(p[:, -1] - 1 / 16).max() > 0.1 for p in pattern)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("wanted", [{}, {"attention": True}, {"attention": True, "last_attention": True}], ids=str)
@pytest.mark.parametrize("last_only", [True, False])
def test_what_is_kept_changes_no_bit(kind: dict[str, object], wanted: dict[str, bool], last_only: bool) -> None:
    model = engine(block_size=2 * QUERY_BLOCK, **kind)
    ids = ids_for(model.config, 2 * QUERY_BLOCK)
    plain, watched = model.new_cache(), model.new_cache()
    for piece in (ids[:100], ids[100:101], ids[101:127], ids[127:]):
        expected = model.forward(piece, plain, last_only)
        keep = Activations(**wanted)
        assert np.array_equal(model.forward(piece, watched, last_only, keep), expected)
        R = 1 if last_only else len(piece)
        assert [len(a) for a in keep.embed] == [R]
        for each in (keep.z, keep.mlp_out, keep.resid_post, keep.residual()[1:]):
            assert len(each) == 2 and all(len(a) == R for a in each)
    assert np.array_equal(plain.k[:, :, :128], watched.k[:, :, :128])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("last_only", [True, False])
def test_the_parts_sum_to_the_stream_and_the_last_row_to_the_logits(kind: dict[str, object], last_only: bool) -> None:
    model = engine(dtype="float64", **kind)
    ids, keep = ids_for(model.config, 11), Activations()
    logits = model.forward(ids, model.new_cache(), last_only, keep)
    stream = keep.residual()  # [n_layer + 1, R, C]
    for i in range(model.config.n_layer):
        z = keep.z[i].reshape(len(stream[i]), -1)
        bias = model.output_bias(i)
        added = z @ model.output_weight(i) + (0 if bias is None else bias) + keep.mlp_out[i]
        assert np.abs(stream[i] + added - stream[i + 1]).max() <= 1e-12
    assert np.array_equal(model.unembed(stream[-1]), logits)
    assert np.array_equal(model.readout.logits(stream[-1]), logits)
    last = len(stream[-1]) - 1
    direct = model.readout.scale(stream[-1])[last] * model.readout.directions(np.arange(20)) @ stream[-1][last]
    assert np.abs(direct + model.readout.constant(np.arange(20)) - logits[last, :20]).max() <= 1e-12


# --- parts, dtypes, weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]], ids=str)
def test_another_output_matrix_and_a_constant_mlp_are_what_the_pass_uses(kind: dict[str, object]) -> None:
    model = engine(**kind)
    before, ids = whole(model, ids := ids_for(model.config, 9)), ids
    out = np.linspace(-1, 1, model.config.n_embd, dtype=np.float32)
    changed = model.with_constant_mlp(1, out).with_output(0, np.zeros_like(model.output_weight(0)), out)
    keep = Activations()
    changed.forward(ids, changed.new_cache(), last_only=False, keep=keep)
    stream = keep.residual()
    assert np.array_equal(keep.mlp_out[1], np.broadcast_to(out, keep.mlp_out[1].shape))
    assert np.allclose(stream[1], stream[0] + out + keep.mlp_out[0], atol=1e-6)
    assert np.array_equal(whole(model, ids), before)
    same = model.with_output(
        0, model.output_weight(0), out * 0 if model.output_bias(0) is None else model.output_bias(0)
    )
    assert np.array_equal(whole(same, ids), before)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_input_weights_are_not_changed(kind: dict[str, object]) -> None:
    config = toy_llama_config(**kind)
    weights = toy_llama_weights(config)
    before = {name: t.copy() for name, t in weights.items()}
    for t in weights.values():
        t.setflags(write=False)
    whole(NumpyLlama(config, weights), ids_for(config, 16))
    assert all(np.array_equal(weights[n], before[n]) for n in before)


def test_no_weight_is_held_twice() -> None:
    config = toy_llama_config(attention_bias=True, mlp_bias=True)
    weights = toy_llama_weights(config)
    held = NumpyLlama(config, weights).weights
    assert sum(t.size for t in held.values()) == sum(t.size for t in weights.values())
    assert not any("q_proj" in name or "up_proj.w" in name and "gate" not in name for name in held)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_computes_in_the_dtype_of_its_weights(dtype: str, kind: dict[str, object]) -> None:
    model, keep = engine(dtype=dtype, **kind), Activations(attention=True)
    logits = model.forward(ids_for(model.config, 5), model.new_cache(), keep=keep)
    for array in (logits, *keep.embed, *keep.pattern, *keep.z, *keep.mlp_out, *keep.resid_post):
        assert array.dtype == dtype


def test_large_numbers_in_the_gate_overflow_to_nothing() -> None:
    """silu(-1000) is -0 and silu(1000) is 1000; exp of either is past float32, and no warning may show."""
    config = toy_llama_config()
    weights = toy_llama_weights(config)
    weights["layers.0.mlp.gate_proj.weight"] *= 1000
    assert np.isfinite(whole(NumpyLlama(config, weights), ids_for(config, 16))).all()


@pytest.mark.parametrize(("tensor", "layer"), [
    ("embed_tokens.weight", 0),
    ("layers.0.mlp.up_proj.weight", 1),
    ("layers.0.self_attn.k_proj.weight", 1),
    ("layers.1.mlp.down_proj.weight", 2),
    ("norm.weight", 3),
])  # fmt: skip
def test_first_bad_layer_is_the_one_with_the_bad_weight(tensor: str, layer: int) -> None:
    config = toy_llama_config()
    weights = toy_llama_weights(config)
    weights[tensor] = weights[tensor] * np.float32(np.nan)
    assert Session(NumpyLlama(config, weights)).first_bad_layer(ids_for(config, 6)) == layer


def test_every_switch_of_the_shape_changes_the_numbers() -> None:
    ids = ids_for(toy_llama_config(), 9)
    rows = [whole(engine(**kind), ids)[-1] for kind in KINDS]
    for i, row in enumerate(rows):
        assert all(np.abs(row - other).max() > 1e-2 for other in rows[:i])
