"""Bytes to text, strictly: an encoding is known or refused, never guessed into garbage.

Special here: a file is UTF-8, or it is CP932 or EUC-JP and reads like Japanese in just one of the two, or it is
refused with the offset of the first byte that does not fit. Much that is neither decodes as if it were (Latin-1, GBK,
UTF-8 with a bad byte); what gives it away is that almost no kana come out. The head of a large file decides, and the
rest must agree with it to the last byte.
"""

import codecs
import io
import re
import unicodedata

from manako.errors import LoadError, UsageError

JAPANESE_ENCODINGS = ("cp932", "euc_jp")
_MARKS = {  # byte order mark -> encoding, the longer ones first: one of UTF-32 begins with one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_JAPANESE = re.compile(r"[\u3000-\u30ff]+")  # kana and the punctuation that goes with them
_KANA = re.compile(r"[\u3041-\u30ff]+")
_HALF_WIDTH = re.compile(r"[\uff61-\uff9f]+")
_UNASSIGNED = re.compile(r"[\x80-\x9f\ue000-\uf8ff]")  # codes that stand for nothing, or for characters of one's own
_NO_CP932 = re.compile(r"[\x80\xa0\uf8f0-\uf8f3]")  # what Python's cp932 makes of bytes that begin no character
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1b"))  # ESC: terminal logs and ISO-2022-JP have it
_CONTROL_RUNS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]+")


_DOCUMENTS = (  # what a file begins with -> what it is
    (rb"%PDF-", "PDF"),
    (rb"PK\x03\x04.{26}mimetypeapplication/epub\+zip", "EPUB"),
    (rb"PK\x03\x04.{0,4000}?word/", "Word (.docx)"),
    (rb"PK\x03\x04.{0,4000}?xl/", "Excel (.xlsx)"),
    (rb"PK\x03\x04.{0,4000}?ppt/", "PowerPoint (.pptx)"),
    (rb"PK\x03\x04", "ZIP"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Microsoft Office (.doc, .xls)"),
    (rb"\{\\rtf", "RTF"),
    (rb"\x1f\x8b", "gzip"),
    (rb"\xfd7zXZ\x00", "xz"),
    (rb"BZh[1-9]1AY", "bzip2"),
    (rb"\x28\xb5\x2f\xfd", "Zstandard"),
    (rb"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (rb"(?:\xef\xbb\xbf)?\s{0,99}(?:<!--.{0,999}?-->\s{0,99})?(?i:<!doctype\s+html|<html)[\s>]", "HTML"),
)


def document_kind(head: bytes) -> str | None:
    """What a file is that holds text but is none, by its first bytes; None for anything else.

    >>> document_kind(b"%PDF-1.7"), document_kind(b"<!DOCTYPE html>\\n<html>"), document_kind(b"text")
    ('PDF', 'HTML', None)
    """
    return next((kind for begun, kind in _DOCUMENTS if re.match(begun, head[:5000], re.S)), None)


def known_encoding(name: str) -> str:
    """Python's name for an encoding that a user asked for; Shift_JIS is read as CP932, which holds all of it.

    Raises UsageError for a name that Python does not know as a text encoding.

    >>> known_encoding("Shift-JIS"), known_encoding("UTF8"), known_encoding("EUC-JP")
    ('cp932', 'utf-8', 'euc_jp')
    """
    try:
        "a".encode(name)  # a LookupError also for codecs that are no text encodings
        found = codecs.lookup(name).name
    except (LookupError, ValueError):  # ValueError: a NUL in the name, or the codec "undefined"
        raise UsageError("encoding_unknown", got=name) from None
    return "cp932" if found == "shift_jis" else found


class Decoder:
    """Decodes one file, piece by piece.

    head: the first bytes of the file, all of it if `complete`. encoding: from known_encoding, or None to detect it.
    Newlines become \\n and a byte order mark is dropped; a few NUL or other control characters stay as they are. Raises
    LoadError naming the file when the head is no text in an encoding that is known.
    """

    def __init__(self, name: str, head: bytes, complete: bool, encoding: str | None = None) -> None:
        self._name = name
        self.encoding = encoding or _detect(name, head, complete)
        """Python's name for it; "utf-8-sig" for UTF-8 with a byte order mark."""
        self._decoder = codecs.getincrementaldecoder(self.encoding.removesuffix("-sig"))("strict")
        self._newlines = io.IncrementalNewlineDecoder(None, translate=True)
        self._forced = encoding is not None
        self._fed = 0  # bytes
        self._begun = False

    @property
    def crlf(self) -> bool:
        """Whether some newline so far was CR LF or CR."""
        return self._newlines.newlines not in (None, "\n")

    def feed(self, data: bytes, final: bool) -> str:
        """The text of the next bytes. Raises LoadError with the offset of the first one that does not fit."""
        pending = self._decoder.getstate()[0]  # bytes of a character that was cut by the last piece
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            raise self._misfit(error.object, error.start, len(pending)) from None
        except UnicodeError:  # UTF-16 that begins without a mark, or what a codec written in Python says of any bytes
            if wide := _wide(pending + data):
                raise LoadError("corpus_wide", file=self._name, encoding=wide) from None
            raise self._misfit(pending + data, 0, len(pending)) from None
        if self.encoding == "cp932" and (bad := _NO_CP932.search(text)):
            raise self._misfit(pending + data, len(text[: bad.start()].encode("cp932")), len(pending))
        self._fed += len(data)
        if text and not self._begun:
            self._begun, text = True, text.removeprefix("\ufeff")
        if self._forced and (controls := _count(_CONTROL_RUNS, text)) >= 4 and controls > 0.02 * len(text):
            raise LoadError("corpus_binary", file=self._name, count=controls, size=len(data))
        return str(self._newlines.decode(text, final))

    def _misfit(self, data: bytes, start: int, pending: int) -> LoadError:
        place = {"byte": f"0x{data[start]:02X}", "offset": self._fed - pending + start}
        return LoadError("corpus_bytes", file=self._name, **place, encoding=self.encoding)


def decode(name: str, data: bytes, encoding: str | None = None) -> str:
    """All of a file as text. See Decoder."""
    return Decoder(name, data, True, encoding).feed(data, True)


def _detect(name: str, head: bytes, complete: bool) -> str:
    _refuse_binary(name, head)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head, complete)
        return "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8"
    except UnicodeDecodeError as error:
        place = {"byte": f"0x{head[error.start]:02X}", "offset": error.start}
        cut = error.reason == "unexpected end of data"
    texts = {} if cut or _is_broken_utf8(head) else {e: _japanese(head, e, complete) for e in JAPANESE_ENCODINGS}
    usual = {e: text for e, text in texts.items() if text is not None and not _mostly_half_width(text)}
    fitting = [e for e, text in usual.items() if _reads_like_japanese(text, e)]
    if len(fitting) == 1:
        return fitting[0]
    # Kanji alone, or both encodings: a person must say it. Text that is mostly ASCII is something else altogether.
    possible = fitting or [e for e, text in texts.items() if text and _count(_FOREIGN, text) > 0.5 * len(text)]
    if possible:
        raise LoadError("corpus_encoding_maybe", file=name, **place, encodings=", ".join(possible))
    raise LoadError("corpus_encoding", file=name, **place)


def _refuse_binary(name: str, data: bytes) -> None:
    controls = len(data) - len(data.translate(None, _CONTROLS))
    binary = controls >= 4 and controls > 0.02 * len(data)
    if data.startswith(tuple(_MARKS)):
        return
    # Without a mark: ASCII has NUL for every other byte, and 。 and 、 are U+3002 and U+3001.
    if binary and (wide := _wide(data)):
        raise LoadError("corpus_wide", file=name, encoding=wide)
    if b"\x1b$B" in data or b"\x1b$@" in data:  # the shifts of ISO-2022-JP, which is all ASCII to UTF-8
        raise LoadError("corpus_iso2022", file=name)
    if binary:
        raise LoadError("corpus_binary", file=name, count=controls, size=len(data))


def _wide(data: bytes) -> str | None:
    """The encoding of two or four bytes a character that they can be, without a mark."""
    return next((e for e in _WIDE if _reads_as(data[: 2**20], e)), None)


def _reads_as(data: bytes, encoding: str) -> bool:
    """Whether all of it is text in that encoding, a third of it ASCII or kana: chance gives kanji of all kinds."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    if any(unicodedata.category(ch) in ("Cn", "Co") or (ch < " " and ch not in "\t\n\v\f\r") for ch in text):
        return False
    return 3 * (len(text) - _count(_FOREIGN, text) + _count(_JAPANESE, text)) > len(text)


def _is_broken_utf8(data: bytes) -> bool:
    """Whether whole multi-byte characters of UTF-8 outnumber the places where it fails; in CP932 they are rare."""
    text = data.decode("utf-8", "replace")
    failures = text.count("\ufffd")
    return _count(_FOREIGN, text) - failures >= failures


def _japanese(data: bytes, encoding: str, complete: bool) -> str | None:
    """The text, if all of it decodes, to characters that stand for something."""
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(data, complete)
    except UnicodeDecodeError:
        return None
    return None if _UNASSIGNED.search(text) else text


def _mostly_half_width(text: str) -> bool:
    """More half-width katakana than chance: true of old business data, and of Latin-1 that is taken for CP932."""
    return _count(_HALF_WIDTH, text) > 0.1 * len(text)


def _reads_like_japanese(text: str, encoding: str) -> bool:
    # The comma and stop of GBK have the codes that they have in EUC-JP, so there only kana count.
    return _count(_KANA if encoding == "euc_jp" else _JAPANESE, text) >= 0.1 * _count(_FOREIGN, text)


def _count(runs: re.Pattern[str], text: str) -> int:
    return sum(map(len, runs.findall(text)))
