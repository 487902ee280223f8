"""Documents from a file, a folder or an archive.

Special here: an encoding is never guessed into garbage. A file is UTF-8, or it is CP932 from end to end and reads like
Japanese, or it is refused with the offset of the first byte that does not fit. Much that is not CP932 decodes as if it
were (EUC-JP, Latin-1, UTF-8 with one bad byte); what gives it away is that almost no kana come out.
"""

import lzma
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manako.corpus import aozora
from manako.errors import LoadError
from manako.files import read_regular

TEXT_SUFFIXES = (".txt", ".md")
MAX_TEXT_BYTES = 4 * 2**30  # of one file: it is held in memory whole, several times over
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_JAPANESE = re.compile(r"[\u3000-\u30ff]+")  # kana and the punctuation that goes with them
_HALF_WIDTH = re.compile(r"[\uff61-\uff9f]+")
_UNASSIGNED = re.compile(r"[\x80-\x9f\ue000-\uf8ff]")  # what Python's cp932 makes of bytes that stand for nothing
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1b"))  # ESC: terminal logs and ISO-2022-JP have it


@dataclass(frozen=True)
class Document:
    """One work or file: the unit that a split never cuts."""

    name: str
    """Where it came from: the path, and the member for an archive."""
    text: str
    """Its text, newlines as \\n, Aozora notation taken out."""


def documents(path: Path) -> Iterator[Document]:
    """All documents below a path, in the order of their names: a text file, a folder, a .tar archive.

    Raises LoadError for a missing, empty, binary or undecodable file, naming it.
    """
    try:
        is_folder, exists, is_file = path.is_dir(), path.exists(), path.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise LoadError("file_unreadable", file=path, reason=getattr(error, "strerror", None) or error) from None
    if is_folder:
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and _is_source(p)]
        if not inside:
            raise LoadError("corpus_empty_folder", file=path)
        for p in inside:
            yield from documents(p)
    elif not exists:
        raise LoadError("file_missing", file=path)
    elif not is_file:
        raise LoadError("file_not_regular", file=path)
    elif ".tar" in path.suffixes:
        yield from _archive(path)
    else:
        yield document(str(path), _bytes_of(path))


def document(name: str, data: bytes) -> Document:
    """One document from its bytes. Raises LoadError when they are not text in a known encoding."""
    text = decode(name, data)
    if aozora.is_aozora(text):
        text = aozora.plain_text(text)
    if not text.strip():
        raise LoadError("corpus_empty_file", file=name)
    return Document(name, text)


def decode(name: str, data: bytes) -> str:
    """Bytes to text, strictly: UTF-8 (a BOM is dropped), else CP932 as a whole; newlines become \\n.

    A few NUL or other control characters stay as they are. Raises LoadError naming the file and the first byte that is
    not UTF-8, or saying that it is UTF-16 or no text at all.
    """
    _refuse_binary(name, data)
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        japanese = None if _is_broken_utf8(data) else _cp932(data)
        if japanese is None:
            byte = f"0x{data[error.start]:02X}"
            raise LoadError("corpus_encoding", file=name, byte=byte, offset=error.start) from None
        text = japanese
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _refuse_binary(name: str, data: bytes) -> None:
    controls = len(data) - len(data.translate(None, _CONTROLS))
    binary = controls >= 4 and controls > 0.02 * len(data)
    # UTF-16 without a mark: ASCII has NUL for every other byte, and 。 and 、 are U+3002 and U+3001.
    unmarked = binary and (_is_utf16(data, "utf-16-le") or _is_utf16(data, "utf-16-be"))
    if unmarked or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise LoadError("corpus_utf16", file=name)
    if b"\x1b$B" in data or b"\x1b$@" in data:  # the shifts of ISO-2022-JP, which is all ASCII to UTF-8
        raise LoadError("corpus_iso2022", file=name)
    if binary:
        raise LoadError("corpus_binary", file=name, count=controls, size=len(data))


def _is_utf16(data: bytes, encoding: str) -> bool:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return not any(unicodedata.category(ch) in ("Cn", "Co") or (ch < " " and ch not in "\t\n\v\f\r") for ch in text)


def _is_broken_utf8(data: bytes) -> bool:
    """Whether whole multi-byte characters of UTF-8 outnumber the places where it fails; in CP932 they are rare."""
    text = data.decode("utf-8", "replace")
    failures = text.count("\ufffd")
    return _count(_FOREIGN, text) - failures >= failures


def _cp932(data: bytes) -> str | None:
    """The text, if it is CP932 and reads like Japanese: kana or its punctuation, few half-width katakana."""
    try:
        text = data.decode("cp932")
    except UnicodeDecodeError:
        return None
    if _UNASSIGNED.search(text) or _count(_HALF_WIDTH, text) > 0.1 * len(text):
        return None
    return text if _count(_JAPANESE, text) >= 0.1 * _count(_FOREIGN, text) else None


def _count(runs: re.Pattern[str], text: str) -> int:
    return sum(map(len, runs.findall(text)))


def _bytes_of(path: Path) -> bytes:
    data = read_regular(path, MAX_TEXT_BYTES)
    if not data:
        raise LoadError("corpus_empty_file", file=path)
    return data


def _archive(path: Path) -> Iterator[Document]:
    found = False
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(TEXT_SUFFIXES):
                    name, found = f"{path}:{member.name}", True
                    if member.size > MAX_TEXT_BYTES:  # a sparse member may claim any size
                        raise LoadError("file_too_large", file=name, size=member.size, limit=MAX_TEXT_BYTES)
                    stream = archive.extractfile(member)
                    assert stream is not None  # a regular member always has one
                    yield document(name, stream.read())
    except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise LoadError("file_unreadable", file=path, reason=error) from None
    if not found:
        raise LoadError("corpus_empty_folder", file=path)


def _is_source(path: Path) -> bool:
    return path.suffix in TEXT_SUFFIXES or ".tar" in path.suffixes
