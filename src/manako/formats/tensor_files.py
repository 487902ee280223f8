"""Files of tensors in the safetensors format, read: what they announce first, then one tensor after another.

A `pytorch_model.bin` announces its own in torch_zip.py, and is read like them.

Special here: nothing is allocated for a tensor before all names and shapes are known to be right, and only one tensor
at a time is held twice, since a model may be half as large as the memory. The `safetensors` library judges a header;
it is then read once more, more strictly, and each tensor is read from its place.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from manako.errors import LoadError
from manako.files import check_regular, read_regular, refuse_pointer, strict_json

MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
MOST_SHARDS = 1_000
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # that weights may have
_MAX_INDEX_BYTES = 4 * 2**20  # a thousand layers of this family take one


@dataclass(frozen=True)
class Stored:
    """A tensor as its file announces it."""

    file: Path
    name: str
    dtype: str
    """In the format's own words, such as "F32"."""
    shape: tuple[int, ...]
    start: int
    """Its first byte in the file."""
    size: int
    """In bytes."""

    @property
    def is_float(self) -> bool:
        """Whether it is of a type that weights may have."""
        return self.dtype in DTYPES

    def read(self) -> npt.NDArray[np.uint8]:
        """[size] the bytes as they lie there. Raises LoadError naming the file."""
        try:
            data = np.empty(self.size, dtype=np.uint8)
            with self.file.open("rb") as stream:
                stream.seek(self.start)
                if stream.readinto(data.data) != self.size:  # it has changed since its header was read
                    raise LoadError("safetensors_damaged", file=self.file, reason="it ends too early")
            return data
        except OSError as error:
            raise LoadError("file_unreadable", file=self.file, reason=error.strerror or error) from None
        except MemoryError:
            raise LoadError("file_unreadable", file=self.file, reason="it is larger than the memory") from None

    def widened(self) -> tuple[npt.NDArray[np.float32], str]:
        """(the numbers in float32, all finite; SHA-256 of the bytes, hexadecimal). Raises LoadError."""
        data = self.read()
        digest = hashlib.sha256(data.data).hexdigest()
        match self.dtype:
            case "BF16":  # the upper half of a float32
                bits = data.view("<u2").astype(np.uint32)
                bits <<= 16
                numbers = bits.view(np.float32)
            case "F16":
                numbers = data.view("<f2").astype(np.float32)
            case _:
                numbers = data.view("<f4").astype(np.float32, copy=False)
        numbers = numbers.reshape(self.shape)
        check_finite(str(self.file), self.name, numbers)
        return numbers, digest


def announced(path: Path, limit: int) -> tuple[dict[str, str], list[Stored]]:
    """(metadata, tensors in the order of the file) of one file of at most `limit` bytes; only its header is read.

    Raises LoadError naming the file.
    """
    try:
        check_regular(path)
        if (size := path.stat().st_size) > limit:
            raise LoadError("file_too_large", file=path, size=size, limit=limit)
        with path.open("rb") as stream:
            refuse_pointer(path, stream.read(100))
        with safetensors.safe_open(path, framework="numpy"):  # raises for whatever is wrong in the header
            pass
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = strict_json(stream.read(length), str(path))
    except safetensors.SafetensorError as error:
        raise LoadError("safetensors_damaged", file=path, reason=error) from None
    except OSError as error:
        raise LoadError("file_unreadable", file=path, reason=error.strerror or error) from None
    metadata = header.pop("__metadata__", None) or {}
    found: list[Stored] = []
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        found.append(Stored(path, name, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin))
    return metadata, sorted(found, key=lambda stored: stored.start)


def all_announced(
    paths: Sequence[Path], limit: int, read: Callable[[Path, int], tuple[dict[str, str], list[Stored]]] = announced
) -> tuple[dict[str, str], list[Stored]]:
    """The same of several files with at most `limit` bytes together; the metadata is that of a file alone.

    read: how one of them is read.
    Raises LoadError for a tensor that two of them have.
    """
    found: dict[str, Stored] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        metadata, stored = read(path, limit)
        limit -= sum(s.size for s in stored)
        for tensor in stored:
            if tensor.name in found:
                raise LoadError("tensor_twice", file=path, tensor=tensor.name, other=found[tensor.name].file.name)
            found[tensor.name] = tensor
    return metadata if len(paths) == 1 else {}, list(found.values())


def read_index(path: Path) -> dict[str, str]:
    """A `model.safetensors.index.json` or its like: tensor -> name of the file beside it. Raises LoadError."""
    suffix = Path(path.name.removesuffix(".index.json")).suffix
    placed = strict_json(read_regular(path, _MAX_INDEX_BYTES), str(path)).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise LoadError("shard_index", file=path, reason="it has no weight_map")
    names: set[Any] = set()
    for name in placed.values():
        # A name and nothing else: no path, no drive, no "..", and no file that another reader would be needed for.
        if not isinstance(name, str) or not name.endswith(suffix) or set(name) & set("/\\:\0"):
            raise LoadError("shard_index", file=path, reason=f"{name!r} is not the name of a file beside it")
        names.add(name)
    if len(names) > MOST_SHARDS:
        raise LoadError("shard_index", file=path, reason=f"it names {len(names)} files, more than {MOST_SHARDS}")
    return placed


def check_placed(index: Path, placed: Mapping[str, str], stored: Iterable[Stored]) -> None:
    """Raise LoadError unless the files hold just what the index says."""
    left = dict(placed)
    for tensor in stored:
        if left.pop(tensor.name, None) != tensor.file.name:
            raise LoadError("tensor_elsewhere", file=tensor.file, tensor=tensor.name)
    for name, file in left.items():
        raise LoadError("tensor_missing", file=index.with_name(file), tensor=name)


def check_finite(file: str, name: str, numbers: npt.NDArray[Any]) -> None:
    """Raise LoadError naming the tensor, how many of its numbers are not finite, and the first of them."""
    finite = np.isfinite(numbers)
    if not finite.all():
        bad = int(finite.size - finite.sum())
        first = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
        raise LoadError("tensor_not_finite", file=file, tensor=name, count=bad, index=first)
