"""GGUF files put together byte by byte, so that a test can lie in any one of them.

Special here: nothing is shared with the reader, and `test_gguf_file.py` first compares a file with what the `gguf`
library's own writer makes of the same values.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from toy import Weights

from manako.families import family_of
from manako.families.gpt2 import ModelConfig
from manako.families.llama import LlamaConfig
from manako.formats.gguf import stored_name

Metadata = dict[str, Any]
TYPES = {bool: 7, int: 4, float: 6, str: 8, list: 9}  # integers as uint32, as llama.cpp writes almost all of them
SIGNED = 5


@dataclass(frozen=True)
class Raw:
    """A value of any type and bytes."""

    kind: int
    data: bytes


@dataclass(frozen=True)
class Tensor:
    """What the list of tensors says of one, and its bytes."""

    name: str
    dims: tuple[int, ...]
    """Last axis first, as in the file."""
    kind: int
    data: bytes
    offset: int | None = None
    """Where it says that it lies; None: where it does."""


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u64(len(data)) + data


def value(v: Any) -> tuple[int, bytes]:
    """(type, bytes) of a value; a list of whole numbers is one of int32."""
    if isinstance(v, Raw):
        return v.kind, v.data
    if isinstance(v, list):
        kind = SIGNED if type(v[0]) is int else TYPES[type(v[0])]
        items = b"".join(struct.pack("<i", i) if kind == SIGNED else value(i)[1] for i in v)
        return 9, u32(kind) + u64(len(v)) + items
    packed = {bool: "<?", int: "<I", float: "<f"}
    return TYPES[type(v)], text(v) if isinstance(v, str) else struct.pack(packed[type(v)], v)


def gguf_bytes(
    metadata: Mapping[str, Any] | Sequence[tuple[str | bytes, Any]],
    tensors: Sequence[Tensor] = (),
    magic: bytes = b"GGUF",
    version: int = 3,
    tensor_count: int | None = None,
    key_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; what is None is told as it is."""
    pairs = list(metadata.items()) if isinstance(metadata, Mapping) else list(metadata)
    head = magic + u32(version) + u64(len(tensors) if tensor_count is None else tensor_count)
    head += u64(len(pairs) if key_count is None else key_count)
    for key, v in pairs:
        kind, data = value(v)
        head += text(key) + u32(kind) + data
    at, body = 0, b""
    for tensor in tensors:
        offset = at if tensor.offset is None else tensor.offset
        head += text(tensor.name) + u32(len(tensor.dims)) + b"".join(map(u64, tensor.dims))
        head += u32(tensor.kind) + u64(offset)
        body += tensor.data + bytes(-len(tensor.data) % alignment)
        at = len(body)
    last = -len(tensors[-1].data) % alignment if tensors else 0
    return head + bytes(-len(head) % alignment) + body[: len(body) - last]


SPM_TOKENS = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab", "c", "<mark>"]
SPM_TYPES = [2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 4]
SPM_SCORES = [0.0, 0.0, 0.0, -9.0, -10.0, -11.0, -3.0, -1.0, -2.0, -12.0, 0.0]


def spm_metadata() -> Metadata:
    """A SentencePiece vocabulary of eleven tokens, no bytes among them."""
    names = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    lists = {"tokens": SPM_TOKENS, "scores": SPM_SCORES, "token_type": SPM_TYPES}
    return {f"tokenizer.ggml.{name}": v for name, v in {"model": "llama", **lists, **names}.items()}


def toy_llama(**changes: Any) -> LlamaConfig:
    """1 layer, 2 heads of 2 over 1 of keys and values, width 4: for files of about two kilobytes."""
    base = LlamaConfig(
        n_layer=1,
        n_head=2,
        n_kv_head=1,
        n_embd=4,
        head_size=2,
        n_mlp=6,
        block_size=16,
        vocab_size=len(SPM_TOKENS),
        rms_norm_epsilon=2**-17,  # exact in float32
        start_id=1,
        end_ids=(2,),
    )
    return replace(base, **changes)


def llama_metadata(config: LlamaConfig, architecture: str = "llama") -> Metadata:
    """The keys that llama.cpp's converter writes for this configuration."""
    keys = {
        "block_count": config.n_layer,
        "context_length": config.block_size,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.n_mlp,
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.n_kv_head,
        "attention.layer_norm_rms_epsilon": config.rms_norm_epsilon,
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
        "rope.dimension_count": config.head_size,
        "rope.freq_base": config.rope.theta,
        "vocab_size": config.vocab_size,
    }
    return {"general.architecture": architecture, **{f"{architecture}.{name}": v for name, v in keys.items()}}


def gpt2_metadata(config: ModelConfig) -> Metadata:
    """The keys that llama.cpp's converter writes for GPT-2."""
    keys = {
        "block_count": config.n_layer,
        "context_length": config.block_size,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.n_mlp,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": config.layer_norm_epsilon,
    }
    return {"general.architecture": "gpt2", **{f"gpt2.{name}": v for name, v in keys.items()}}


def toy_llama_weights(config: LlamaConfig, seed: int = 0) -> Weights:
    """Random weights of every tensor, large enough that attention is far from uniform."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in config.parameters().items():
        tensor = rng.normal(0, 0.6 if name.startswith("embed") else 1.2 / np.sqrt(shape[-1]), shape)
        weights[name] = (tensor * 0.3 + 1 if "norm" in name else tensor).astype(np.float32)
    return weights


def neighbours_from_halves(tensor: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Rows of Q or K as llama.cpp stores them. Source: `permute` in its convert_hf_to_gguf.py."""
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def stored(config: LlamaConfig | ModelConfig, weights: Weights) -> dict[str, npt.NDArray[Any]]:
    """The tensors as llama.cpp's converter hands them to its writer, by their name in the file."""
    names, out = family_of(config.model_type).gguf.names, {}
    for name, tensor in weights.items():
        if isinstance(config, ModelConfig):
            tensor = tensor.T if ".c_" in name and name.endswith("weight") else tensor
        elif config.model_type == "llama" and (".q_proj." in name or ".k_proj." in name):
            tensor = neighbours_from_halves(tensor, config.n_head if ".q_proj." in name else config.n_kv_head)
        out[stored_name(names, name)] = np.ascontiguousarray(tensor)
    return out


def float_tensors(config: LlamaConfig | ModelConfig, weights: Weights) -> list[Tensor]:
    """The same as F32."""
    return [Tensor(n, t.shape[::-1], 0, t.tobytes()) for n, t in stored(config, weights).items()]


def toy_file(**changes: Any) -> tuple[LlamaConfig, Weights, bytes]:
    """A toy Llama with the SentencePiece vocabulary: (configuration, weights, the file)."""
    config = toy_llama(**changes)
    weights = toy_llama_weights(config)
    metadata = llama_metadata(config) | spm_metadata()
    return config, weights, gguf_bytes(metadata, float_tensors(config, weights))


def zeros(name: str, dims: tuple[int, ...] = (8,), offset: int | None = None) -> Tensor:
    """An F32 tensor of zeros."""
    return Tensor(name, dims, 0, bytes(4 * math.prod(dims)), offset)
