"""Documents from files, folders, archives, JSON lines, Parquet and standard input.

Special here: every file is judged by itself, so a folder may mix encodings; nothing is unpacked to disk. A plain text
file of more than LARGE bytes is not one work: it is read as a stream and becomes documents of about PIECE characters,
each cut behind the last empty line that fits, else behind the last line, else anywhere.
"""

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from manako.checks import plain
from manako.corpus import aozora, archives, markup, rows
from manako.corpus.encodings import Decoder, decode, document_kind, known_encoding
from manako.corpus.sources import JSON_LINES_SUFFIXES, STREAMED, LeftOut, Report, inside, kind_of, uncompressed_name
from manako.errors import LoadError, UsageError
from manako.files import check_regular, is_dir, printable
from manako.messages.numbers import count

__all__ = ["Document", "Reading", "decode", "document", "documents", "read"]

LARGE = 32 * 2**20  # bytes
PIECE = 2**20  # characters
_CHUNK = 4 * 2**20  # bytes decoded at a time
_REPORTED_EVERY = 10_000_000  # characters


@dataclass(frozen=True, slots=True)
class Document:
    """One work or file: the unit that a split never cuts."""

    name: str
    """Where it came from: the path, the member for an archive, the line for JSON."""
    text: str
    """Its text, newlines as \\n, Aozora notation taken out."""
    title: str | None = None
    author: str | None = None
    encoding: str | None = None
    """The encoding of the file it came from, "utf-8-sig" where there was a byte order mark."""
    crlf: bool = False
    """Whether newlines of the file were CR LF or CR."""
    format: str = "text"
    """"text", or "aozora" for a work in the notation of Aozora Bunko."""


@dataclass(frozen=True)
class Reading:
    """How sources are read, and which documents are kept."""

    format: Literal["auto", "text", "aozora"] = "auto"
    """auto: a work of Aozora Bunko is recognised by its explanation block or its trailer."""
    encoding: str | None = None
    """The encoding of all files; None to detect it in each."""
    field: str = "text"
    """The field of JSON lines or column of Parquet that holds the text."""
    authors: tuple[str, ...] = ()
    """Keep works whose author has one of these in the name; empty for all."""
    kana: Literal["any", "modern", "historical"] = "any"
    """Keep texts in modern or in historical kana."""
    skip_bad: bool = False
    """Whether files and records that cannot be read are passed over, counted and named, rather than ending it all."""

    def __post_init__(self) -> None:
        for name, choices in (("format", ("auto", "text", "aozora")), ("kana", ("any", "modern", "historical"))):
            object.__setattr__(self, name, plain(getattr(self, name)))
            if getattr(self, name) not in choices:
                raise UsageError("cli_choice", name=name, choices=", ".join(choices))
        if self.encoding is not None:
            object.__setattr__(self, "encoding", known_encoding(self.encoding))

    def keeps(self, document: Document) -> bool:
        """Whether a document passes the filters."""
        author = _bare(document.author or "")
        if self.authors and not any(_bare(name) in author for name in self.authors):
            return False
        return self.kana == "any" or aozora.kana_of(document.text) == self.kana


def read(
    sources: Iterable[str | Path], reading: Reading = Reading(), report: Report = lambda key, **values: None
) -> Iterator[Document]:
    """The documents of all sources that pass the filters; "-" is standard input.

    report(key, **values) is called now and then, and at the end with the encodings that were found and with what was
    not read. Raises LoadError for a source that is missing, empty, binary or undecodable, naming it, and when no
    document is left.
    """
    kept = left_out = characters = 0
    encodings: Counter[str] = Counter()
    crlf, not_read = 0, LeftOut(reading.skip_bad)
    for source in sources:
        for document in documents(source, reading, not_read):
            encodings[document.encoding or "?"] += 1
            crlf += document.crlf
            if not reading.keeps(document):
                left_out += 1
                continue
            before, characters = characters, characters + len(document.text)
            kept += 1
            if before // _REPORTED_EVERY < characters // _REPORTED_EVERY:
                report("corpus.reading", documents=count(kept), characters=count(characters // 10**6))
            yield document
    not_read.tell(report)
    if not kept and left_out:
        raise LoadError("corpus_all_left_out", count=left_out)
    found = ", ".join(f"{name} {count(n)}" for name, n in encodings.most_common())
    report("corpus.read", documents=count(kept), encodings=found, crlf=count(crlf), left_out=count(left_out))


def documents(source: str | Path, reading: Reading = Reading(), left_out: LeftOut | None = None) -> Iterator[Document]:
    """All documents of one source, unfiltered, in the order of their names: a file, a folder, an archive, or "-".

    In folders and archives .txt, .md, .html, .jsonl and .ndjson files count, compressed ones too, in folders also
    archives, .epub and .parquet; a file that is named itself may have any name. left_out: counts what is not read.
    Raises LoadError for what is missing, empty, binary or undecodable.
    """
    left_out = left_out or LeftOut(reading.skip_bad)
    if source == "-":
        stdin = sys.stdin.buffer if sys.stdin else None  # None where the shell closed it
        if stdin is None:
            raise LoadError("corpus_empty_file", file="-")
        yield from _from_stream("-", stdin, reading, left_out)
        return
    path = Path(source)
    if is_dir(path):
        try:
            taken = list(inside(path, left_out))
        except OSError as error:
            raise LoadError("file_unreadable", file=path, reason=error.strerror or error) from None
        if not taken:
            raise LoadError("corpus_empty_folder", file=path)
        for p in taken:
            try:
                yield from _from_file(p, reading, left_out)
            except LoadError as error:
                left_out.bad(error)
    else:
        check_regular(path)
        yield from _from_file(path, reading, left_out)


def document(name: str, data: bytes, reading: Reading = Reading()) -> Document:
    """One document from its bytes. Raises LoadError when they are not text in a known encoding."""
    decoder = Decoder(name, data, True, reading.encoding)
    return _document(name, decoder.feed(data, True), decoder, reading)


def _from_file(path: Path, reading: Reading, left_out: LeftOut) -> Iterator[Document]:
    kind = kind_of(path.name)
    if kind == "parquet":
        for row in rows.parquet(path, reading.field, left_out.bad):
            yield _document(row.name, row.text, None, reading, row.title, row.author)
        return
    if kind == "book":
        try:
            book = markup.read_book(path)
        except archives.DAMAGE as error:
            raise LoadError("file_unreadable", file=path, reason=getattr(error, "strerror", None) or error) from None
        left_out.parts(book.left_out)
        yield _document(printable(path), book.text, None, reading, book.title, book.author)
        return
    if kind is None and path.suffix == ".py" and reading.format == "auto":
        raise LoadError("corpus_loading_script", file=path)
    packed = kind == "archive" or path.name.lower() != uncompressed_name(path.name)
    damage = archives.DAMAGE if packed else (OSError,)
    try:
        if kind == "archive":
            yield from _from_archive(path, reading, left_out)
        else:
            with path.open("rb") as file:
                stream = archives.decompressed(str(path), file, path.stat().st_size)
                yield from _from_stream(str(path), stream, reading, left_out)
    except damage as error:
        raise LoadError("file_unreadable", file=path, reason=getattr(error, "strerror", None) or error) from None


def _from_archive(path: Path, reading: Reading, left_out: LeftOut) -> Iterator[Document]:
    found, size = False, path.stat().st_size
    for name, member in archives.members(path, lambda name: left_out.takes(name, STREAMED)):
        found = True
        try:
            yield from _from_stream(name, archives.decompressed(name, member, size), reading, left_out)
        except LoadError as error:
            left_out.bad(error)
    if not found:
        raise LoadError("corpus_empty_folder", file=path)


def _from_stream(name: str, stream: BinaryIO, reading: Reading, left_out: LeftOut) -> Iterator[Document]:
    name = printable(name)
    if uncompressed_name(name).endswith(JSON_LINES_SUFFIXES):
        found = False
        for row in rows.json_lines(name, stream, reading.field, left_out.bad):
            found = True
            yield _document(row.name, row.text, None, reading, row.title, row.author)
        if not found:
            raise LoadError("corpus_empty_file", file=name)
        return
    head = stream.read(LARGE + 1)
    kind = document_kind(head)
    if (kind == "HTML" or kind_of(name) == "page") and reading.format != "text":
        yield _page(name, head, reading, left_out)
        return
    if kind and kind != "HTML":
        raise LoadError("corpus_document", file=name, kind=kind)
    decoder = Decoder(name, head, len(head) <= LARGE, reading.encoding)
    if len(head) > LARGE:
        yield from _pieces(name, head, stream, decoder, reading)
        return
    text = decoder.feed(head, True)
    works = aozora.works(text) if _in_notation(text, reading) else [text]
    for number, work in enumerate(works, 1):
        yield _document(name if len(works) == 1 else f"{name} [{number}]", work, decoder, reading)


def _page(name: str, data: bytes, reading: Reading, left_out: LeftOut) -> Document:
    if len(data) > markup.MOST_BYTES:
        raise LoadError("file_too_large", file=name, size=f"> {LARGE}", limit=LARGE)
    text, decoder = markup.page_text(name, data, reading.encoding)
    page = markup.read_page(text)
    left_out.parts(page.left_out)
    return _document(name, page.text, decoder, reading, page.title)


def _document(
    name: str,
    text: str,
    decoder: Decoder | None,
    reading: Reading,
    title: str | None = None,
    author: str | None = None,
) -> Document:
    found_format = "text"
    if _in_notation(text, reading):
        work = aozora.work(text)
        text, title, author, found_format = work.text, work.title or title, work.author or author, "aozora"
    if not text.strip():
        raise LoadError("corpus_empty_file", file=name)
    encoding, crlf = (decoder.encoding, decoder.crlf) if decoder else ("utf-8", False)
    return Document(name, text, title, author, encoding, crlf, found_format)


def _in_notation(text: str, reading: Reading) -> bool:
    return reading.format == "aozora" or (reading.format == "auto" and aozora.is_aozora(text))


def _pieces(name: str, head: bytes, stream: BinaryIO, decoder: Decoder, reading: Reading) -> Iterator[Document]:
    if reading.format == "aozora":  # no work is as long as that
        raise LoadError("file_too_large", file=name, size=f"> {LARGE}", limit=LARGE)
    number, text, final = 0, "", False
    chunks = [head[i : i + _CHUNK] for i in range(0, len(head), _CHUNK)]
    while not final:
        data = chunks.pop(0) if chunks else stream.read(_CHUNK)
        final = not data
        text += decoder.feed(data, final)
        while len(text) > PIECE or (final and text):
            piece, text = _cut(text)
            if piece.strip():
                number += 1
                yield Document(f"{name} [{number}]", piece, None, None, decoder.encoding, decoder.crlf)
    if not number:
        raise LoadError("corpus_empty_file", file=name)


def _cut(text: str) -> tuple[str, str]:
    if len(text) <= PIECE:
        return text, ""
    empty, line = text.rfind("\n\n", PIECE // 2, PIECE), text.rfind("\n", PIECE // 2, PIECE)
    place = empty + 2 if empty >= 0 else line + 1 if line >= 0 else PIECE
    return text[:place], text[place:]


def _bare(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()
