"""A GGUF file as a checkpoint: the Llama family and GPT-2, their quantised weights unpacked to float32.

Special here: the head is read by our own strict reader (gguf_head.py), and shapes are compared with the configuration
before anything is allocated; the `gguf` library sees packed blocks only. Weights are unpacked some blocks at a time, so
that memory stays near the float32 weights alone. llama.cpp stores the query and key rows of `llama` in another order
(its RoPE turns neighbours, transformers' turns halves), which is undone here. The keys of an architecture form a closed
list: one that we don't know could change a number. A chat template is kept as text and never run.
Source of the names: `gguf-py/gguf/constants.py` and `tensor_mapping.py` in ggml-org/llama.cpp.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError, MissingExtraError
from manako.families.gpt2 import ModelConfig
from manako.families.llama import LlamaConfig, Rope, yarn_attention
from manako.files import check_regular
from manako.formats.gguf_head import QUANTISATIONS, GGUFHead, Metadata, TensorPlace, read_head
from manako.formats.gguf_tokenizer import notices, start_token, token_id, tokenizer_json
from manako.formats.model_folder import Checkpoint, Tensors
from manako.formats.tensor_files import check_finite
from manako.tokenizer import Tokenizer

ARCHITECTURES = ("llama", "qwen2", "gpt2")
NUMBERS_AT_A_TIME = 1 << 18  # a megabyte of float32, which stays in a processor's cache
_FREQUENCIES = "rope_freqs.weight"
_NAMES = {  # ours, without layer and suffix: theirs
    **{"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"},
    **{"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
    **{"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"},
    **{"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"},
    **{"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"},
    **{"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm"},
    **{"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
}
_SHAPE = ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count")
_HEADS = ("attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.sliding_window")
_ROPE = ("rope.dimension_count", "rope.scaling.original_context_length")
_GPT2_KEYS = dict.fromkeys((*_SHAPE, "vocab_size"), int) | {"attention.layer_norm_epsilon": float}
_LLAMA_KEYS = dict.fromkeys((*_SHAPE, *_HEADS, *_ROPE, "vocab_size"), int) | {
    **{"attention.layer_norm_rms_epsilon": float, "rope.freq_base": float},
    **{"rope.scaling.type": str, "rope.scaling.factor": float},
}
_WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {  # the values with which a key changes nothing
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.causal": (True,),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.finetuned": (True, False),
    "tensor_data_layout": ("Meta AI original pth",),
}
T = TypeVar("T")


def read_gguf(path: Path) -> Checkpoint:
    """Read and check a GGUF file.

    Raises MissingExtraError without the `gguf` package, LoadError naming the file, key or tensor for whatever is
    missing, damaged, contradictory or not run by the NumPy engine.
    """
    if find_spec("gguf") is None:
        raise MissingExtraError("missing_gguf")
    return _opened(path, _read)


def read_gguf_tokenizer(path: Path) -> Tokenizer:
    """The vocabulary of a GGUF file alone. Raises LoadError as `read_gguf` does."""

    def read(path: Path, stream: BinaryIO) -> Tokenizer:
        return Tokenizer(tokenizer_json(path, read_head(path, stream).metadata), str(path))

    return _opened(path, read)


def _opened(path: Path, read: Callable[[Path, BinaryIO], T]) -> T:
    try:
        check_regular(path)
        with path.open("rb") as stream:
            return read(path, stream)
    except OSError as error:
        raise LoadError("file_unreadable", file=path, reason=error.strerror or error) from None
    except MemoryError:
        raise LoadError("file_unreadable", file=path, reason="it is larger than the memory") from None


def _read(path: Path, stream: BinaryIO) -> Checkpoint:
    head = read_head(path, stream)
    metadata = head.metadata
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise LoadError("gguf_architecture", file=path, found=architecture, known=", ".join(ARCHITECTURES))
    if metadata.get("split.count", 1) != 1:
        raise LoadError("gguf_split", file=path, count=metadata["split.count"])
    template = metadata.get("tokenizer.chat_template")
    if type(template) not in (str, type(None)):
        raise LoadError("gguf_value", file=path, name="tokenizer.chat_template", found="not a text")
    tokenizer = Tokenizer(tokenizer_json(path, metadata), str(path))
    settings = _Settings.of(path, metadata, architecture)
    factors = _frequency_factors(path, stream, head) if architecture == "llama" else None
    try:
        config = _gpt2(settings, head) if architecture == "gpt2" else _llama(settings, head, factors)
    except LoadError as error:
        if not error.key.startswith("config_"):
            raise
        raise LoadError("gguf_config", file=path, reason=str(error).removeprefix("config.json: ")) from None
    if tokenizer.vocab_size > config.vocab_size:
        raise LoadError("vocab_mismatch", folder=path, tokens=tokenizer.vocab_size, rows=config.vocab_size)
    tensors, digests = _tensors(path, stream, head, config)
    told = notices(path, metadata)
    if config.block_size < (context := settings["context_length"]):
        told.append(("notice.gguf_window", {"file": path, "window": config.block_size, "context": context}))
    if template is not None:
        told.append(("notice.chat_template", {}))
    sizes = Counter[str]()
    for place in head.tensors.values():
        sizes[QUANTISATIONS[place.kind].name] += place.size
    return Checkpoint(
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        fingerprint=hashlib.sha256("".join(sorted(digests)).encode()).hexdigest(),
        stored_dtype="/".join(name for name, _ in sizes.most_common()),
        notices=(*told, ("notice.unverifiable", {"file": path})),
        chat_template=template,
    )


# ---- configuration


@dataclass(frozen=True)
class _Settings:
    """The keys of one architecture, without its name: all of them known, each of its kind."""

    file: Path
    architecture: str
    metadata: Metadata
    values: dict[str, Any]

    @classmethod
    def of(cls, file: Path, metadata: Metadata, architecture: str) -> "_Settings":
        prefix = f"{architecture}."
        values = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
        known = _GPT2_KEYS if architecture == "gpt2" else _LLAMA_KEYS
        for name, value in values.items():
            if type(value) is not known.get(name) and value not in _WITHOUT_EFFECT.get(name, ()):
                raise LoadError("gguf_value", file=file, name=prefix + name, found=value)
        return cls(file, architecture, metadata, values)

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            raise LoadError("gguf_missing", file=self.file, name=f"{self.architecture}.{name}")
        return self.values[name]

    def expect(self, name: str, only: object) -> None:
        """Refuse a value other than `only`; the key may be missing."""
        if self.values.get(name, only) != only:
            raise LoadError("gguf_value", file=self.file, name=f"{self.architecture}.{name}", found=self.values[name])

    def token_id(self, name: str) -> int | None:
        return token_id(self.file, self.metadata, name)


def _rows(settings: _Settings, head: GGUFHead) -> int:
    """The size of the vocabulary, which is that of the matrix."""
    if "token_embd.weight" not in head.tensors:
        raise LoadError("tensor_missing", file=settings.file, tensor="token_embd.weight")
    rows = head.tensors["token_embd.weight"].shape[0]
    settings.expect("vocab_size", rows)
    return rows


def _gpt2(settings: _Settings, head: GGUFHead) -> ModelConfig:
    return ModelConfig(
        n_layer=settings["block_count"],
        n_head=settings["attention.head_count"],
        n_embd=settings["embedding_length"],
        block_size=settings["context_length"],
        vocab_size=_rows(settings, head),
        layer_norm_epsilon=settings["attention.layer_norm_epsilon"],
        tie_word_embeddings="output.weight" not in head.tensors,
        n_inner=settings.values.get("feed_forward_length"),
        start_id=settings.token_id("bos"),
    )


def _llama(settings: _Settings, head: GGUFHead, factors: npt.NDArray[np.float32] | None) -> LlamaConfig:
    values = settings.values
    n_head, n_embd = settings["attention.head_count"], settings["embedding_length"]
    head_size = values.get("attention.key_length", n_embd // max(1, n_head))
    settings.expect("attention.value_length", head_size)
    settings.expect("rope.dimension_count", head_size)
    llama, context = settings.architecture == "llama", settings["context_length"]
    ends = [settings.token_id(name) for name in ("eos", "eot", "eom")]
    return LlamaConfig(
        n_layer=settings["block_count"],
        n_head=n_head,
        n_kv_head=values.get("attention.head_count_kv", n_head),
        n_embd=n_embd,
        head_size=head_size,
        n_mlp=settings["feed_forward_length"],
        block_size=min(context, values.get("attention.sliding_window", context)),
        vocab_size=_rows(settings, head),
        rms_norm_epsilon=settings["attention.layer_norm_rms_epsilon"],
        rope=_rope(settings, head_size, factors),
        attention_bias=not llama or "blk.0.attn_q.bias" in head.tensors,
        output_bias="blk.0.attn_output.bias" in head.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in head.tensors,
        tie_word_embeddings="output.weight" not in head.tensors,
        start_id=start_token(settings.file, settings.metadata),
        end_ids=tuple(dict.fromkeys(i for i in ends if i is not None)),
        model_type=settings.architecture,
    )


def _rope(settings: _Settings, head_size: int, factors: npt.NDArray[np.float32] | None) -> Rope:
    kind = settings.values.get("rope.scaling.type", "none")
    theta = settings.values.get("rope.freq_base", 10_000.0)
    if factors is not None:
        settings.expect("rope.scaling.type", "none")
        return _llama3(settings.file, theta, head_size, factors)
    if kind == "none":
        return Rope(theta=theta)
    if kind not in ("linear", "yarn"):
        raise LoadError("gguf_value", file=settings.file, name=f"{settings.architecture}.rope.scaling.type", found=kind)
    factor = settings["rope.scaling.factor"]
    if kind == "linear":
        return Rope(kind, theta=theta, factor=factor)
    original = settings["rope.scaling.original_context_length"]
    return Rope(kind, theta=theta, factor=factor, original_context=original, attention_factor=yarn_attention(factor))


def _llama3(file: Path, theta: float, head_size: int, factors: npt.NDArray[np.float32]) -> Rope:
    """The settings of Llama 3.1 and later that give these divisors of the frequencies.

    The file holds the divisors alone. All published models share all settings but the factor, which is the largest
    divisor; any others are refused, since a guess would be a little wrong at every position.
    """
    rope = Rope("llama3", theta=theta, factor=float(factors.max()), original_context=8192)
    plain = Rope(theta=theta).frequencies(head_size, np.float64)
    expected = plain / rope.frequencies(head_size, np.float64)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-4, atol=0):
        raise LoadError("gguf_value", file=file, name=_FREQUENCIES, found="not that of a published Llama 3")
    return rope


def _frequency_factors(path: Path, stream: BinaryIO, head: GGUFHead) -> npt.NDArray[np.float32] | None:
    place = head.tensors.get(_FREQUENCIES)
    if place is None:
        return None
    if len(place.shape) != 1 or place.size > 1 << 16:
        raise LoadError("gguf_shape", file=path, tensor=_FREQUENCIES, found=list(place.shape), expected="[half a head]")
    factors, _ = _unpacked(path, stream, place)
    if not (np.isfinite(factors).all() and (1 <= factors).all() and factors.max() <= 1e6):
        raise LoadError("gguf_value", file=path, name=_FREQUENCIES, found="not that of a published Llama 3")
    return factors


# ---- weights


def _tensors(
    path: Path, stream: BinaryIO, head: GGUFHead, config: ModelConfig | LlamaConfig
) -> tuple[Tensors, list[str]]:
    """(float32 by HF name, a line with the digest of each stored tensor). Every shape is checked before any is read."""
    places: dict[str, TensorPlace] = {}
    for name, shape in config.parameters().items():
        stored = stored_name(name)
        if stored not in head.tensors:
            raise LoadError("tensor_missing", file=path, tensor=stored)
        places[name] = head.tensors[stored]
        expected = shape[::-1] if isinstance(config, ModelConfig) and _is_product(name) else shape
        if places[name].shape != expected:
            found = list(places[name].shape)
            raise LoadError("gguf_shape", file=path, tensor=stored, found=found, expected=list(expected))
    scaled = isinstance(config, LlamaConfig) and config.rope.kind == "llama3"
    known = {stored_name(name) for name in places} | ({_FREQUENCIES} if scaled else set())
    for stored in sorted(head.tensors.keys() - known):
        raise LoadError("gguf_extra", file=path, tensor=stored)
    tensors: Tensors = {}
    digests: list[str] = []
    for name, place in places.items():
        tensor, digest = _unpacked(path, stream, place)
        check_finite(str(path), stored_name(name), tensor)
        digests.append(f"{stored_name(name)} {digest}\n")
        if isinstance(config, ModelConfig):
            tensor = np.ascontiguousarray(tensor.T) if _is_product(name) else tensor
        elif config.model_type == "llama" and ".q_proj." in name:
            tensor = halves_from_neighbours(tensor, config.n_head)
        elif config.model_type == "llama" and ".k_proj." in name:
            tensor = halves_from_neighbours(tensor, config.n_kv_head)
        tensors[name] = tensor
    if scaled:  # already part of the configuration, and no less of the model
        digests.append(f"{_FREQUENCIES} {_unpacked(path, stream, head.tensors[_FREQUENCIES])[1]}\n")
    return tensors, digests


def stored_name(name: str) -> str:
    """The name in the file of one of our tensors.

    >>> stored_name("layers.3.self_attn.q_proj.weight")
    'blk.3.attn_q.weight'
    """
    part, suffix = name.rsplit(".", 1)
    block = re.fullmatch(r"(?:layers|h)\.(\d+)\.(.+)", part)
    return f"blk.{block[1]}.{_NAMES[block[2]]}.{suffix}" if block else f"{_NAMES[part]}.{suffix}"


def _is_product(name: str) -> bool:
    """Whether GPT-2 has it as [in, out], where the file has [out, in]."""
    return name.endswith(".weight") and ".c_" in name


def halves_from_neighbours(tensor: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of each head from llama.cpp's order (0, n/2, 1, n/2 + 1 ...) to that of transformers (0, 1, 2 ...).

    >>> halves_from_neighbours(np.array([0, 3, 1, 4, 2, 5]), heads=1).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    pairs = tensor.reshape(heads, -1, 2, *tensor.shape[1:])  # [nh, hs / 2, 2, in]
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def _unpacked(path: Path, stream: BinaryIO, place: TensorPlace) -> tuple[npt.NDArray[np.float32], str]:
    """(the numbers of one tensor, the SHA-256 of its bytes)."""
    from gguf import GGMLQuantizationType  # imports yaml and more: nothing but opening such a file may pay for it
    from gguf.quants import dequantize

    packed, kind = QUANTISATIONS[place.kind], GGMLQuantizationType(place.kind)
    out = np.empty(math.prod(place.shape), np.float32)
    at_a_time = NUMBERS_AT_A_TIME // packed.block * packed.block
    digest = hashlib.sha256()
    stream.seek(place.offset)
    for start in range(0, out.size, at_a_time):
        part = out[start : start + at_a_time]
        data = stream.read(part.size // packed.block * packed.size)
        if len(data) < part.size // packed.block * packed.size:
            raise LoadError("file_unreadable", file=path, reason="it was cut short while it was read")
        digest.update(data)
        with np.errstate(all="ignore"):  # what is not finite is named later, with its tensor and place
            part[:] = dequantize(np.frombuffer(data, np.uint8), kind)  # blocks know no rows: one long row is fastest
    return out.reshape(place.shape), digest.hexdigest()
