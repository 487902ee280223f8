"""The text files inside a .tar (plain or compressed) or .zip archive, as streams.

Special here: nothing is unpacked to disk, so a name such as ../../x can do no harm, and links and devices are left
alone. An archive whose members together would be MOST_INFLATED times its own size is refused before it fills a disk.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from manako.errors import LoadError

MOST_INFLATED = 200  # times; text shrinks to a tenth, and rarely to less than a fiftieth
_NEVER_A_BOMB = 256 * 2**20  # bytes; as much as this may come out of any archive
DAMAGE = (  # what reading a damaged or encrypted archive raises, at any call

    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError,
    RuntimeError,  # zipfile's for a password
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return ".tar" in path.suffixes or path.suffix in (".zip", ".tgz", ".txz", ".tbz2")


def members(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, BinaryIO]]:
    """(name, stream) of each regular member with one of these suffixes, in the archive's order.

    A stream is good until the next one is asked for. It and this raise DAMAGE, and LoadError for a bomb.
    """
    return _zip(path, suffixes) if path.suffix == ".zip" else _tar(path, suffixes)


def _tar(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, BinaryIO]]:
    inflated = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffixes):
                inflated += member.size  # a sparse member may claim any size
                _refuse_bomb(path, inflated)
                stream = archive.extractfile(member)
                assert stream is not None  # a regular member always has one
                yield f"{path}:{member.name}", stream  # pyright: ignore[reportReturnType]


def _zip(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(path) as archive:
        chosen = [m for m in archive.infolist() if not m.is_dir() and m.filename.endswith(suffixes)]
        _refuse_bomb(path, sum(m.file_size for m in chosen))  # no more is ever read than a member declares
        for member in chosen:
            with archive.open(member) as stream:
                yield f"{path}:{member.filename}", stream  # pyright: ignore[reportReturnType]


def _refuse_bomb(path: Path, inflated: int) -> None:
    size = path.stat().st_size
    if inflated > max(_NEVER_A_BOMB, MOST_INFLATED * size):
        raise LoadError("corpus_archive_bomb", file=path, size=size, inflated=inflated)
