"""Toy models of `transformers`, one for each family, with random weights large enough to make every part count."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from toy import toy_tokenizer

from manako.engines.hf_engine import HfEngine, open_engine
from manako.formats.hf_folder import hf_folder

V = toy_tokenizer().vocab_size
_IDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_NEW: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    **_IDS,
}
_OLD: dict[str, Any] = {"vocab_size": V, "n_embd": 33, "n_layer": 2, "n_head": 3, "n_positions": 64, **_IDS}
_MIDDLE: dict[str, Any] = {k: _NEW[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers")} | _IDS


def _configs() -> dict[str, transformers.PreTrainedConfig]:
    return {
        "gpt2": transformers.GPT2Config(**_OLD),
        "llama": transformers.LlamaConfig(**_NEW, attention_bias=True),  # grouped queries, a bias on the output
        "qwen2": transformers.Qwen2Config(**_NEW, tie_word_embeddings=True),
        "mistral": transformers.MistralConfig(**_NEW, sliding_window=5),
        "gpt_neox": transformers.GPTNeoXConfig(**_NEW),  # attention and MLP side by side
        "gemma": transformers.GemmaConfig(**_NEW, head_dim=8),  # scaled embedding, norms whose weight is stored less 1
        "gemma2": transformers.Gemma2Config(**_NEW, head_dim=8, sliding_window=4),  # post-norms, soft caps
        "phi": transformers.PhiConfig(**_NEW),  # a bias on the head
        "opt": transformers.OPTConfig(
            **_MIDDLE, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64
        ),
        "bloom": transformers.BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=4, **_IDS),  # a tuple a block
        "mixtral": transformers.MixtralConfig(**_NEW, num_local_experts=4),
        "falcon": transformers.FalconConfig(**_MIDDLE, num_attention_heads=4),
        "mamba": transformers.MambaConfig(**_MIDDLE, state_size=4),
        "rwkv": transformers.RwkvConfig(**_MIDDLE, attention_hidden_size=32),  # a cache of its own kind
    }


FAMILIES = tuple(_configs())


@cache
def toy_lm(family: str) -> Any:
    """A model of this family, in memory, with eager attention where it can have it."""
    torch.manual_seed(FAMILIES.index(family))
    model = transformers.AutoModelForCausalLM.from_config(_configs()[family]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.set_attn_implementation("eager")
    return model


def write_lm(folder: Path, family: str = "gpt2") -> Path:
    """The folder of such a model, as `save_pretrained` writes it, with the toy tokenizer."""
    toy_lm(family).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(toy_tokenizer().source, encoding="utf-8")
    return folder


def load_hf(ref: str) -> HfEngine:
    """The engine of "hf:org/name" or "hf:./folder"."""
    return open_engine(hf_folder(ref.removeprefix("hf:"), ref))
