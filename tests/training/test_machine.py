"""Counting operations by hand; choosing a type that the machine has."""

import pytest
import torch

from manako.errors import UsageError
from manako.families.gpt2 import ModelConfig
from manako.training import machine


def test_operations_of_a_token_by_hand() -> None:
    """Per layer 3 + 1 + 4 + 4 squares of the width; the output matrix; 12 L d T for attention."""
    config = ModelConfig(n_layer=2, n_head=1, n_embd=8, block_size=16, vocab_size=100)
    assert machine.flops_per_token(config) == 6 * (2 * 12 * 64 + 100 * 8) + 12 * 2 * 8 * 16
    without = ModelConfig(n_layer=2, n_head=1, n_embd=8, block_size=16, vocab_size=100, attention=False)
    assert machine.flops_per_token(without) == 6 * (2 * 8 * 64 + 100 * 8)


@pytest.mark.parametrize(
    "able, asked, expected, why",
    [
        (True, "auto", torch.bfloat16, "train.dtype_bfloat16"),
        (False, "auto", torch.float32, "train.dtype_float32"),
        (True, "float32", torch.float32, "train.dtype_asked"),
        (True, "bfloat16", torch.bfloat16, "train.dtype_bfloat16"),
    ],
)
def test_the_type_follows_the_machine(
    monkeypatch: pytest.MonkeyPatch, able: bool, asked: str, expected: torch.dtype, why: str
) -> None:
    monkeypatch.setattr(machine, "_cpu_has_bfloat16", lambda: able)
    assert machine.choose_dtype(asked, "cpu") == (expected, why)


def test_bfloat16_is_refused_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_has_bfloat16", lambda: False)
    with pytest.raises(UsageError) as caught:
        machine.choose_dtype("bfloat16", "cpu")
    assert caught.value.key == "train_bfloat16"


def test_the_rate_and_the_memory_are_measured() -> None:
    assert machine.product_rate("cpu", torch.float32) > 1e6 and machine.peak_memory() > 1 << 20
