"""N2: our Llama, Qwen2 and Mistral against transformers' on random weights, from the folders that transformers writes.

Tolerances: float32 within 1e-5, absolutely or relatively, which is what two orders of summation differ by at these
sizes. float64 within 1e-12, where only the order of summation is left: transformers rounds the norms, the softmax and
the rotation to float32 on its own, so its model is given PyTorch's rms_norm and attention, and both the same angles.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from toy import close, toy_tokenizer, worst
from toy_llama import toy_llama_config, toy_llama_weights
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from manako.families.activations import Activations
from manako.families.llama import NumpyLlama
from manako.families.rope import Rope
from manako.formats.model_folder import read_checkpoint
from manako.model import export, load

transformers.logging.set_verbosity_error()

CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
}
ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 50.0,
        "factor": 8.0,
        "original_max_position_embeddings": 16,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
    "yarn": {"rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0, "original_max_position_embeddings": 10},
    "yarn-mscale": {
        "rope_type": "yarn",
        "rope_theta": 50.0,
        "factor": 4.0,
        "original_max_position_embeddings": 10,
        "mscale": 1.3,
        "mscale_all_dim": 0.8,
        "beta_fast": 4.0,
        "beta_slow": 0.5,
        "truncate": False,
    },
    "yarn-attention": {
        "rope_type": "yarn",
        "rope_theta": 50.0,
        "factor": 4.0,
        "original_max_position_embeddings": 10,
        "attention_factor": 0.9,
    },
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {  # a family, and what differs from the model of `their_config`
    **{f"llama-{kv}": ("llama", {"num_key_value_heads": kv}) for kv in (1, 2, 4)},
    "llama-untied": ("llama", {"tie_word_embeddings": False}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-narrow": ("llama", {"head_dim": 4}),
    "llama-wide": ("llama", {"head_dim": 20, "num_hidden_layers": 1}),
    "llama-one-head": ("llama", {"num_attention_heads": 1, "num_key_value_heads": 1, "hidden_size": 8, "head_dim": 2}),
    "llama-epsilon": ("llama", {"rms_norm_eps": 0.01}),
    **{f"llama-{name}": ("llama", {"rope_parameters": rope}) for name, rope in ROPES.items()},
    "qwen2": ("qwen2", {}),
    "qwen2-untied": ("qwen2", {"tie_word_embeddings": False, "num_key_value_heads": 1}),
    "qwen2-yarn": ("qwen2", {"rope_parameters": ROPES["yarn"]}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 17, "max_window_layers": 1}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 17, "tie_word_embeddings": False}),
    "mistral-narrow": ("mistral", {"sliding_window": 4096, "head_dim": 4, "num_key_value_heads": 4}),
}


def reference(case: str, seed: int = 0, context: int = 40) -> Any:
    """transformers' model, its weights larger than it would make them, so that attention is far from uniform."""
    family, changes = CASES[case]
    config_class, model_class = CLASSES[family]
    values = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 44,
        "max_position_embeddings": context,
        "vocab_size": toy_tokenizer().vocab_size,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    theirs = model_class(config_class(**values | changes, attn_implementation="eager"))
    torch.manual_seed(seed)
    for name, weight in theirs.named_parameters():
        size = 0.6 if "embed" in name else 0.2 if name.endswith("bias") else 0.9 / weight.shape[-1] ** 0.5
        noise = torch.randn(weight.shape)
        weight.data = 1 + 0.3 * noise if "norm" in name else size * noise
    return theirs.eval()


def saved(theirs: Any, folder: Path, **settings: Any) -> Path:
    """The folder that transformers writes, with a tokenizer in it."""
    theirs.save_pretrained(folder, **settings)
    (folder / "tokenizer.json").write_text(toy_tokenizer().source, encoding="utf-8")
    return folder


def ids_for(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, toy_tokenizer().vocab_size, length)


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_float32(tmp_path: Path, case: str) -> None:
    """Logits and attention of every head, up to the whole context."""
    theirs = reference(case)
    read = read_checkpoint(saved(theirs, tmp_path / "m"))
    ours, context = NumpyLlama(read.config, read.tensors), read.config.block_size
    assert context == (17 if case.endswith("window") else 40) and read.config.model_type == CASES[case][0]
    for length in (1, 2, context // 2, context):
        ids, keep = ids_for(length), Activations(attention=True)
        expected = theirs(torch.from_numpy(ids)[None], output_attentions=True)
        every = ours.forward(ids, ours.new_cache(), last_only=False, keep=keep)
        cache = ours.new_cache()
        stepwise = np.concatenate([ours.forward([i], cache) for i in ids])
        assert every.dtype == np.float32 and every.shape == (length, read.config.vocab_size)
        assert worst(every, expected.logits[0]) <= 1e-5 and worst(stepwise, expected.logits[0]) <= 1e-5
        for pattern, attention in zip(keep.pattern, expected.attentions, strict=True):
            assert np.abs(pattern - attention[0].numpy()).max() <= 1e-6
    assert max(p[:, -1].max() for p in keep.pattern) > 3 / context  # far from uniform


class Exact(torch.nn.Module):
    """PyTorch's own RMSNorm, which keeps float64."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_float64(tmp_path: Path, case: str) -> None:
    theirs = reference(case)
    read = read_checkpoint(saved(theirs, tmp_path / "m"))
    ours = NumpyLlama(read.config, {n: t.astype(np.float64) for n, t in read.tensors.items()})
    theirs = theirs.double()
    theirs.set_attn_implementation("sdpa")  # its softmax keeps float64
    theirs.model.norm = Exact(theirs.model.norm)
    for layer in theirs.model.layers:
        layer.input_layernorm = Exact(layer.input_layernorm)
        layer.post_attention_layernorm = Exact(layer.post_attention_layernorm)
    half = read.config.head_size // 2

    def rotation(first: int, count: int) -> Any:
        cos, sin = theirs.model.rotary_emb(
            torch.empty(0, dtype=torch.float64), torch.arange(first, first + count)[None]
        )
        return cos[0, :, None, :half].numpy(), sin[0, :, None, :half].numpy()

    mine, given = ours.rotation(0, read.config.block_size), rotation(0, read.config.block_size)
    assert all(np.abs(a - b).max() <= 1e-5 for a, b in zip(mine, given, strict=True))
    ours.rotation = rotation  # type: ignore[method-assign]
    for length in (1, 2, read.config.block_size):
        ids = ids_for(length)
        expected = theirs(torch.from_numpy(ids)[None]).logits[0].numpy()
        every = ours.forward(ids, ours.new_cache(), last_only=False)
        assert every.dtype == expected.dtype == np.float64 and worst(every, expected) <= 1e-12


# --- rotation at real sizes -------------------------------------------------------------------------------------------

REAL: dict[str, tuple[dict[str, Any], int, int]] = {  # rope_parameters, head_dim, context: as published
    "llama-2": ({"rope_type": "default", "rope_theta": 10_000.0}, 128, 4096),
    "llama-3": ({"rope_type": "default", "rope_theta": 500_000.0}, 128, 8192),
    "smollm2": ({"rope_type": "default", "rope_theta": 100_000}, 64, 8192),
    "qwen2": ({"rope_type": "default", "rope_theta": 1_000_000.0}, 64, 32768),
    "llama-3.2": (
        {
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 32.0,
            "original_max_position_embeddings": 8192,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
        64,
        131_072,
    ),
    "qwen2-yarn": (
        {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768},
        128,
        131_072,
    ),
    "linear": ({"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}, 96, 16384),
}


@torch.no_grad()
@pytest.mark.parametrize("name", REAL)
def test_rotation_at_real_sizes_up_to_the_last_position(name: str) -> None:
    """Rounded as theirs at each step: a frequency off by one float32 step moves the last angle by up to 0.008."""
    parameters, size, context = REAL[name]
    config = transformers.LlamaConfig(
        hidden_size=2 * size, num_attention_heads=2, max_position_embeddings=context, rope_parameters=dict(parameters)
    )
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    values = {k: v for k, v in parameters.items() if k not in ("rope_type", "rope_theta")}
    if "original_max_position_embeddings" in values:
        values["original_context"] = values.pop("original_max_position_embeddings")
    if name == "qwen2-yarn":
        values["attention_factor"] = rotary.attention_scaling
    rope = Rope(parameters["rope_type"], parameters["rope_theta"], **values)
    theirs, ours = rotary.inv_freq.numpy(), rope.frequencies(size)
    assert ours.dtype == np.float32
    assert np.abs(ours / theirs - 1).max() <= 3e-7  # three steps of float32: each side rounds a power and a quotient
    shape = toy_llama_config(n_layer=1, head_size=size, block_size=context, rope=rope)
    model = NumpyLlama(shape, toy_llama_weights(shape))
    positions = torch.tensor([[0, 1, 100, 4000, context - 1]])
    cos, sin = rotary(torch.empty(0), positions)
    for i, position in enumerate(positions[0].tolist()):
        ours_cos, ours_sin = model.rotation(position, 1)
        limit = 1e-6 + 3e-7 * position  # what a step of float32 in a frequency of 1 is worth there
        assert np.abs(ours_cos[0, 0] - cos[0, i, : size // 2].numpy()).max() <= limit
        assert np.abs(ours_sin[0, 0] - sin[0, i, : size // 2].numpy()).max() <= limit


def test_every_kind_that_transformers_knows_is_run_or_refused_by_name() -> None:
    assert set(ROPE_INIT_FUNCTIONS) - {"linear", "dynamic", "llama3", "yarn"} == {"longrope", "proportional"}


@torch.no_grad()
def test_negative_control_another_kind_of_scaling_is_seen(tmp_path: Path) -> None:
    theirs = reference("llama-llama3")
    folder = saved(theirs, tmp_path / "m")
    raw = json.loads((folder / "config.json").read_text())
    raw["rope_parameters"]["low_freq_factor"] = 1.3
    (folder / "config.json").write_text(json.dumps(raw))
    read = read_checkpoint(folder)
    ours, ids = NumpyLlama(read.config, read.tensors), ids_for(40)
    every = ours.forward(ids, ours.new_cache(), last_only=False)
    assert worst(every, theirs(torch.from_numpy(ids)[None]).logits[0]) > 1e-5


# --- their folders ----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", ["llama-untied", "qwen2", "mistral"])
def test_half_precision_files_are_widened(tmp_path: Path, dtype: torch.dtype, case: str) -> None:
    folder = saved(reference(case).to(dtype), tmp_path / "m")
    theirs, read = CLASSES[CASES[case][0]][1].from_pretrained(folder, dtype=torch.float32), read_checkpoint(folder)
    assert read.stored_dtype == str(dtype).removeprefix("torch.")
    ours, ids = NumpyLlama(read.config, read.tensors), ids_for(20)
    expected = theirs(torch.from_numpy(ids)[None]).logits[0]
    assert close(ours.forward(ids, ours.new_cache(), last_only=False), expected, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("case", ["llama-untied", "qwen2", "mistral"])
def test_a_sharded_folder_is_the_same_model(tmp_path: Path, case: str) -> None:
    theirs = reference(case)
    whole = read_checkpoint(saved(theirs, tmp_path / "whole"))
    folder = saved(theirs, tmp_path / "shards", max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 3 and not (folder / "model.safetensors").exists()
    read = read_checkpoint(folder)
    assert (read.config, read.fingerprint, read.stored_dtype) == (whole.config, whole.fingerprint, "float32")
    assert read.tensors.keys() == whole.tensors.keys()
    assert all(np.array_equal(read.tensors[n], whole.tensors[n]) for n in whole.tensors)


@torch.no_grad()
def test_a_folder_of_the_bare_model_opens_where_the_head_is_tied(tmp_path: Path) -> None:
    theirs = reference("qwen2")
    read = read_checkpoint(saved(theirs.model, tmp_path / "m"))
    ours, ids = NumpyLlama(read.config, read.tensors), ids_for(9)
    expected = theirs(torch.from_numpy(ids)[None]).logits[0]
    assert close(ours.forward(ids, ours.new_cache(), last_only=False), expected, 1e-5)


@torch.no_grad()
def test_beyond_its_window_mistral_is_another_function(tmp_path: Path) -> None:
    """Why the context ends at the window: from there on our full attention would not be theirs."""
    theirs = reference("mistral-window")
    read = read_checkpoint(saved(theirs, tmp_path / "m"))
    assert "notice.sliding_window" in [key for key, _ in read.notices]
    ours, ids = NumpyLlama(read.config, read.tensors), ids_for(19)
    every = ours.forward(ids, ours.new_cache(), last_only=False)
    expected = theirs(torch.from_numpy(ids)[None]).logits[0]
    assert close(every[:17], expected[:17], 1e-5) and not close(every[17:], expected[17:], 1e-3)


@pytest.mark.parametrize("case", ["llama-llama3", "llama-yarn", "llama-linear", "llama-default", "qwen2-yarn"])
def test_the_older_spelling_of_the_same_configuration(tmp_path: Path, case: str) -> None:
    """rope_theta and rope_scaling instead of rope_parameters, as files before transformers 5 have it."""
    folder = saved(reference(case), tmp_path / "m")
    new = read_checkpoint(folder).config
    raw = json.loads((folder / "config.json").read_text())
    rope = raw.pop("rope_parameters")
    raw["rope_theta"] = rope.pop("rope_theta")
    raw["rope_scaling"] = {"type": rope.pop("rope_type"), **rope} if len(rope) > 1 else None
    (folder / "config.json").write_text(json.dumps(raw))
    assert read_checkpoint(folder).config == new


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_an_exported_folder_is_the_same_model_to_both(tmp_path: Path, case: str) -> None:
    ours, plain = read_checkpoint(saved(reference(case), tmp_path / "theirs")), tmp_path / "plain"
    export(tmp_path / "theirs", plain)
    again = read_checkpoint(plain)
    assert again.config == ours.config and again.fingerprint == ours.fingerprint
    assert again.chat_template == ours.chat_template and again.tokenizer.source == ours.tokenizer.source
    theirs = transformers.AutoModelForCausalLM.from_pretrained(plain).eval()
    ids = ids_for(min(30, ours.config.block_size))
    assert worst(load(plain).rows(ids.tolist()), theirs(torch.from_numpy(ids)[None]).logits[0].numpy()) <= 1e-5
