"""Token text made safe and visible, and the marks a terminal can draw.

Special here: a token is hostile text. Everything that moves the cursor, changes direction or cannot be seen is spelled
out before anything prints it. Glyphs of East Asian ambiguous width are used only where they are known to take one cell.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from rich.cells import cell_len

from manako import messages
from manako.messages.unseen import UNSEEN

_NAMED = {" ": "space", "\n": "newline", "\t": "tab", "\u3000": "fullwidth_space"}
_MARKS_IN_A_ROW = 2  # combining marks shown on one base; more would pile up over other lines


class Token(Protocol):
    """What a label needs to know: a candidate of a step has it, and a piece of a text."""

    @property
    def bytes(self) -> bytes: ...
    @property
    def text(self) -> str: ...
    @property
    def special(self) -> bool: ...


@dataclass(frozen=True)
class Glyphs:
    """What the terminal at hand can draw."""

    full: str
    """One cell of a bar."""
    half: str
    """Half a cell, "" where there is none."""
    shades: str
    """Five cells from nothing to full."""
    mark: str
    """In front of the chosen candidate."""
    space: str
    newline: str
    tab: str
    left: str
    """Brackets around what is spelled out."""
    right: str
    encoding: str = "utf-8"
    """Characters that it lacks are spelled out."""


_UNICODE = {
    "mark": "\u25ba",
    "space": "\u2423",
    "newline": "\u23ce",
    "tab": "\u21e5",
    "left": "\u2039",
    "right": "\u203a",
}
BLOCK = Glyphs(full="\u2588", half="\u258c", shades=" \u2591\u2592\u2593\u2588", **_UNICODE)
BRAILLE = Glyphs(full="\u28ff", half="\u2847", shades=" \u2812\u2836\u287e\u28ff", **_UNICODE)
ASCII = Glyphs(full="#", half="", shades=" .:*#", mark=">", space="<SP>", newline="\\n", tab="\\t", left="<", right=">")


def choose(encoding: str, environ: Mapping[str, str], ambiguous_width: int | None) -> Glyphs:
    """The glyphs for an output of this encoding.

    ambiguous_width: cells that the terminal was seen to give a glyph of ambiguous width, None where nobody asked it.
    """
    if not _encodable("".join(vars(BRAILLE).values()), encoding):
        return replace(ASCII, encoding=encoding)
    told = environ.get("MANAKO_AMBIGUOUS_WIDTH", "")
    width = int(told) if told in ("1", "2") else ambiguous_width
    if width is None:
        width = 2 if locale_is_cjk(environ) else 1
    return BLOCK if width == 1 else BRAILLE


_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")  # Python puts one of these there where LANG's locale is not installed


def locale_is_cjk(environ: Mapping[str, str]) -> bool:
    """Whether the locale is one in which terminals may draw ambiguous glyphs two cells wide."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = environ.get(name, "")
        if name == "LC_CTYPE" and value in _COERCED:
            continue
        if value:
            return value.lower().startswith(("ja", "zh", "ko"))
    return False


_AS_IT_IS = re.compile("[!-~\u3001-\u3003\u300c-\u300f\u3041-\u3096\u30a1-\u30fa\u30fc\u4e00-\u9fa5]*")
"""Letters that stand for themselves in UTF-8: most of any text, which need no look at each of them."""


def visible(text: str, glyphs: Glyphs) -> str:
    """A text with everything dangerous or invisible spelled out, on one line.

    >>> visible("a\\x1b[2J\\u202eb \\n", ASCII)
    'a\\\\x1b[2J\\\\u202eb<SP>\\\\n'
    """
    if glyphs.encoding == "utf-8" and _AS_IT_IS.fullmatch(text):
        return text
    shown: list[str] = []
    marks = _MARKS_IN_A_ROW  # a combining mark at the start has nothing to sit on
    for ch in text:
        category = unicodedata.category(ch)
        if category[0] == "M" and not UNSEEN.match(ch) and marks < _MARKS_IN_A_ROW:
            shown.append(ch)
            marks += 1
            continue
        shown.append(_spelled(ch, category, glyphs))
        marks = 0 if category[0] in "LNPS" else _MARKS_IN_A_ROW
    return "".join(shown)


def visible_bytes(data: bytes, glyphs: Glyphs) -> str:
    """The same for bytes: those that are no whole character stand in brackets.

    >>> visible_bytes("\u732b ".encode() + b"\\xe3\\x81", BLOCK)
    '\u732b\u2423\u2039E3 81\u203a'
    """
    # Python's own stand-ins for bytes that are no text, U+DC80 to U+DCFF, which no UTF-8 can spell.
    pieces = re.split("([\udc80-\udcff]+)", data.decode("utf-8", "surrogateescape"))
    for n in range(1, len(pieces), 2):
        pieces[n] = f"{glyphs.left}{pieces[n].encode('utf-8', 'surrogateescape').hex(' ').upper()}{glyphs.right}"
    return "".join(piece if n % 2 else visible(piece, glyphs) for n, piece in enumerate(pieces))


def prose(text: str, glyphs: Glyphs, one_line: bool = True) -> str:
    """A running text for people: spaces as they are, newlines too unless it must be one line, else as in `visible`."""
    as_is = " \u3000" if one_line else " \u3000\n"
    pieces = re.split(f"([{as_is}])", text)
    return "".join(piece if piece in as_is else visible(piece, glyphs) for piece in pieces)


def label(token: Token, glyphs: Glyphs, lang: str, cells: int, pending: bytes = b"") -> str:
    """What stands for a token in a list, in at most `cells` cells; invisible ones with their name where it fits.

    pending: bytes of an unfinished character before it, with which it may make a whole one.
    """
    if token.special:
        return cut(messages.text("token.special", lang, text=visible(token.text, glyphs)), cells)
    if not token.bytes:
        return messages.text("token.empty", lang)
    if is_partial(token.bytes):
        return _partial_label(token, glyphs, cells, pending)
    spelled = visible(token.text, glyphs)
    if name := _name(token.text, lang):
        named = f"{spelled} {name}"
        return named if cell_len(named) <= cells else cut(spelled, cells)
    return cut(messages.text("token.quoted", lang, text=spelled), cells)


def plain_label(token: Token, glyphs: Glyphs, lang: str, pending: bytes = b"") -> str:
    """The same in a sentence, where nothing limits the room."""
    return label(token, glyphs, lang, 200, pending)


def cut(text: str, cells: int) -> str:
    """The start of a text in at most `cells` cells, with ~ where something is missing.

    >>> cut("\u732b\u304c\u3044\u308b", 5), cut("cat", 5)
    ('\u732b\u304c~', 'cat')
    """
    if cell_len(text) <= cells:
        return text
    kept = ""
    for ch in text:
        if cell_len(kept + ch) > cells - 1:
            break
        kept += ch
    return kept + "~"


def prose_tail(text: str, glyphs: Glyphs, cells: int) -> str:
    """The end of a running text on one line, in at most `cells` cells, with ... where something is missing."""
    near = text[-4 * cells :]  # enough to fill the room, however long the text before it has grown
    shown = prose(near, glyphs)
    if near == text and cell_len(shown) <= cells:
        return shown
    start, room = len(shown), cells - 3
    while start and (room := room - cell_len(shown[start - 1])) >= 0:
        start -= 1
    return "..." + shown[start:]


def pad(text: str, cells: int, right: bool = False) -> str:
    """Fill up with spaces to `cells` cells, by display width."""
    space = " " * max(0, cells - cell_len(text))
    return space + text if right else text + space


def pending_bytes(data: bytes) -> bytes:
    """The bytes at the end of a text that have begun a character and not finished it.

    >>> pending_bytes("\u732b".encode()[:2]), pending_bytes("\u732b".encode())
    (b'\\xe7\\x8c', b'')
    """
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead >= 0xC0:
            wanted = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return data[-back:] if back < wanted and lead < 0xF5 else b""
        if lead < 0x80:
            return b""
    return b""


def is_partial(data: bytes) -> bool:
    """Whether bytes are no whole characters."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _partial_label(token: Token, glyphs: Glyphs, cells: int, pending: bytes) -> str:
    """Bytes of a part of a character: those that finish a pending one show it, a first one the range it can become."""
    spelled = token.bytes.hex(" ").upper()
    try:
        whole = (pending + token.bytes).decode("utf-8") if pending else ""
    except UnicodeDecodeError:
        whole = ""
    if whole:
        return cut(f"{glyphs.left}+{spelled}{glyphs.right} {visible(whole, glyphs)}", cells)
    shown = f"{glyphs.left}{spelled}{glyphs.right}"
    could = _range(pending + token.bytes)
    with_range = f"{shown} {visible(could[0], glyphs)}-{visible(could[1], glyphs)}" if could else shown
    return with_range if cell_len(with_range) <= cells else cut(shown, cells)


def _range(begun: bytes) -> tuple[str, str] | None:
    """The first and the last character that bytes which begin one can still become."""
    lead = begun[0]
    size = 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if 0xF0 <= lead < 0xF5 else 0
    missing = size - len(begun)
    if missing <= 0:
        return None
    lowest = {0xE0: b"\xa0", 0xF0: b"\x90"}.get(lead, b"\x80") if len(begun) == 1 else b"\x80"
    highest = {0xED: b"\x9f", 0xF4: b"\x8f"}.get(lead, b"\xbf") if len(begun) == 1 else b"\xbf"
    try:
        first = (begun + lowest + b"\x80" * (missing - 1)).decode("utf-8")
        last = (begun + highest + b"\xbf" * (missing - 1)).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return first, last


def _spelled(ch: str, category: str, glyphs: Glyphs) -> str:
    if ch in " \n\t":
        return {" ": glyphs.space, "\n": glyphs.newline, "\t": glyphs.tab}[ch]
    code = ord(ch)
    if category == "Cc":
        return f"\\x{code:02x}"
    if category in ("Zl", "Zp") or unicodedata.bidirectional(ch) in _BIDI or ch in "\u061c\u200e\u200f":
        return f"\\u{code:04x}"
    if ch == "\u200d":
        return f"{glyphs.left}ZWJ{glyphs.right}"
    if is_variation_selector(ch):
        number = code - 0xFE00 + 1 if code < 0xFF00 else code - 0xE0100 + 17
        return f"{glyphs.left}VS{number}{glyphs.right}"
    if category in ("Cf", "Zs", "Cs", "Co", "Cn") or category[0] == "M" or cell_len(ch) == 0 or UNSEEN.match(ch):
        return f"{glyphs.left}U+{code:04X}{glyphs.right}"
    if ch in "\u2039\u203a":  # the brackets of bytes in bytes_to_text
        return glyphs.left if ch == "\u2039" else glyphs.right
    if glyphs.encoding != "utf-8" and not _encodable(ch, glyphs.encoding):
        return f"{glyphs.left}U+{code:04X}{glyphs.right}"
    return ch


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


_BIDI = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")


def is_variation_selector(ch: str) -> bool:
    """U+FE00-FE0F and U+E0100-E01EF."""
    return "\ufe00" <= ch <= "\ufe0f" or "\U000e0100" <= ch <= "\U000e01ef"


def _name(text: str, lang: str) -> str | None:
    """The name of a token that is one invisible character."""
    if len(text) != 1:
        return None
    if text in _NAMED:
        return messages.text(f"token.{_NAMED[text]}", lang)
    if unicodedata.category(text)[0] in "CZM":
        return unicodedata.name(text, "").lower() or messages.text("token.control", lang)
    return None
