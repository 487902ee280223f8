"""N10: the torch model that is trained against the NumPy engine that is watched, with every ablation switch."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_config, toy_weights, worst, worst_of_row

from manako.families.gpt2 import ModelConfig, NumpyGPT2
from manako.training.model import GPT

SWITCHES = [
    {"residual": residual, "norm": norm, "attention": attention}
    for residual, norm, attention in itertools.product([True, False], ["pre", "post"], [True, False])
]


def torch_model(config: ModelConfig, dtype: str = "float32", seed: int = 0) -> tuple[GPT, dict[str, Any]]:
    """A GPT with the toy weights, and these weights."""
    weights, model = toy_weights(config, seed, dtype), GPT(config).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.from_numpy(t.copy()) for name, t in weights.items()}, strict=True)
    return model, weights


@torch.no_grad()
def rows_of(model: GPT, ids: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(ids)[None])[0].numpy()


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
def test_numpy_and_torch_agree(switches: dict[str, Any], tied: bool, activation: str) -> None:
    config = toy_config(n_layer=3, n_embd=10, tie_word_embeddings=tied, activation_function=activation, **switches)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, config.block_size)
    for dtype, limit in (("float32", 1e-5), ("float64", 1e-12)):
        model, weights = torch_model(config, dtype)
        engine = NumpyGPT2(config, weights)
        expected = rows_of(model, ids)
        for length in (1, 2, 9, config.block_size):
            ours = engine.forward(ids[:length], engine.new_cache(), last_only=False)
            difference = worst if switches["residual"] else worst_of_row
            assert difference(ours, expected[:length]) <= limit


def test_each_switch_matters_in_torch_too() -> None:
    ids = np.arange(12)
    rows = [rows_of(torch_model(toy_config(**switches))[0], ids)[-1] for switches in SWITCHES]
    for i, row in enumerate(rows):
        assert all(np.abs(row - other).max() > 1e-2 for other in rows[:i])


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
def test_gradients_are_those_of_the_loss(switches: dict[str, Any]) -> None:
    config = toy_config(n_layer=1, n_embd=4, n_head=2, block_size=4, vocab_size=7, start_id=None, **switches)
    model, _ = torch_model(config, "float64")
    ids, targets = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 6]])
    parameters = dict(model.named_parameters())

    def loss(*values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(parameters, values, strict=True))
        rows = torch.func.functional_call(model, named, (ids,))
        return torch.nn.functional.cross_entropy(rows.flatten(0, 1), targets.flatten())

    assert torch.autograd.gradcheck(loss, tuple(parameters.values()), eps=1e-6, atol=1e-6)


def test_the_loss_is_the_mean_over_all_targets() -> None:
    config = toy_config()
    model, weights = torch_model(config, "float64")
    engine, rng = NumpyGPT2(config, weights), np.random.default_rng(1)
    ids = rng.integers(0, config.vocab_size, (3, config.block_size + 1))
    expected = []
    for row in ids:
        logits = engine.forward(row[:-1], engine.new_cache(), last_only=False)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected += [-log_p[i, target] for i, target in enumerate(row[1:])]
    found = model.loss(torch.from_numpy(ids[:, :-1]), torch.from_numpy(ids[:, 1:])).item()
    assert found == pytest.approx(np.mean(expected), rel=1e-12)


def test_parameters_have_the_names_and_shapes_of_a_model_folder() -> None:
    for switches, tied in itertools.product(SWITCHES, [True, False]):
        config = toy_config(tie_word_embeddings=tied, n_inner=7, **switches)
        named = {name: tuple(p.shape) for name, p in GPT(config).named_parameters()}
        assert named == config.parameters()


def test_initial_weights_are_those_of_gpt2() -> None:
    torch.manual_seed(0)
    model = GPT(toy_config(n_layer=8, n_embd=64, n_head=4))
    spread = {name: p.std().item() for name, p in model.named_parameters() if p.dim() == 2}
    for name, std in spread.items():
        expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02  # 0.02 / sqrt(2 n_layer)
        assert std == pytest.approx(expected, rel=0.1), name
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))
    assert all((p == 1).all() for name, p in model.named_parameters() if "ln_" in name and name.endswith("weight"))
