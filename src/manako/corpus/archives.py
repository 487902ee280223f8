"""What is inside compressed files and archives (.tar, plain or compressed, and .zip), as streams.

Special here: nothing is unpacked to disk, so a name such as ../../x can do no harm, and links and devices are left
alone. Every byte that comes out of a compressed file is counted where it comes out, headers and members that are passed
over included, and at MOST_INFLATED times the file's size reading ends: no claim has to be believed. A tar's extended
headers, which tarfile keeps at whatever size they claim, are refused where those of one member pass LONGEST_HEADER.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, cast

from manako.errors import LoadError, MissingExtraError

MOST_INFLATED = 200  # times; text shrinks to a tenth, and rarely to less than a fiftieth
NEVER_A_BOMB = 256 * 2**20  # bytes; as much as this may come out of any file
LONGEST_HEADER = 2**20  # bytes of all headers of one member of a tar
DAMAGE = (  # what reading a damaged or encrypted archive raises, at any call

    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError,
    RuntimeError,  # zipfile's for a password
)  # fmt: skip


def members(path: Path, takes: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    """(name, stream) of each regular member that `takes` says yes to, in the archive's order.

    A stream is good until the next one is asked for. It and this raise DAMAGE, and LoadError for a bomb.
    """
    return _zip(path, takes) if path.name.lower().endswith(".zip") else _tar(path, takes)


def decompressed(name: str, stream: BinaryIO, size: int) -> BinaryIO:
    """What comes out of a compressed file, counted; any other file as it is, by the suffix of its name.

    size: of the file that everything comes out of. Raises MissingExtraError for .zst without pyarrow; reading raises
    DAMAGE, and LoadError for a bomb.
    """
    lower = name.lower()
    if lower.endswith((".gz", ".tgz")):
        inner: object = gzip.GzipFile(fileobj=stream)
    elif lower.endswith((".xz", ".txz")):
        inner = lzma.LZMAFile(stream)
    elif lower.endswith((".bz2", ".tbz2")):
        inner = bz2.BZ2File(stream)
    elif lower.endswith(".zst"):
        if find_spec("pyarrow") is None:
            raise MissingExtraError("missing_pyarrow")
        import pyarrow

        inner = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")
    else:
        return stream
    return io.BufferedReader(_Counted(name, cast("BinaryIO", inner), size), 2**16)


class _Counted(io.RawIOBase):
    """A stream that ends with an error once far more came out of it than a text of that size can give."""

    def __init__(self, name: str, inner: BinaryIO, size: int) -> None:
        self._name, self._inner, self._size = name, inner, size
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        refuse_bomb(self._name, self._size, self._read)
        return len(data)


def refuse_bomb(name: object, size: int, inflated: int) -> None:
    """Raise LoadError where a file of `size` bytes gives, or claims to give, more than any text does."""
    if inflated > max(NEVER_A_BOMB, MOST_INFLATED * size):
        raise LoadError("corpus_archive_bomb", file=name, size=size, inflated=inflated)


class _HeadersBounded:
    """A tar's bytes. Raises LoadError where reading goes on past `limit`."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path, self._stream, self._read = path, stream, 0
        self.limit = LONGEST_HEADER

    def read(self, size: int) -> bytes:
        """As of a file; tarfile reads some 10 kB at a time."""
        if self._read > self.limit:
            raise LoadError("corpus_archive_header", file=self._path, limit=LONGEST_HEADER)
        data = self._stream.read(size)
        self._read += len(data)
        return data


def _tar(path: Path, takes: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    size, claimed = path.stat().st_size, 0
    with path.open("rb") as file:
        stream = _HeadersBounded(path, decompressed(str(path), file, size))
        # Front to back, so that the bytes of members that are passed over are counted too.
        with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|") as archive:
            for member in archive:
                stream.limit = archive.offset + LONGEST_HEADER  # to the end of this member, and the next one's headers
                if not member.isfile() or not takes(member.name):
                    continue
                claimed += member.size  # a sparse member may claim any size
                refuse_bomb(path, size, claimed)
                inner = archive.extractfile(member)
                assert inner is not None  # a regular member always has one
                yield f"{path}:{member.name}", cast("BinaryIO", inner)


def _zip(path: Path, takes: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(path) as archive:
        named = ((_zip_name(m), m) for m in archive.infolist() if not m.filename.endswith("/"))
        chosen = [(name, m) for name, m in named if takes(name)]
        refuse_bomb(path, path.stat().st_size, sum(m.file_size for _, m in chosen))  # no more is ever read than that
        for name, member in chosen:
            with archive.open(member) as stream:
                yield f"{path}:{name}", cast("BinaryIO", stream)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """The name, also where Windows wrote it in CP932 and zipfile took that for CP437, as the format has it."""
    if member.flag_bits & 0x800:  # the name is UTF-8
        return member.filename
    try:
        return member.filename.encode("cp437").decode("cp932")
    except UnicodeError:
        return member.filename
