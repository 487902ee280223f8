"""Toy models with random weights: small enough for any test, odd enough to find a wrong shape.

Special here: weights are larger than a real initialisation, so that attention is far from uniform, every bias and norm
counts, and a swapped or dropped part changes the logits by much more than a tolerance.
"""

import random
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.families.gpt2 import ModelConfig
from manako.formats.model_folder import Checkpoint, read_checkpoint, write_checkpoint
from manako.model import Model
from manako.tokenizer import Tokenizer, start_id_of, train_characters

CHARACTERS = "あいうえおかきくけこ、。私猫犬abc \n"
Weights = dict[str, npt.NDArray[Any]]


@cache
def toy_tokenizer() -> Tokenizer:
    """A character vocabulary with byte fallback: 1 start token, 256 bytes, 19 characters; trained once."""
    return train_characters([CHARACTERS], min_count=1)


def toy_config(tokenizer: Tokenizer | None = None, **changes: Any) -> ModelConfig:
    """2 layers, 2 heads, width 12, context 16, for the toy tokenizer; any of it may be changed."""
    tokenizer = tokenizer or toy_tokenizer()
    base = ModelConfig(
        n_layer=2,
        n_head=2,
        n_embd=12,
        block_size=16,
        vocab_size=tokenizer.vocab_size,
        start_id=start_id_of(tokenizer),
    )
    config = replace(base, **changes)
    return config if config.start_id is None or "end_ids" in changes else replace(config, end_ids=(config.start_id,))


def toy_weights(config: ModelConfig, seed: int = 0, dtype: npt.DTypeLike = np.float32) -> Weights:
    """Random weights of every tensor: norms around 1, all else around 0."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in config.parameters().items():
        size = 0.6 if name.startswith(("wte", "wpe")) else 0.1 if name.endswith("bias") else 1.2 / np.sqrt(shape[0])
        tensor = rng.normal(0, size, shape)
        is_gain = "ln_" in name and name.endswith("weight")
        weights[name] = (tensor * 0.3 + 1 if is_gain else tensor).astype(dtype)
    return weights


def toy_checkpoint(tokenizer: Tokenizer | None = None, seed: int = 0, **changes: Any) -> Checkpoint:
    """A checkpoint in memory, with no folder behind it."""
    tokenizer = tokenizer or toy_tokenizer()
    config = toy_config(tokenizer, **changes)
    return Checkpoint(
        config=config,
        tensors=toy_weights(config, seed),
        tokenizer=tokenizer,
        fingerprint="0" * 64,
        stored_dtype="float32",
    )


def toy_model(tokenizer: Tokenizer | None = None, seed: int = 0, **changes: Any) -> Model:
    """A model in memory, ready to generate and to score."""
    return Model("toy", toy_checkpoint(tokenizer, seed, **changes))


def louder(made: Checkpoint, times: float) -> Checkpoint:
    """The same with logits so many times as far from 0."""
    final = {f"ln_f.{name}": made.tensors[f"ln_f.{name}"] * np.float32(times) for name in ("weight", "bias")}
    return replace(made, tensors={**made.tensors, **final})


def write_toy(folder: Path, tokenizer: Tokenizer | None = None, seed: int = 0, **changes: Any) -> Checkpoint:
    """A model folder, written and read back."""
    made = toy_checkpoint(tokenizer, seed, **changes)
    write_checkpoint(folder, made.config, made.tensors, made.tokenizer)
    return read_checkpoint(folder)


def close(ours: npt.ArrayLike, theirs: npt.ArrayLike, tolerance: float) -> bool:
    """Whether every number lies within `tolerance`, absolutely or relatively."""
    return bool(np.allclose(ours, theirs, rtol=tolerance, atol=tolerance))


def worst(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    """The largest difference, each taken absolutely or relatively, whichever is smaller."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    return float((np.abs(a - b) / np.maximum(1, np.abs(b))).max())


def worst_of_row(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    """The largest difference relative to the largest logit, as the record's self-check has it.

    Without the residual stream float32 loses a digit more than with it, in small logits first.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))


def same_tensors(a: Mapping[str, npt.NDArray[Any]], b: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether two sets of tensors have the same names, dtypes, shapes and bits."""
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )


@cache
def unicode_blocks() -> tuple[int, ...]:
    """The start of every run of 128 code points that has a character in it, surrogates left out."""
    runs = (r for r in range(0, 0x110000, 128) if not 0xD800 <= r < 0xE000)
    return tuple(r for r in runs if any(unicodedata.category(chr(r + i)) != "Cn" for i in range(128)))


def random_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Texts over all blocks of Unicode: the n-th one has characters of the n-th block, often mixed with others."""
    rng, blocks = random.Random(seed), unicode_blocks()
    for n in range(count):
        chosen = [blocks[n % len(blocks)], *rng.choices(blocks, k=rng.randrange(3)), *[0, 0x3000] * rng.randrange(2)]
        yield "".join(chr(rng.choice(chosen) + rng.randrange(128)) for _ in range(rng.randrange(1, 40)))
