"""The article's old `.pt` files: what its scripts saved with `torch.save`.

Special here: nothing in the file is run (torch_zip.py, pickle_reader.py), and the configuration is held against every
tensor. Whatever does not fit is refused. Weights get GPT-2's names and orientation: a torch Linear is [out, in], a
Conv1D [in, out].
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manako import tokenizer as tokenizers
from manako.errors import LoadError
from manako.families.gpt2 import ModelConfig
from manako.formats.checkpoint import Tensors
from manako.formats.imported import Imported, gpt2_config
from manako.formats.pickle_reader import Instance, TensorRecord, is_integers
from manako.formats.torch_zip import Archive
from manako.tokenizer import Tokenizer

_NUMPY = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float64": np.dtype("<f8"),
}
_TIED = ("lm_head.weight", "tok_emb.weight")


def read_legacy(archive: Archive, saved: Any) -> Imported:
    """saved: what the pickle of the archive says.

    Raises LoadError naming the member, tensor or value that is missing, damaged, contradictory or unknown.
    """
    return _Intake(archive).read(saved)


class _Intake:
    """One file on its way from archive to checkpoint."""

    def __init__(self, archive: Archive) -> None:
        self.path, self.archive = archive.path, archive
        self.notices: list[tuple[str, dict[str, object]]] = []
        self.dtypes: set[str] = set()

    def read(self, saved: Any) -> Imported:
        self.archive.check_byte_order()
        if not self.archive.verifiable:
            self.notices.append(("notice.unverifiable", {"file": self.path}))
        vocabulary = {"tokenizer"} if type(saved) is dict and "tokenizer" in saved else {"stoi", "itos"}
        saved = self.fields("data.pkl", saved, {"model", "config"} | vocabulary)
        config = self.config(saved["config"])
        if "tokenizer" in saved:
            tokenizer = self.merges(saved["tokenizer"])
        else:
            tokenizer = self.characters(saved["stoi"], saved["itos"])
        size = tokenizer.vocab_size
        self.require("config.vocab_size", config.vocab_size, config.vocab_size == size, f"{size}, as the vocabulary")
        tensors = self.tensors(config, self.mapping("model", saved["model"]))
        return Imported(config, tensors, tokenizer, "/".join(sorted(self.dtypes)), tuple(self.notices))

    # ---- saying no

    def require(self, name: str, found: object, holds: bool, expected: object) -> None:
        if not holds:
            # Only flat values are shown: the text of a nested one could be endless.
            flat = isinstance(found, (str, bytes, int, float)) or is_integers(found)
            shown = ascii(found) if flat else type(found).__name__
            raise LoadError("legacy_value", file=self.path, name=name, found=shown, expected=expected)

    def mapping(self, name: str, value: Any) -> dict[Any, Any]:
        self.require(name, value, isinstance(value, dict), "dict")
        return value

    def fields(self, name: str, value: Any, needed: set[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
        found = self.mapping(name, value)
        for key in sorted(needed - found.keys()):
            raise LoadError("legacy_missing", file=self.path, name=f"{name}: {key}")
        for key in sorted(found.keys() - needed - optional, key=ascii):
            raise LoadError("legacy_extra", file=self.path, name=f"{name}: {ascii(key)}")
        return found

    # ---- configuration

    def config(self, saved: Any) -> ModelConfig:
        """The shape and switches; what only training reads is checked too, since a damaged file is damaged."""
        is_config = isinstance(saved, Instance) and saved.class_name == "GPTConfig"
        self.require("config", saved, is_config, "GPTConfig")
        shape = {"n_layer", "n_head", "n_embd", "block_size", "vocab_size"}
        rates = frozenset({"dropout", "learning_rate", "weight_decay", "grad_clip"})
        switches = frozenset({"disable_residual", "disable_attention"})
        values = self.fields("config", saved.state, shape, rates | switches | {"ln_style"})
        for name in shape:
            self.require(f"config.{name}", values[name], type(values[name]) is int, "int")
        for name in rates & values.keys():
            value = values[name]
            good = type(value) in (int, float) and math.isfinite(value) and 0 <= value
            self.require(f"config.{name}", value, good and (name != "dropout" or value <= 1), "0..")
        for name in switches & values.keys():
            self.require(f"config.{name}", values[name], type(values[name]) is bool, "True, False")
        norm = values.get("ln_style", "pre")
        self.require("config.ln_style", norm, norm in ("pre", "post"), "pre, post")
        return gpt2_config(
            self.path,
            "config",
            {name: values[name] for name in shape},
            residual=not values.get("disable_residual", False),
            attention=not values.get("disable_attention", False),
            norm=norm,
        )

    # ---- vocabulary

    def characters(self, stoi: Any, itos: Any) -> Tokenizer:
        """Single characters, ids 0 to V - 1, with both tables saying the same."""
        stoi, itos = self.mapping("stoi", stoi), self.mapping("itos", itos)
        for ch, i in stoi.items():
            self.require("stoi", ch, type(ch) is str and len(ch) == 1, "one character")
            self.require(f"stoi[{ascii(ch)}]", i, type(i) is int, "int")
        self.ids("stoi", set(stoi.values()), len(stoi))
        self.ids("itos", set(itos), len(itos))
        self.require("itos", len(itos), len(itos) == len(stoi), f"{len(stoi)}, as stoi")
        for ch, i in stoi.items():
            self.require(f"itos[{i}]", itos[i], type(itos[i]) is str and itos[i] == ch, ascii(ch))
        return tokenizers.from_characters([itos[i] for i in range(len(itos))])

    def merges(self, saved: Any) -> Tokenizer:
        """Byte-level BPE without a split into words; ids 0-255 are the bytes, then one id a merge."""
        is_bpe = isinstance(saved, Instance) and saved.class_name == "BPETokenizer"
        self.require("tokenizer", saved, is_bpe, "BPETokenizer")
        state = self.fields("tokenizer", saved.state, {"vocab", "merges", "vocab_size"})
        vocab, merges = self.mapping("vocab", state["vocab"]), self.mapping("merges", state["merges"])
        size = len(vocab)
        self.ids("vocab", set(vocab), size)
        self.require("vocab_size", state["vocab_size"], state["vocab_size"] == size, f"{size}, as vocab")
        self.require("merges", len(merges), len(merges) == size - 256, f"{size - 256}, as vocab")
        for i in range(256):
            self.require(f"vocab[{i}]", vocab[i], vocab[i] == bytes([i]), bytes([i]))
        first: dict[bytes, int] = {vocab[i]: i for i in range(256)}
        for i, (pair, made) in enumerate(merges.items(), 256):  # the order is the order in which they apply
            self.require(f"merges[{i - 256}]", made, type(made) is int and made == i, i)
            good = type(pair) is tuple and len(pair) == 2 and all(0 <= part < i for part in pair)
            self.require(f"merges[{i - 256}]", pair, good, f"two ids below {i}")
            token = vocab[i]
            joined = vocab[pair[0]] + vocab[pair[1]]
            self.require(f"vocab[{i}]", token, type(token) is bytes and token == joined, joined)
            if first.setdefault(token, i) != i:  # a tokenizer.json names merges by their text
                raise LoadError("legacy_twin_merges", file=self.path, first=first[token], second=i, token=token)
        return tokenizers.from_merges([vocab[i] for i in range(size)], list(merges))

    def ids(self, name: str, found: set[Any], size: int) -> None:
        """Raise LoadError unless the ids are 0 to size - 1; a repeated id shows as a gap."""
        for i in range(size):
            if i not in found:
                raise LoadError("legacy_vocabulary_gap", file=self.path, name=name, id=i, last=size - 1)

    # ---- weights

    def tensors(self, config: ModelConfig, model: Mapping[str, Any]) -> Tensors:
        """Every weight under its HF name; all records are checked before the first number is read."""
        plan = _plan(config)
        used = config.parameters()
        for name in sorted(model.keys() - plan.keys(), key=ascii):
            raise LoadError("legacy_extra", file=self.path, name=f"model: {ascii(name)}")
        for name, (target, _) in plan.items():
            if name not in model and (config.attention or target in used or target == "lm_head.weight"):
                raise LoadError("tensor_missing", file=self.path, tensor=name)
        owner: dict[str, str] = {}
        for name, record in model.items():
            self.check_record(name, record, plan[name][1])
            other = owner.setdefault(record.storage.key, name)
            if other != name and not {name, other} <= set(_TIED):
                raise LoadError("legacy_shared", file=self.path, first=other, second=name)
        tensors: Tensors = {}
        for name, (target, _) in plan.items():
            if name in model:
                value = self.numbers(name, model[name])
                if target in used:
                    transpose = value.ndim == 2 and target.startswith("h.")
                    tensors[target] = np.ascontiguousarray(value.T) if transpose else value
                elif target == "lm_head.weight" and not np.array_equal(value, tensors["wte.weight"]):
                    raise LoadError("legacy_untied", file=self.path)
                elif target == "mask" and not np.array_equal(value[0, 0], np.tri(config.block_size, dtype=bool)):
                    raise LoadError("tensor_mask", file=self.path, tensor=name)
        unused = [name for name in model if plan[name][0].startswith("h.") and plan[name][0] not in used]
        if unused:
            self.notices.append(("notice.legacy_unused", {"file": self.path, "count": len(unused)}))
        return tensors

    def check_record(self, name: str, record: Any, shape: tuple[int, ...]) -> None:
        """Shape, order and size of one tensor, against the configuration and the bytes of its member."""
        self.require(f"model: {name}", record, isinstance(record, TensorRecord), "tensor")
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        storage, size = record.storage, math.prod(shape)
        self.require(f"{name} shape", record.shape, record.shape == shape, shape)
        # Where an axis has length 1 its stride moves nothing, and torch leaves odd values there.
        same = all(n == 1 or a == b for n, a, b in zip(shape, record.stride, strides, strict=False))
        self.require(f"{name} stride", record.stride, len(record.stride) == len(shape) and same, strides)
        self.require(f"{name} storage_offset", record.offset, record.offset == 0, 0)
        self.require(f"{name} storage", storage.size, storage.size == size, size)
        member = f"data/{storage.key}"
        if member not in self.archive.members:
            raise LoadError("legacy_missing", file=self.path, name=member)
        self.require(f"{name} dtype", storage.dtype, storage.dtype in _NUMPY, ", ".join(_NUMPY))
        found, width = self.archive.members[member].size, _NUMPY[storage.dtype].itemsize
        self.require(f"{name} ({member}) bytes", found, found == size * width, size * width)

    def numbers(self, name: str, record: TensorRecord) -> npt.NDArray[np.float32]:
        """The numbers of a tensor as float32, all finite."""
        dtype = record.storage.dtype
        self.dtypes.add(dtype)
        data = self.archive.read(f"data/{record.storage.key}", record.storage.size * _NUMPY[dtype].itemsize)
        stored = np.frombuffer(data, _NUMPY[dtype])
        if dtype == "bfloat16":  # the upper half of a float32
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 becomes inf, and is named below
            value = stored.astype(np.float32, copy=False).reshape(record.shape)
        finite = np.isfinite(value)
        if not finite.all():
            first = tuple(int(i) for i in np.argwhere(~finite)[0])
            count = int(finite.size - finite.sum())
            raise LoadError("tensor_not_finite", file=self.path, tensor=name, count=count, index=first)
        return value


def _plan(config: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Old name -> (HF name, shape in the old file), in GPT-2's order; the causal masks go under the name "mask".

    Attention weights are listed for a model without attention as well: the old class makes them in any case.
    """
    plan: dict[str, tuple[str, tuple[int, ...]]] = {}
    renamed = {"wte": "tok_emb", "wpe": "pos_emb", "h": "blocks", "ln_1": "ln1", "ln_2": "ln2"}
    for target, shape in replace(config, attention=True).parameters().items():
        old = ".".join(renamed.get(part, part) for part in target.split("."))
        plan[old] = target, shape[::-1] if target.startswith("h.") else shape
    plan["lm_head.weight"] = "lm_head.weight", (config.vocab_size, config.n_embd)
    T = config.block_size
    return plan | {f"blocks.{i}.attn.causal_mask": ("mask", (1, 1, T, T)) for i in range(config.n_layer)}
