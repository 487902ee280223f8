"""The zip that `torch.save` writes, read by name, and the tensors of a `pytorch_model.bin` in it.

Special here: no pickle and no torch. A small strict reader takes exactly what `torch.save` writes, because `zipfile`
builds an object for each of a million lying entries before anyone can count them; the pickle in it is read as data
(pickle_reader.py). Every size is held against the bytes really there before anything is allocated, and every member's
CRC against its bytes.
"""

import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError
from manako.files import check_regular, refuse_pointer
from manako.formats.pickle_reader import MAX_BYTES, TensorRecord, read_pickle
from manako.formats.tensor_files import Stored

MAX_MEMBERS = 20_000
MAX_DIRECTORY = 4 << 20  # bytes
_OLD_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # torch.save before 1.6

# Source: APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16, 4.5.3.
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q4sLQL")  # with its locator, which torch always writes behind it

_ALL_ONES, _ZIP64 = 0xFFFFFFFF, 1  # what stands for a number above 4 GB, and the extra field that has it

_DTYPES = {  # a storage's numbers -> the name of safetensors, bytes each
    "float32": ("F32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "float64": ("F64", 8),
    "int64": ("I64", 8),
    "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
}


@dataclass(frozen=True)
class Member:
    """Where the bytes of a zip member lie, and what the directory says of them."""

    header: int
    start: int
    size: int
    crc: int


def _wide_numbers(extra: bytes) -> Iterator[int]:
    """The numbers of 64 bits that the extra fields of an entry hold."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64 and at + 4 + size <= len(extra):
            yield from (n for (n,) in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + size // 8 * 8]))
            return
        at += 4 + size


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

    def check_byte_order(self) -> None:
        """Raise LoadError where the numbers lie the other way round."""
        if "byteorder" in self.members and (order := self.read("byteorder", 16)) != b"little":
            raise LoadError("legacy_value", file=self.path, name="byteorder", found=ascii(order), expected="little")

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
        refuse_pointer(self.path, start)
        if start.startswith(_OLD_MAGIC) or start[257:262] == b"ustar":
            raise LoadError("legacy_old_format", file=self.path)
        if not start.startswith(b"PK\x03\x04"):
            raise LoadError("legacy_not_zip", file=self.path)

    def _find_directory(self) -> tuple[int, int, int]:
        """(entries, first byte, byte behind the last) of the directory; the end records must say the same thing."""
        end = self.size - _END.size
        magic, disk, disk2, *narrow, comment = _END.unpack(self._bytes(max(end, 0), _END.size))
        here, count, length, at = narrow
        if magic != b"PK\x05\x06" or disk or disk2 or comment or here != count:
            self._refuse("end record", "missing or damaged; the file may be cut off")
        wide = self._wide_end(end - _END64.size)
        if wide:
            end -= _END64.size
            # A number that does not fit is all ones in the older record.
            told = zip(narrow, wide, (0xFFFF, 0xFFFF, _ALL_ONES, _ALL_ONES), strict=True)
            if wide[0] != wide[1] or any(old not in (new, most) for old, new, most in told):
                self._refuse("end record", "zip64 part differs")
            _, count, length, at = wide
        if at + length != end:
            self._refuse("end record", "directory is not where it should be")
        if count > MAX_MEMBERS or length > MAX_DIRECTORY:
            self._refuse("end record", f"{count} members, {length} bytes")
        return count, at, at + length

    def _wide_end(self, at: int) -> tuple[int, int, int, int] | None:
        """What the end record of zip64 says at that place: entries, again, bytes and place of the directory."""
        if at < 0:
            return None
        record = _END64.unpack(self._bytes(at, _END64.size))
        there = (record[0], record[10], record[12]) == (b"PK\x06\x06", b"PK\x06\x07", at)
        return record[6:10] if there else None

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
            wide = _wide_numbers(directory[at + name_size : at + name_size + extra])
            at += name_size + extra + comment
            name = self._checked_name(raw)
            # In this order, those alone that do not fit above.
            size, packed, offset = (next(wide, n) if n == _ALL_ONES else n for n in (size, packed, offset))
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


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive, as long as its file is open. Raises LoadError."""
    try:
        check_regular(path)
        with path.open("rb") as stream:
            yield Archive(path, stream)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise LoadError("file_unreadable", file=path, reason=getattr(error, "strerror", None) or error) from None
    except MemoryError:
        raise LoadError("file_unreadable", file=path, reason="it is larger than the memory") from None


@dataclass(frozen=True)
class Pickled(Stored):
    """A tensor that is the whole of one member."""

    crc: int | None = None
    """Of its bytes; None where the file has no checksums."""

    def read(self) -> npt.NDArray[np.uint8]:
        """See Stored."""
        data = super().read()
        if self.crc is not None and zlib.crc32(data.data) != self.crc:
            raise LoadError("legacy_archive", file=self.file, part=self.name, reason="CRC-32")
        return data


def announced(path: Path, limit: int) -> tuple[dict[str, str], list[Stored]]:
    """(no metadata, the tensors) of a `pytorch_model.bin` of at most `limit` bytes; only its pickle is read.

    Raises LoadError for anything but one table of tensors.
    """
    with opened(path) as archive:
        if archive.size > limit:
            raise LoadError("file_too_large", file=path, size=archive.size, limit=limit)
        archive.check_byte_order()
        table = read_pickle(archive.read("data.pkl", MAX_BYTES), path)
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
            raise LoadError("pickle_no_tensors", file=path, name="data.pkl")
        return {}, [stored(archive, name, record) for name, record in table.items()]


def stored(archive: Archive, name: str, record: object) -> Pickled:
    """Where the numbers of a tensor lie. Raises LoadError for one that is not the whole of its member, in order."""
    if not isinstance(record, TensorRecord):
        raise LoadError("pickle_no_tensors", file=archive.path, name=ascii(name)[1:-1])
    strides = tuple(math.prod(record.shape[i + 1 :]) for i in range(len(record.shape)))
    # Where an axis has length 1 its stride moves nothing, and torch leaves odd values there.
    in_order = len(record.stride) == len(strides) and all(
        n == 1 or a == b for n, a, b in zip(record.shape, record.stride, strides, strict=True)
    )
    dtype, width = _DTYPES[record.storage.dtype]
    member = archive.members.get(f"data/{record.storage.key}")
    size = width * math.prod(record.shape)
    whole = record.offset == 0 and record.storage.size == math.prod(record.shape)
    if not in_order or not whole or min(record.shape, default=1) < 0 or member is None or member.size != size:
        raise LoadError("pickle_tensor_part", file=archive.path, tensor=ascii(name)[1:-1])
    crc = member.crc if archive.verifiable else None
    return Pickled(archive.path, name, dtype, record.shape, member.start, size, crc)
