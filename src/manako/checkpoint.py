"""A model folder, read and written: the Hugging Face GPT-2 layout.

    config.json              the shape; `n_positions` on disk is `block_size` everywhere else
    model.safetensors        weights under their HF names, Conv1D orientation ([in, out] for every product)
    tokenizer.json           see tokenizer.py
    tokenizer_config.json    what AutoTokenizer wants to see
    generation_config.json   start and end ids, nothing else

Special here: the safetensors metadata holds a SHA-256 for each tensor and for config.json and tokenizer.json, so a
flipped bit or an edited `n_head` is noticed. A model trained with an ablation switch has its own `model_type`, so that
no other loader takes it for a plain GPT-2. Weights are never folded, centred or transposed at load.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from manako.errors import LoadError
from manako.files import new_folder, read_regular, strict_json, write_file
from manako.tokenizer import DOCUMENT_START, Tokenizer

Tensors = dict[str, npt.NDArray[Any]]
ACTIVATIONS = ("gelu_new", "gelu", "relu")
ABLATED_MODEL_TYPE = "manako_gpt2_ablated"
WEIGHTS = "model.safetensors"
_DIGESTS = "manako.sha256"
MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
GPT2_START_ID = 50_256  # what transformers writes into every config.json whose author set nothing
_PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "consolidated.00.pth")
_FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
_KINDS = {"tie_word_embeddings": bool, "residual": bool, "attention": bool, "layer_norm_epsilon": float}
_BOUNDS = {  # inclusive; a config from elsewhere is hostile data until it lies in here
    "n_layer": (1, 1_000),
    "n_head": (1, 1_000),
    "n_embd": (1, 65_536),
    "block_size": (1, 10_000_000),
    "vocab_size": (1, 5_000_000),
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT-2 style model; names as in nanoGPT."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    """The longest context, `n_positions` in config.json."""
    vocab_size: int
    activation_function: str = "gelu_new"
    """gelu_new (GPT-2's tanh form), gelu (exact) or relu."""
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    """Whether the output matrix is the token embedding."""
    n_inner: int | None = None
    """Width of the MLP; None means 4 n_embd."""
    residual: bool = True
    """Ablation switch: off drops `x +` from both halves of every block."""
    norm: Literal["pre", "post"] = "pre"
    """Ablation switch: where the LayerNorms of a block stand."""
    attention: bool = True
    """Ablation switch: off leaves each block its MLP alone."""
    start_id: int | None = None
    """The token that starts (and ends) a document, if there is one."""

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise LoadError("config_range", name=name, value=value, low=low, high=high)
        if self.n_embd % self.n_head:
            raise LoadError("config_heads", n_embd=self.n_embd, n_head=self.n_head)
        if self.activation_function not in ACTIVATIONS:
            raise LoadError("config_unsupported", name="activation_function", value=self.activation_function)
        if not 0 < self.layer_norm_epsilon < 1:
            raise LoadError("config_range", name="layer_norm_epsilon", value=self.layer_norm_epsilon, low=0, high=1)
        if self.norm not in ("pre", "post"):
            raise LoadError("config_unsupported", name="norm", value=self.norm)
        if self.n_inner is not None and not 1 <= self.n_inner <= 1_000_000:
            raise LoadError("config_range", name="n_inner", value=self.n_inner, low=1, high=1_000_000)
        if self.start_id is not None and not 0 <= self.start_id < self.vocab_size:
            raise LoadError("config_range", name="bos_token_id", value=self.start_id, low=0, high=self.vocab_size - 1)

    @property
    def n_mlp(self) -> int:
        """Width of the hidden layer of each MLP."""
        return self.n_inner or 4 * self.n_embd

    @property
    def switches(self) -> tuple[str, ...]:
        """The ablation switches that differ from a plain GPT-2, as words for every view."""
        on = {"no_residual": not self.residual, "norm_post": self.norm == "post", "no_attention": not self.attention}
        return tuple(name for name, differs in on.items() if differs)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of this model, by HF name without "transformer.", with its shape."""
        d, m = self.n_embd, self.n_mlp
        shapes: dict[str, tuple[int, ...]] = {"wte.weight": (self.vocab_size, d), "wpe.weight": (self.block_size, d)}
        for i in range(self.n_layer):
            if self.attention:
                shapes |= {f"h.{i}.ln_1.weight": (d,), f"h.{i}.ln_1.bias": (d,)}
                shapes |= {f"h.{i}.attn.c_attn.weight": (d, 3 * d), f"h.{i}.attn.c_attn.bias": (3 * d,)}
                shapes |= {f"h.{i}.attn.c_proj.weight": (d, d), f"h.{i}.attn.c_proj.bias": (d,)}
            shapes |= {f"h.{i}.ln_2.weight": (d,), f"h.{i}.ln_2.bias": (d,)}
            shapes |= {f"h.{i}.mlp.c_fc.weight": (d, m), f"h.{i}.mlp.c_fc.bias": (m,)}
            shapes |= {f"h.{i}.mlp.c_proj.weight": (m, d), f"h.{i}.mlp.c_proj.bias": (d,)}
        shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, d)
        return shapes


@dataclass(frozen=True)
class Checkpoint:
    """A model as it lies in a folder: shape, weights, tokenizer, and what was noticed while reading."""

    config: ModelConfig
    tensors: Tensors
    """float32, by HF name without "transformer."."""
    tokenizer: Tokenizer
    fingerprint: str
    """SHA-256 over the names and digests of all tensors, hexadecimal."""
    stored_dtype: str
    """How the weights lie in the file: "float32", "float16" or "bfloat16"."""
    notices: tuple[tuple[str, dict[str, object]], ...] = field(default=())
    """(catalog key, values) of what a user should know, such as integrity that cannot be verified."""


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and check a model folder.

    Raises LoadError naming the file, tensor and both values for whatever is missing, damaged or contradictory.
    """
    path = _weights_file(folder)
    for name in (WEIGHTS, "config.json", "tokenizer.json"):
        _refuse_link_outside(folder, name)
    config_bytes = read_regular(folder / "config.json", limit=1 << 20)
    config, notices = _config_from_json(strict_json(config_bytes, str(folder / "config.json")))
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    if tokenizer.vocab_size > config.vocab_size:
        raise LoadError("vocab_mismatch", folder=folder, tokens=tokenizer.vocab_size, rows=config.vocab_size)
    metadata, raw, stored_dtype = _read_tensors(path, _largest_file(config))
    digests = {name: _sha256(t) for name, t in raw.items()}
    expected = metadata.get(_DIGESTS)
    if expected is None:
        notices.append(("notice.unverifiable", {"file": path}))
    else:
        actual = digests | _companion_digests(config_bytes, tokenizer)
        _compare_digests(path, strict_json(expected, str(path)), actual)
    tensors = _checked_tensors(path, config, {n: _widen(t, stored_dtype[n]) for n, t in raw.items()})
    listing = "".join(f"{name.removeprefix('transformer.')} {digest}\n" for name, digest in sorted(digests.items()))
    dtypes = sorted(set(stored_dtype.values()))
    return Checkpoint(
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        fingerprint=hashlib.sha256(listing.encode()).hexdigest(),
        stored_dtype="/".join(dtypes),
        notices=tuple(notices),
    )


def write_checkpoint(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, npt.NDArray[Any]],
    tokenizer: Tokenizer,
    extra: Mapping[str, bytes] | None = None,
) -> None:
    """Write a new model folder, whole or not at all. `tensors` keep their dtype (float32 or float16).

    extra: files to put beside the model's own, by name.
    Raises ManakoError when the folder is there already or cannot be written.
    """
    with new_folder(folder) as temporary:
        for name, content in (_companions(config, tokenizer, tensors) | dict(extra or {})).items():
            write_file(temporary / name, content)
        write_weights(temporary, config, tensors, tokenizer)


def write_weights(
    folder: Path, config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]], tokenizer: Tokenizer
) -> None:
    """Replace model.safetensors of a model folder in one step."""
    named = {f"transformer.{n}" if n != "lm_head.weight" else n: np.ascontiguousarray(t) for n, t in tensors.items()}
    digests = {name: _sha256(t) for name, t in named.items()}
    digests |= _companion_digests(_config_to_json(config, tensors), tokenizer)
    metadata = {"format": "pt", _DIGESTS: json.dumps(digests)}
    write_file(folder / WEIGHTS, _in_order(safetensors.numpy.save(named, metadata=metadata)))


def _weights_file(folder: Path) -> Path:
    try:
        if not folder.is_dir():
            raise LoadError("folder_missing" if not folder.exists() else "not_a_folder", file=folder)
        path = folder / WEIGHTS
        if not path.exists():
            pickles = [name for name in _PICKLES if (folder / name).exists()] + [p.name for p in folder.glob("*.pt")]
            if pickles:
                raise LoadError("folder_only_pickles", file=folder / pickles[0])
            raise LoadError("file_missing", file=path)
        if not path.is_file():
            raise LoadError("file_not_regular", file=path)
        return path
    except OSError as error:
        raise LoadError("file_unreadable", file=folder, reason=error.strerror or error) from None


def _refuse_link_outside(folder: Path, name: str) -> None:
    """A file of the folder lies in it, or, in a Hugging Face cache, among the blobs of the same model."""
    target, home = (folder / name).resolve(), folder.resolve()
    blobs = [home.parent.parent / "blobs"] if home.parent.name == "snapshots" else []
    if not any(target.is_relative_to(place) for place in (home, *blobs)):
        raise LoadError("link_outside", file=folder / name, target=target)


def _largest_file(config: ModelConfig) -> int:
    """Bytes that the weights can have at most, with a tied matrix stored twice and a float32 mask in every layer."""
    numbers = sum(math.prod(shape) for shape in config.parameters().values()) + config.vocab_size * config.n_embd
    return 4 * (numbers + config.n_layer * (config.block_size**2 + 1)) + MAX_HEADER_BYTES


def _read_tensors(path: Path, limit: int) -> tuple[dict[str, str], Tensors, dict[str, str]]:
    """(metadata, arrays as stored, dtype names); bfloat16, which NumPy lacks, comes as uint16."""
    data = read_regular(path, limit)
    try:
        parts = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise LoadError("safetensors_damaged", file=path, reason=error) from None
    header = strict_json(data[8 : 8 + int.from_bytes(data[:8], "little")], str(path))
    metadata = header.get("__metadata__") or {}
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    arrays: Tensors = {}
    dtypes: dict[str, str] = {}
    for name, part in parts:
        if name.endswith((".attn.bias", ".attn.masked_bias")):  # old GPT-2 files carry their causal mask
            _check_mask(path, name, part)
            continue
        if part["dtype"] not in names:
            raise LoadError("tensor_dtype", file=path, tensor=name, dtype=part["dtype"])
        dtypes[name] = names[part["dtype"]]
        stored = np.dtype("uint16") if dtypes[name] == "bfloat16" else np.dtype(dtypes[name])
        if 0 in part["shape"]:  # no tensor of a model is empty, and NumPy cannot build some such shapes
            raise LoadError("tensor_empty", file=path, tensor=name, shape=part["shape"])
        arrays[name] = np.frombuffer(part["data"], dtype=stored).reshape(part["shape"])
    return metadata, arrays, dtypes


def _check_mask(path: Path, name: str, part: Mapping[str, Any]) -> None:
    if not name.endswith(".attn.bias"):
        return
    *batch, rows, width = part["shape"] if len(part["shape"]) >= 2 else (0, 0)
    data = np.frombuffer(part["data"], dtype=np.uint8)
    if rows != width or math.prod(batch) != 1 or data.size == 0 or rows < 1 or data.size % rows**2:
        raise LoadError("tensor_mask", file=path, tensor=name)
    seen = data.reshape(rows, width, -1).any(axis=2)  # [T, T], whatever the dtype
    if not np.array_equal(seen, np.tri(rows, dtype=bool)):
        raise LoadError("tensor_mask", file=path, tensor=name)


def _widen(tensor: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "bfloat16":  # the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor.astype(np.float32, copy=False)


def _checked_tensors(path: Path, config: ModelConfig, raw: Tensors) -> Tensors:
    for name in raw:  # with and without the prefix it is the same tensor to us: which of the two would hold?
        if f"transformer.{name}" in raw:
            raise LoadError("tensor_extra", file=path, tensor=name)
    tensors = {name.removeprefix("transformer."): t for name, t in raw.items()}
    if config.tie_word_embeddings and "lm_head.weight" in tensors:  # some writers store the tied matrix twice
        if not np.array_equal(tensors.pop("lm_head.weight"), tensors.get("wte.weight", np.empty(0))):
            raise LoadError("tensor_untied", file=path)
    check_tensors(str(path), config, tensors)
    return tensors


def check_tensors(file: str, config: ModelConfig, tensors: Tensors) -> None:
    """Raise LoadError unless exactly the tensors of `config` are there, in shape and finite."""
    shapes = config.parameters()
    for name in shapes.keys() - tensors.keys():
        raise LoadError("tensor_missing", file=file, tensor=name)
    for name in tensors.keys() - shapes.keys():
        raise LoadError("tensor_extra", file=file, tensor=name)
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            found, expected = list(tensors[name].shape), list(shape)
            raise LoadError("tensor_shape", file=file, tensor=name, found=found, expected=expected)
        finite = np.isfinite(tensors[name])
        if not finite.all():
            bad = int(finite.size - finite.sum())
            first = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise LoadError("tensor_not_finite", file=file, tensor=name, count=bad, index=first)


def _compare_digests(path: Path, expected: Mapping[str, Any], actual: Mapping[str, str]) -> None:
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise LoadError("digest_mismatch", file=path, part=name)


def _in_order(data: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: the library writes it in another order at each call."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _sha256(tensor: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data).hexdigest()


def _companion_digests(config_bytes: bytes, tokenizer: Tokenizer) -> dict[str, str]:
    return {"config.json": hashlib.sha256(config_bytes).hexdigest(), "tokenizer.json": tokenizer.fingerprint}


def _companions(config: ModelConfig, tokenizer: Tokenizer, tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, bytes]:
    start = tokenizer.token_bytes[config.start_id].decode() if config.start_id is not None else None
    wrapper: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.block_size,
        "clean_up_tokenization_spaces": False,
    }
    if start is not None:
        wrapper |= {"bos_token": start, "eos_token": start, "pad_token": start}
    ids = {"bos_token_id": config.start_id, "eos_token_id": config.start_id, "pad_token_id": config.start_id}
    return {
        "config.json": _config_to_json(config, tensors),
        "tokenizer.json": tokenizer.source.encode("utf-8"),
        "tokenizer_config.json": _json_bytes(wrapper),
        "generation_config.json": _json_bytes({"_from_model_config": True, **ids}),
    }


def _config_to_json(config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    ablated = bool(config.switches)
    stored = asdict(config)
    start, block = stored.pop("start_id"), stored.pop("block_size")
    switches = {name: stored.pop(name) for name in ("residual", "norm", "attention")}
    return _json_bytes(
        {
            "model_type": ABLATED_MODEL_TYPE if ablated else "gpt2",
            "architectures": ["ManakoAblatedGPT2" if ablated else "GPT2LMHeadModel"],
            **stored,
            "n_positions": block,
            **(switches if ablated else {}),
            "dtype": str(next(iter(tensors.values())).dtype),
            # Written even when null: the reader's default, 50256, lies outside a small vocabulary.
            "bos_token_id": start,
            "eos_token_id": start,
            "pad_token_id": start,
        }
    )


def _config_from_json(raw: Mapping[str, Any]) -> tuple[ModelConfig, list[tuple[str, dict[str, object]]]]:
    model_type = raw.get("model_type")
    if model_type not in ("gpt2", ABLATED_MODEL_TYPE):
        raise LoadError("model_type_unknown", value=model_type)
    for name, only in _FIXED.items():
        if raw.get(name, only) is not only:
            raise LoadError("config_unsupported", name=name, value=raw[name])
    steering = sorted(k for k in raw if k.startswith("_") or k in ("auto_map", "trust_remote_code"))
    notices: list[tuple[str, dict[str, object]]] = []
    if steering:
        notices.append(("notice.ignored_keys", {"names": ", ".join(steering)}))
    names = {"n_positions": "block_size", "bos_token_id": "start_id"}
    known = ["n_layer", "n_head", "n_embd", "vocab_size", "activation_function", "layer_norm_epsilon"]
    known += ["tie_word_embeddings", "n_inner", "n_positions", "bos_token_id"]
    if model_type == ABLATED_MODEL_TYPE:
        known += ["residual", "norm", "attention"]
    values = {names.get(k, k): raw[k] for k in known if k in raw}
    for name in ("n_layer", "n_head", "n_embd", "vocab_size", "block_size"):
        if name not in values:
            raise LoadError("config_missing", name="n_positions" if name == "block_size" else name)
    for name, kind in _KINDS.items():
        if name in values and type(values[name]) is not kind:
            raise LoadError("config_unsupported", name=name, value=values[name])
    for name in ("n_inner", "start_id"):
        if type(values.get(name)) not in (int, type(None)):
            raise LoadError("config_unsupported", name=name, value=values[name])
    vocab_size = values["vocab_size"]
    if values.get("start_id") == GPT2_START_ID and type(vocab_size) is int and vocab_size <= GPT2_START_ID:
        values["start_id"] = None
        notices.append(("notice.start_outside", {"id": GPT2_START_ID, "rows": vocab_size}))
    return ModelConfig(**values), notices


def start_id_of(tokenizer: Tokenizer) -> int | None:
    """The id of manako's own document-start token, if the vocabulary has it as a special token."""
    wanted = DOCUMENT_START.encode()
    return next((i for i in tokenizer.special_ids if tokenizer.token_bytes[i] == wanted), None)


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
