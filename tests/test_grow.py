"""scripts/grow.py: a larger model begins with what a smaller one computes."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from manako.model import Model
from manako.tokenizer import train_characters
from tests.support.toy import toy_checkpoint

SCRIPT = Path(__file__).parents[1] / "scripts" / "grow.py"
grown = runpy.run_path(str(SCRIPT))["grown"]
LARGER: dict[str, Any] = {"n_layer": 3, "n_head": 3, "n_embd": 18, "block_size": 24}


def logits(model: Model) -> npt.NDArray[np.float32]:
    return model.engine.forward(range(257, 271), model.engine.new_cache(), last_only=False)


def test_the_larger_model_gives_the_smaller_ones_logits() -> None:
    old, new = toy_checkpoint(), toy_checkpoint(seed=1, **LARGER)
    weights = grown(old, new, np.random.default_rng(0))
    assert {n: w.shape for n, w in weights.items()} == {n: w.shape for n, w in new.tensors.items()}
    before, after = (logits(Model("toy", each)) for each in (old, replace(new, tensors=weights)))
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert np.abs(logits(Model("toy", new)) - before).max() > 1


def test_tokens_that_both_vocabularies_have_keep_their_rows() -> None:
    old, tokenizer = toy_checkpoint(), train_characters(["xyz猫"], min_count=1)
    weights = grown(old, toy_checkpoint(tokenizer, **LARGER), np.random.default_rng(0))
    [cat] = tokenizer.encode("猫")
    np.testing.assert_allclose(
        weights["wte.weight"][cat, :12], old.tensors["wte.weight"][old.tokenizer.encode("猫")[0]]
    )


def test_heads_of_another_size_are_refused() -> None:
    with pytest.raises(SystemExit, match="heads"):
        grown(toy_checkpoint(), toy_checkpoint(n_head=3, n_embd=12), np.random.default_rng(0))
