"""Toy Llama models with random weights, in the manner of toy.py: small, odd, and far from uniform attention."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from toy import Weights, toy_tokenizer

from manako.families.llama import LlamaConfig


def toy_llama_config(**changes: Any) -> LlamaConfig:
    """2 layers, 4 heads over 2 of keys, width 12, heads of 6, context 16, for the toy tokenizer."""
    base = LlamaConfig(
        n_layer=2,
        n_head=4,
        n_kv_head=2,
        n_embd=12,
        head_size=6,
        n_mlp=20,
        block_size=16,
        vocab_size=toy_tokenizer().vocab_size,
    )
    return replace(base, **changes)


def toy_llama_weights(config: LlamaConfig, seed: int = 0, dtype: npt.DTypeLike = np.float32) -> Weights:
    """Random weights of every tensor: norms around 1, all else around 0."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in config.parameters().items():
        size = 0.6 if name.startswith("embed") else 0.1 if name.endswith("bias") else 1.2 / np.sqrt(shape[-1])
        tensor = rng.normal(0, size, shape)
        weights[name] = (tensor * 0.3 + 1 if len(shape) == 1 and "norm" in name else tensor).astype(dtype)
    return weights


def config_json(config: LlamaConfig) -> dict[str, Any]:
    """What `transformers` would write for it."""
    return {
        "model_type": config.model_type,
        "hidden_act": "silu",
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "hidden_size": config.n_embd,
        "head_dim": config.head_size,
        "intermediate_size": config.n_mlp,
        "max_position_embeddings": config.block_size,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope.theta},
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": 0,
        "eos_token_id": list(config.end_ids) or None,
    }


def write_toy_llama(folder: Path, seed: int = 0, **changes: Any) -> Weights:
    """A model folder as others write it, in one file; the weights by name without prefix."""
    config = toy_llama_config(**changes)
    weights = toy_llama_weights(config, seed)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_json(config)), encoding="utf-8")
    (folder / "tokenizer.json").write_text(toy_tokenizer().source, encoding="utf-8")
    named = {n if n == "lm_head.weight" else f"model.{n}": t for n, t in weights.items()}
    safetensors.numpy.save_file(named, folder / "model.safetensors", {"format": "pt"})
    return weights
