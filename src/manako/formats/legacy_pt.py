"""The one safe door for old `.pt` files: what the article's scripts saved with `torch.save`.

Special here: no pickle and no torch. The zip is read by a small strict reader of exactly what `torch.save` writes,
because `zipfile` builds an object for each of a million lying entries before anyone can count them; the pickle in it
is read as data (pickle_reader.py). Every size is held against the bytes really there before anything is allocated,
every member's CRC against its bytes, and the configuration against every tensor. Whatever does not fit is refused.

Weights get GPT-2's names and orientation: a torch Linear is [out, in], a Conv1D [in, out].
"""

import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from manako import tokenizer as tokenizers
from manako.errors import LoadError
from manako.families.gpt2 import ModelConfig
from manako.files import check_regular, writable_folder
from manako.formats.model_folder import Tensors, write_checkpoint
from manako.formats.pickle_reader import MAX_BYTES, Instance, TensorRecord, is_integers, read_pickle
from manako.tokenizer import Tokenizer

MAX_MEMBERS = 20_000
MAX_DIRECTORY = 4 << 20  # bytes
_OLD_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # torch.save before 1.6

# Source: APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16.
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q4sLQL")  # with its locator, which torch always writes behind it

_NUMPY = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float64": np.dtype("<f8"),
}
_TIED = ("lm_head.weight", "tok_emb.weight")
Notices = tuple[tuple[str, dict[str, object]], ...]


@dataclass(frozen=True)
class LegacyCheckpoint:
    """An old checkpoint, checked and under GPT-2's names."""

    config: ModelConfig
    tensors: Tensors
    """float32, by HF name without "transformer.", HF orientation."""
    tokenizer: Tokenizer
    stored_dtype: str
    """How the weights lie in the file, for example "float32"."""
    notices: Notices = ()
    """(catalog key, values) of what a user should know, as in `Checkpoint.notices`."""


def import_legacy(path: Path, folder: Path) -> LegacyCheckpoint:
    """Turn an old `.pt` file into a new model folder, whole or not at all.

    Raises ManakoError when the folder is there already (found before the file is opened), LoadError as `read_legacy`.
    """
    writable_folder(folder)
    checkpoint = read_legacy(path)
    write_checkpoint(folder, checkpoint.config, checkpoint.tensors, checkpoint.tokenizer)
    return checkpoint


def read_legacy(path: Path) -> LegacyCheckpoint:
    """Read and check an old `.pt` file; nothing in it is run, and no other file is opened.

    Raises LoadError naming the member, global, tensor or value that is missing, damaged, contradictory or unknown.
    """
    try:
        check_regular(path)
        with path.open("rb") as stream:
            return _Intake(path, Archive(path, stream)).read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise LoadError("file_unreadable", file=path, reason=getattr(error, "strerror", None) or error) from None
    except MemoryError:
        raise LoadError("file_unreadable", file=path, reason="it is larger than the memory") from None


@dataclass(frozen=True)
class Member:
    """Where the bytes of a zip member lie, and what the directory says of them."""

    header: int
    start: int
    size: int
    crc: int


class Archive:
    """The zip that `torch.save` writes: stored members, one folder, directory and end record last, nothing behind.

    Raises LoadError for anything else; members must not repeat, overlap, be compressed or lie outside the file.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.size = stream.seek(0, 2)
        self._check_magic()
        count, at, end = self._find_directory()
        entries = self._read_directory(self._bytes(at, end - at), count)
        self._check_spans(entries, at)
        top = next((name[: -len("data.pkl")] for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
        if top is None or not all(name.startswith(top) for name in entries):
            self._refuse("data.pkl", "not one folder with a data.pkl")
        self.members = {name.removeprefix(top): member for name, member in entries.items()}
        self.verifiable = any(member.crc for member in entries.values())
        """Whether the file has checksums: torch can be told to leave them all 0."""

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a member, at most `limit`, held against its CRC-32.

        Raises LoadError when it is absent, damaged or too large.
        """
        if name not in self.members:
            raise LoadError("legacy_missing", file=self.path, name=name)
        member = self.members[name]
        if member.size > limit:
            self._refuse(name, f"{member.size} bytes, at most {limit} make sense")
        data = self._bytes(member.start, member.size)
        if self.verifiable and zlib.crc32(data) != member.crc:
            self._refuse(name, "CRC-32")
        return data

    def _refuse(self, part: str, reason: str) -> NoReturn:
        raise LoadError("legacy_archive", file=self.path, part=ascii(part)[1:-1], reason=reason)

    def _bytes(self, at: int, count: int) -> bytes:
        if at < 0 or count < 0 or at + count > self.size:
            self._refuse(f"{at}+{count}", "outside the file")
        self.stream.seek(at)
        data = self.stream.read(count)
        if len(data) < count:
            self._refuse(f"{at}+{count}", "the file became shorter")
        return data

    def _check_magic(self) -> None:
        start = self._bytes(0, min(self.size, 512))
        if start.startswith(_OLD_MAGIC) or start[257:262] == b"ustar":
            raise LoadError("legacy_old_format", file=self.path)
        if not start.startswith(b"PK\x03\x04"):
            raise LoadError("legacy_not_zip", file=self.path)

    def _find_directory(self) -> tuple[int, int, int]:
        """(entries, first byte, byte behind the last) of the directory; the end records must say the same thing."""
        end = self.size - _END.size
        magic, disk, disk2, here, count, length, at, comment = _END.unpack(self._bytes(max(end, 0), _END.size))
        if magic != b"PK\x05\x06" or disk or disk2 or comment or here != count:
            self._refuse("end record", "missing or damaged; the file may be cut off")
        if at + length == end - _END64.size:
            record = _END64.unpack(self._bytes(end - _END64.size, _END64.size))
            said = (record[0], *record[6:11], record[12])
            if said != (b"PK\x06\x06", count, count, length, at, b"PK\x06\x07", at + length):
                self._refuse("end record", "zip64 part differs")
        elif at + length != end:
            self._refuse("end record", "directory is not where it should be")
        if count > MAX_MEMBERS or length > MAX_DIRECTORY:
            self._refuse("end record", f"{count} members, {length} bytes")
        return count, at, at + length

    def _read_directory(self, directory: bytes, count: int) -> dict[str, Member]:
        entries: dict[str, Member] = {}
        at = 0
        for _ in range(count):
            if at + _ENTRY.size > len(directory):
                self._refuse("directory", "too short")
            field = _ENTRY.unpack_from(directory, at)
            magic, _, _, flags, method, _, _, crc, packed, size, name_size, extra, comment, *_, offset = field
            at += _ENTRY.size
            raw = directory[at : at + name_size]
            at += name_size + extra + comment
            name = self._checked_name(raw)
            if magic != b"PK\x01\x02" or at > len(directory):
                self._refuse(name, "directory entry")
            if name in entries:
                self._refuse(name, "occurs twice")
            if method or flags & 1 or packed != size:
                self._refuse(name, "compressed or encrypted")
            local = _LOCAL.unpack(self._bytes(offset, _LOCAL.size))
            start = offset + _LOCAL.size + local[9] + local[10]
            if (local[0], local[3]) != (b"PK\x03\x04", 0) or self._bytes(offset + _LOCAL.size, local[9]) != raw:
                self._refuse(name, "its header and the directory differ")
            entries[name] = Member(offset, start, size, crc)
        if at != len(directory):
            self._refuse("directory", "longer than its entries")
        return entries

    def _checked_name(self, raw: bytes) -> str:
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(repr(raw), "name is not UTF-8")
        if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            self._refuse(name, "not a name that torch.save gives")
        return name

    def _check_spans(self, entries: Mapping[str, Member], directory: int) -> None:
        free = 0  # everything below belongs to a member already seen
        for name, member in sorted(entries.items(), key=lambda item: item[1].header):
            if member.header < free:
                self._refuse(name, "overlaps another member")
            free = member.start + member.size
            if free > directory:
                self._refuse(name, f"{member.size} bytes declared, {max(0, directory - member.start)} there")


class _Intake:
    """One file on its way from archive to checkpoint."""

    def __init__(self, path: Path, archive: Archive) -> None:
        self.path, self.archive = path, archive
        self.notices: list[tuple[str, dict[str, object]]] = []
        self.dtypes: set[str] = set()

    def read(self) -> LegacyCheckpoint:
        if "byteorder" in self.archive.members:
            order = self.archive.read("byteorder", 16)
            self.require("byteorder", order, order == b"little", "little")
        if not self.archive.verifiable:
            self.notices.append(("notice.unverifiable", {"file": self.path}))
        saved = read_pickle(self.archive.read("data.pkl", MAX_BYTES), self.path)
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
        return LegacyCheckpoint(config, tensors, tokenizer, "/".join(sorted(self.dtypes)), tuple(self.notices))

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
        try:
            return ModelConfig(
                **{name: values[name] for name in shape},
                activation_function="gelu",
                residual=not values.get("disable_residual", False),
                attention=not values.get("disable_attention", False),
                norm=norm,
            )
        except LoadError as error:  # its messages speak of config.json
            name = error.values.get("name", "n_embd")
            limits = "{low}..{high}" if error.key == "config_range" else "k * n_head ({n_head})"
            expected = limits.format_map(error.values)
            name, found = f"config.{name}", values[name]
            raise LoadError("legacy_value", file=self.path, name=name, found=found, expected=expected) from None

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
