"""The head of a GGUF file: its metadata, and where each tensor lies.

Special here: the file is hostile data, so this reader is our own and runs before any library sees it. Every length is
compared with the bytes that are left before it is used, counts are capped, arrays don't nest, and what comes out are
plain values. A quantisation whose size we don't know cannot be placed in the file, so it is refused here, by name.
Source: the GGUF specification, docs/gguf.md in ggml-org/ggml; the sizes of blocks: ggml/src/ggml-common.h there.
"""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from manako.errors import LoadError
from manako.files import refuse_pointer

Metadata = dict[str, Any]  # str, int, float, bool, or a list of one of them
VERSIONS = (2, 3)
MAX_HEAD_BYTES = 32 << 20  # a vocabulary of 256,000 tokens and 500,000 merges takes about 17 MB
MAX_KEYS = MAX_TENSORS = 65_536
MAX_ITEMS = 1_500_000  # in all arrays together; that vocabulary has 1,300,000
MAX_KEY_BYTES = 1_024
MAX_NAME_BYTES = 64  # the specification's own limit for a tensor's name
MAX_TEXT_BYTES = 1 << 20  # of one string: chat templates are the longest
MAX_DIMENSIONS = 4
MAX_NUMBERS = 1 << 40  # in one tensor
MAX_ALIGNMENT = 1 << 16
_BOOL, _STRING, _ARRAY, _U32 = 7, 8, 9, 4  # types of a value in the file
_LAYOUTS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1"}
_LAYOUTS |= {10: "<u8", 11: "<i8", 12: "<f8"}


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How numbers are packed."""

    name: str
    block: int
    """Numbers in a block."""
    size: int
    """Bytes of a block."""


QUANTISATIONS = {  # type in the file -> what can be read, of what the `gguf` library unpacks
    0: Quantisation("F32", 1, 4),
    1: Quantisation("F16", 1, 2),
    2: Quantisation("Q4_0", 32, 18),
    3: Quantisation("Q4_1", 32, 20),
    6: Quantisation("Q5_0", 32, 22),
    7: Quantisation("Q5_1", 32, 24),
    8: Quantisation("Q8_0", 32, 34),
    10: Quantisation("Q2_K", 256, 84),
    11: Quantisation("Q3_K", 256, 110),
    12: Quantisation("Q4_K", 256, 144),
    13: Quantisation("Q5_K", 256, 176),
    14: Quantisation("Q6_K", 256, 210),
    16: Quantisation("IQ2_XXS", 256, 66),
    17: Quantisation("IQ2_XS", 256, 74),
    18: Quantisation("IQ3_XXS", 256, 98),
    19: Quantisation("IQ1_S", 256, 50),
    20: Quantisation("IQ4_NL", 32, 18),
    21: Quantisation("IQ3_S", 256, 110),
    22: Quantisation("IQ2_S", 256, 82),
    23: Quantisation("IQ4_XS", 256, 136),
    29: Quantisation("IQ1_M", 256, 56),
    30: Quantisation("BF16", 1, 2),
    34: Quantisation("TQ1_0", 256, 54),
    35: Quantisation("TQ2_0", 256, 66),
    39: Quantisation("MXFP4", 32, 17),
    40: Quantisation("NVFP4", 64, 36),
}
UNREADABLE = {9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 41: "Q1_0"}


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where one tensor lies and how."""

    kind: int
    """Key of QUANTISATIONS."""
    shape: tuple[int, ...]
    """Rows first, as everywhere in manako; the file has the last axis first."""
    offset: int
    """Bytes from the start of the file."""
    size: int
    """Bytes in the file."""


@dataclass(frozen=True, slots=True)
class GGUFHead:
    """What stands before the weights."""

    metadata: Metadata
    tensors: dict[str, TensorPlace]


def read_head(path: Path, stream: BinaryIO) -> GGUFHead:
    """Read and check the head of an open GGUF file. `path` is for messages.

    Raises LoadError naming the byte for whatever is cut, contradictory or beyond a cap.
    """
    start = stream.read(100)
    refuse_pointer(path, start)
    if start[:4] != b"GGUF":
        raise LoadError("gguf_magic", file=path)
    stream.seek(0)
    cursor = _Cursor(path, stream.read(MAX_HEAD_BYTES), os.fstat(stream.fileno()).st_size)
    cursor.at = 4
    version = cursor.u32()
    if version not in VERSIONS:
        raise LoadError("gguf_version", file=path, found=version)
    tensor_count = cursor.count(MAX_TENSORS, "tensors")
    metadata: Metadata = {}
    for _ in range(cursor.count(MAX_KEYS, "keys")):
        key, kind = cursor.text(MAX_KEY_BYTES), cursor.u32()
        if not key or key in metadata:
            cursor.refuse(f"the key {key} occurs twice" if key else "a key without a name")
        if key == "general.alignment" and kind != _U32:  # read with this width everywhere else
            cursor.refuse(f"{key} has type {kind}, not {_U32}")
        metadata[key] = cursor.array() if kind == _ARRAY else cursor.value(kind)
    alignment: int = metadata.get("general.alignment", 32)
    if not 8 <= alignment <= MAX_ALIGNMENT or alignment.bit_count() != 1:
        cursor.refuse(f"an alignment of {alignment}")
    found: dict[str, tuple[int, tuple[int, ...], int]] = {}
    for _ in range(tensor_count):
        name = cursor.text(MAX_NAME_BYTES)
        if not name or name in found:
            cursor.refuse(f"the tensor {name} occurs twice" if name else "a tensor without a name")
        found[name] = _tensor(cursor, name)
    start = -(-cursor.at // alignment) * alignment
    return GGUFHead(metadata, _places(cursor, found, start, alignment))


def _tensor(cursor: "_Cursor", name: str) -> tuple[int, tuple[int, ...], int]:
    """(kind, shape, offset from the start of the weights) of one tensor."""
    dimensions = cursor.u32()
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        cursor.refuse(f"{name} has {dimensions} dimensions")
    shape = tuple(cursor.u64() for _ in range(dimensions))[::-1]
    kind, offset = cursor.u32(), cursor.u64()
    if kind not in QUANTISATIONS:
        known = ", ".join(q.name for q in QUANTISATIONS.values())
        found = UNREADABLE.get(kind, f"number {kind}")
        raise LoadError("gguf_quantisation", file=cursor.path, tensor=name, found=found, known=known)
    if not 1 <= math.prod(shape) <= MAX_NUMBERS or shape[-1] % QUANTISATIONS[kind].block:
        cursor.refuse(f"{name} has shape {list(shape)} in {QUANTISATIONS[kind].name}")
    return kind, shape, offset


def _places(
    cursor: "_Cursor", found: dict[str, tuple[int, tuple[int, ...], int]], start: int, alignment: int
) -> dict[str, TensorPlace]:
    """Each tensor aligned, inside the file, and apart from the others."""
    places: dict[str, TensorPlace] = {}
    end = 0
    for name, (kind, shape, offset) in sorted(found.items(), key=lambda item: item[1][2]):
        packed = QUANTISATIONS[kind]
        size = math.prod(shape) // packed.block * packed.size
        if offset % alignment:
            cursor.refuse(f"{name} lies at {offset}, which is not a multiple of {alignment}")
        if offset < end:
            cursor.refuse(f"{name} overlaps another tensor")
        end = offset + size
        if start + end > cursor.file_size:
            cursor.refuse(f"{name} ends at byte {start + end}, the file has {cursor.file_size}")
        places[name] = TensorPlace(kind, shape, start + offset, size)
    return {name: places[name] for name in found}  # in the order of the file's list


class _Cursor:
    """A place in the head that never moves past the end."""

    def __init__(self, path: Path, data: bytes, file_size: int) -> None:
        self.path, self.data, self.file_size = path, data, file_size
        self.at = 0
        self.items = 0

    def refuse(self, reason: str) -> NoReturn:
        raise LoadError("gguf_damaged", file=self.path, reason=reason, at=self.at)

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            if len(self.data) < self.file_size:
                self.refuse(f"a head of more than {MAX_HEAD_BYTES} bytes")
            self.refuse(f"{size} bytes should follow, {len(self.data) - self.at} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def count(self, most: int, what: str) -> int:
        count = self.u64()
        if count > most:
            self.refuse(f"{count} {what}, at most {most} make sense")
        return count

    def text(self, most: int) -> str:
        size = self.u64()
        if size > most:
            self.refuse(f"a text of {size} bytes, at most {most} make sense")
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            self.refuse("a text is not UTF-8")

    def value(self, kind: int) -> Any:
        return self.text(MAX_TEXT_BYTES) if kind == _STRING else self.scalars(kind, 1)[0]

    def scalars(self, kind: int, count: int) -> list[Any]:
        if kind not in _LAYOUTS:
            self.refuse(f"a value of type {kind}")
        layout = np.dtype(_LAYOUTS[kind])
        values = np.frombuffer(self.take(count * layout.itemsize), layout)
        if kind != _BOOL:
            return values.tolist()
        if values.max(initial=0) > 1:
            self.refuse("a truth value other than 0 and 1")
        return (values == 1).tolist()

    def array(self) -> list[Any]:
        kind, count = self.u32(), self.count(MAX_ITEMS - self.items, "more array items")
        self.items += count
        return self.texts(count) if kind == _STRING else self.scalars(kind, count)

    def texts(self, count: int) -> list[str]:
        """What `text` gives, `count` times: spelled out, since vocabularies have 100,000s of them."""
        data, length = self.data, struct.Struct("<Q").unpack_from
        texts: list[str] = []
        try:
            for _ in range(count):
                end = self.at + 8 + length(data, self.at)[0]
                if end > len(data):
                    break
                texts.append(data[self.at + 8 : end].decode("utf-8"))
                self.at = end
        except (struct.error, UnicodeDecodeError):
            pass
        if len(texts) < count:
            self.text(MAX_TEXT_BYTES)  # raises, and says what is wrong
        return texts
