"""Parts switched off (N9): an edit of weights against the same pass with the part's output changed on its way."""

from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import same_tensors, toy_config, toy_model, worst

import manako
from manako.analysis.verification import verify
from manako.engines.ablation import Ablation, ablated
from manako.errors import CapabilityError, UsageError
from manako.families.activations import Activations
from manako.families.gpt2 import NumpyGPT2
from manako.model import Model
from manako.trace.schema import CAPTURES

PROMPT = "私猫犬。"
HEADS, LAYERS = 3, 3
PARTS = [f"head:{i}.{h}" for i in range(LAYERS) for h in range(HEADS)]
PARTS += [f"{kind}:{i}" for kind in ("mlp", "layer") for i in range(LAYERS)]
Change = Callable[[str, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(start_id=None, n_layer=LAYERS, n_head=HEADS, n_embd=15)


@pytest.fixture(scope="module")
def ids(model: Model) -> list[int]:
    return np.random.default_rng(2).integers(0, model.config.vocab_size, 11).tolist()


def rows(engine: NumpyGPT2, ids: Sequence[int], keep: Activations | None = None) -> np.ndarray:
    return engine.forward(ids, engine.new_cache(), last_only=False, keep=keep)


def with_linear(monkeypatch: pytest.MonkeyPatch, engine: NumpyGPT2, ids: Sequence[int], change: Change) -> np.ndarray:
    """Logits of a pass in which what goes into a matrix and comes out of it is changed, by the matrix's name."""

    def linear(self: NumpyGPT2, name: str, x: np.ndarray) -> np.ndarray:
        y = change(f"into {name}", x) @ self.weights[name + ".weight"] + self.weights[name + ".bias"]
        return change(f"out of {name}", y)

    with monkeypatch.context() as patch:
        patch.setattr(NumpyGPT2, "linear", linear)
        return rows(engine, ids)


def switched_off(engine: NumpyGPT2, text: str, prompt: Sequence[int]) -> Change:
    """What an ablation means, said of the numbers on their way instead of the weights."""
    one, keep = Ablation.parse(text), Activations()
    rows(engine, prompt, keep)
    i, size = one.layer, engine.config.n_embd // engine.config.n_head
    heads = keep.z[i].reshape(len(prompt), -1).mean(axis=0)  # [C] what the heads read, on average
    attn_out = keep.z[i].reshape(len(prompt), -1) @ engine.output_weight(i) + engine.output_bias(i)

    def change(place: str, x: np.ndarray) -> np.ndarray:
        if one.kind == "head" and place == f"into h.{i}.attn.c_proj":
            assert one.head is not None
            part = slice(one.head * size, (one.head + 1) * size)
            x = x.copy()
            x[:, part] = heads[part] if one.mean else 0
        if one.kind != "head" and place == f"out of h.{i}.mlp.c_proj":
            return np.broadcast_to(keep.mlp_out[i].mean(axis=0) if one.mean else np.float32(0), x.shape)
        if one.kind == "layer" and place == f"out of h.{i}.attn.c_proj":
            return np.broadcast_to(attn_out.mean(axis=0) if one.mean else np.float32(0), x.shape)
        return x

    return change


# --- N9 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", ["", "=zero", "=mean"])
@pytest.mark.parametrize("part", PARTS)
def test_an_ablation_is_the_part_changed_on_its_way(
    model: Model, ids: list[int], part: str, mean: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = with_linear(monkeypatch, model.engine, ids, switched_off(model.engine, part + mean, ids[:6]))
    found = rows(ablated(model.engine, [Ablation.parse(part + mean)], ids[:6]), ids)
    assert worst(found, expected) <= 1e-5 and np.abs(found - rows(model.engine, ids)).max() > 1e-2
    last = part.startswith(f"head:{LAYERS - 1}")
    assert not last or worst(found, expected) <= 2e-6  # nothing behind it to carry a rounding on


@pytest.mark.parametrize("part", PARTS[: LAYERS * HEADS])
def test_a_head_is_off_when_its_rows_of_c_proj_are_zero(model: Model, ids: list[int], part: str) -> None:
    i, h = map(int, part.removeprefix("head:").split("."))
    weights = {n: t.copy() for n, t in model.engine.weights.items()}
    weights[f"h.{i}.attn.c_proj.weight"][h * 5 : (h + 1) * 5] = 0
    expected = rows(NumpyGPT2(model.config, weights), ids)
    assert rows(ablated(model.engine, [Ablation.parse(part)], ids), ids).tobytes() == expected.tobytes()


@pytest.mark.parametrize("i", range(LAYERS))
def test_a_layer_is_off_when_its_block_is_skipped(model: Model, ids: list[int], i: int) -> None:
    engine, keep = ablated(model.engine, [Ablation("layer", i, None, False)], ids), Activations()
    found = rows(engine, ids, keep)
    stream = keep.residual()
    assert stream[i + 1].tobytes() == stream[i].tobytes()
    x, cache = (
        model.engine.weights["wte.weight"][ids] + model.engine.weights["wpe.weight"][: len(ids)],
        engine.new_cache(),
    )
    for layer in range(LAYERS):
        x = x if layer == i else model.engine.block(layer, x, cache, len(ids))
    assert found.tobytes() == model.engine.unembed(x).tobytes()


def test_a_part_patched_with_itself_changes_no_bit(model: Model, ids: list[int]) -> None:
    engine, expected = model.engine, rows(model.engine, ids)
    for i in range(LAYERS):
        bias = engine.output_bias(i)
        assert bias is not None
        assert rows(engine.with_output(i, engine.output_weight(i), bias), ids).tobytes() == expected.tobytes()
    one, keep = ids[:1], Activations()
    expected = rows(engine, one, keep)
    for i in range(LAYERS):
        assert rows(engine.with_constant_mlp(i, keep.mlp_out[i][0]), one).tobytes() == expected.tobytes()


@pytest.mark.parametrize("part", PARTS)
def test_of_one_token_the_mean_is_the_value_itself(model: Model, ids: list[int], part: str) -> None:
    for dtype, limit in (("float32", 5e-6), ("float64", 1e-12)):  # summed in another order
        engine = NumpyGPT2(model.config, {n: t.astype(dtype) for n, t in model.engine.weights.items()})
        found = rows(ablated(engine, [Ablation.parse(part + "=mean")], ids[:1]), ids[:1])
        assert found.dtype == dtype and worst(found, rows(engine, ids[:1])) <= limit


@pytest.mark.parametrize(
    "parts",
    [("head:0.1", "mlp:1"), ("head:0.0=mean", "head:0.2", "layer:2"), tuple(PARTS[:9]), ("mlp:0=mean", "mlp:2")],
    ids=str,
)
def test_several_together_in_any_order(
    model: Model, ids: list[int], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [switched_off(model.engine, part, ids) for part in parts]  # every mean is taken of the whole model

    def all_of(place: str, x: np.ndarray) -> np.ndarray:
        for change in changes:
            x = change(place, x)
        return x

    expected = with_linear(monkeypatch, model.engine, ids, all_of)
    for order in (parts, parts[::-1]):
        assert worst(rows(ablated(model.engine, list(map(Ablation.parse, order)), ids), ids), expected) <= 1e-5


def test_a_mean_is_taken_over_the_last_context_of_a_long_prompt(model: Model) -> None:
    long = np.random.default_rng(4).integers(0, 270, 40).tolist()
    one = [Ablation.parse("mlp:1=mean")]
    found = rows(ablated(model.engine, one, long), long[:9])
    assert found.tobytes() == rows(ablated(model.engine, one, long[-16:]), long[:9]).tobytes()


def test_the_model_itself_is_left_as_it_was(model: Model, ids: list[int]) -> None:
    before = {n: t.copy() for n, t in model.engine.weights.items()}
    for parts in (PARTS, [f"{p}=mean" for p in PARTS]):
        ablated(model.engine, list(map(Ablation.parse, parts)), ids)
    assert same_tensors(before, model.engine.weights)


# --- in a run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ablate",
    [("head:1.2",), ("mlp:0=mean", "head:2.0=mean"), ("layer:1",), tuple(f"layer:{i}" for i in range(LAYERS))],
    ids=str,
)
def test_an_ablated_run_is_on_record_and_its_self_checks_hold(
    model: Model, ablate: tuple[str, ...], tmp_path: Any
) -> None:
    trace = model.trace(PROMPT, max_new_tokens=20, seed=3, capture=CAPTURES, ablate=ablate)  # past the context
    assert trace.header.ablate == ablate and len(trace.header.self_checks) == 5
    assert all(check.ok for check in trace.header.self_checks)
    trace.save(tmp_path / "t.manako")
    opened = manako.open(tmp_path / "t.manako")
    assert opened.header.ablate == ablate and verify(opened).ok
    engine = ablated(model.engine, list(map(Ablation.parse, ablate)), trace.columns.prompt_ids.tolist())
    for i in (0, 5, 19):
        seen = trace.all_ids[trace.columns.window_start[i] : 4 + i].tolist()
        assert worst(rows(engine, seen)[-1], trace.logits[i]) <= 1e-5
    assert trace.logits.tobytes() != model.trace(PROMPT, max_new_tokens=20, seed=3).logits.tobytes()
    score = model.score(PROMPT * 6, capture=CAPTURES, ablate=ablate)
    assert score.header.ablate == ablate and verify(score).ok and all(c.ok for c in score.header.self_checks)


def test_what_is_off_contributes_nothing(model: Model) -> None:
    trace = model.trace(PROMPT, max_new_tokens=5, seed=3, capture=("contributions",), ablate=["head:1.2", "layer:0"])
    value = dict(zip(trace.header.parts, trace.contributions.value.transpose(1, 0, 2), strict=True))
    off = {name for name, numbers in value.items() if not numbers.any()}
    assert off == {"head:1.2", "head:0.0", "head:0.1", "head:0.2", "attn_bias:0", "mlp:0"}


# --- refusals ---------------------------------------------------------------------------------------------------------

WRONG = ["", "head", "head:1", "head:1.", "head:.1", "mlp:1.0", "layer:", "layer:-1", "mlp:1=max", "mlp:1=", "HEAD:0.0"]
WRONG += [
    "head:0.0=mean=mean",
    "mlp:99999",
    "head:0.0\n.",
    "mlp:１",
    "mlp:0x1",
    "head:0,0",
    "mlp: 1",
    "neuron:1",
    "mlp:\x1b[2J",
]


@pytest.mark.parametrize("text", WRONG, ids=ascii)
def test_another_form_is_refused(model: Model, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        model.generate(PROMPT, ablate=[text])
    assert caught.value.key == "ablate_form" and caught.value.exit_code == 2
    assert "head:3.5" in str(caught.value)


@pytest.mark.parametrize("text", ["head:0.3", "head:3.0", "mlp:3", "layer:3", "head:9999.9999", "layer:9999=mean"])
def test_a_part_that_the_model_does_not_have_is_refused_before_the_first_step(model: Model, text: str) -> None:
    for call in (model.generate, model.score):
        with pytest.raises(UsageError) as caught:
            call(PROMPT, ablate=[text])
        assert caught.value.key == "ablate_range" and text in str(caught.value)
        assert caught.value.values["layers"] == caught.value.values["heads"] == "3"


def test_a_part_named_twice_is_refused(model: Model) -> None:
    """As zero and as mean it would depend on the order."""
    with pytest.raises(UsageError) as caught:
        model.generate(PROMPT, ablate=["head:0.1", "mlp:1", "head:0.1=mean"])
    assert caught.value.key == "ablate_twice"


def test_a_model_without_attention_has_no_heads_to_switch_off() -> None:
    blind = toy_model(start_id=None, attention=False)
    with pytest.raises(UsageError):
        blind.generate(PROMPT, ablate=["head:0.0"])
    trace = blind.trace(PROMPT, max_new_tokens=3, seed=0, capture=blind.captures, ablate=["layer:0", "mlp:1=mean"])
    assert verify(trace).ok


def test_an_engine_that_cannot_be_edited_says_so() -> None:
    class Sealed:
        config = toy_config()
        lacks: ClassVar = {"ablation": "lacks.hf_ablation"}

    with pytest.raises(CapabilityError) as caught:
        ablated(Sealed(), [Ablation.parse("mlp:0")], [1])  # type: ignore[type-var]
    assert caught.value.key == "ablate_engine" and caught.value.exit_code == 4
    assert "cannot be ablated: only the NumPy engine" in str(caught.value)


@given(
    st.sampled_from(["head", "mlp", "layer"]), st.integers(0, 9999), st.integers(0, 9999), st.booleans(), st.booleans()
)
def test_what_is_said_is_read_back(kind: str, layer: int, head: int, mean: bool, spaces: bool) -> None:
    one = Ablation(kind, layer, head if kind == "head" else None, mean)
    assert Ablation.parse(f"  {one}\n" if spaces else str(one)) == one
    with pytest.raises(FrozenInstanceError):
        one.layer = 1  # type: ignore[misc]
