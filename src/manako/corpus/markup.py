"""HTML and EPUB as plain text: what stands in the lines, without readings (ruby), scripts, styles and pictures.

Special here: a scanner of our own that looks for the next mark and never goes back, since `html.parser` takes a time
that grows with the square of some texts (python/cpython#135462), and no XML parser, so that no entity grows. Nesting
is counted, never followed. A picture that stands for one character (gaiji) is that character, also where it is
described as Aozora Bunko does. Source of what is a block: HTML Living Standard, section 15.3, "Non-replaced elements".
"""

import codecs
import html
import posixpath
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from manako.corpus.aozora import described_character
from manako.corpus.archives import refuse_bomb
from manako.corpus.encodings import Decoder
from manako.errors import LoadError

MOST_BYTES = 32 << 20  # of one page, and of all pages of a book together
_MARK = re.compile(r"<!--|<!\[CDATA\[|<[!?]|</?(?=[A-Za-z])")
_NAME = re.compile(r"[A-Za-z][^\s/>]{0,60}")
_ATTRIBUTE = re.compile(r"""([A-Za-z][\w:.-]{0,60})\s{0,20}=\s{0,20}("[^"]*(?:"|\Z)|'[^']*(?:'|\Z)|[^\s"'>]+)""")
_IN_TAG = re.compile(r"""[>"']""")
_RAW_END = re.compile(r"</(?:script|style)", re.I)
_ENDS = {"<!--": "-->", "<![CDATA[": "]]>"}
_SILENT = {"script", "style", "template", "svg", "math", "textarea", "select", "noscript", "iframe"}
_READINGS = {"rt", "rp", "rtc"}
_PARAGRAPHS = set(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li listing main menu nav ol p pre search section summary"
    " table tr ul xmp".split()
)
_WIDE = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_BROKEN = re.compile(rf"(?<=[{_WIDE}])[ \t]*\n[ \t\n]*(?=[{_WIDE}])")  # a line of the file ends inside a sentence
_DECLARED = re.compile(
    rb"""(?:\A\s{0,20}<\?xml\s[^<>]{0,99}?\sencoding|<meta\s[^<>]{0,300}?charset)\s{0,9}=\s{0,9}["']?"""
    rb"([\w.:-]{1,40})",
    re.I,
)
_AS_BROWSERS = {  # what a declared name stands for: https://encoding.spec.whatwg.org/#names-and-labels
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "shift_jis": "cp932", "gb2312": "gb18030",
    "gbk": "gb18030", "euc_kr": "cp949", "big5": "big5hkscs",
}  # fmt: skip
_ASCII = b"<+AGE-\\x41 xn--wgv>"  # another text in UTF-7, Punycode and the like
_NUMBER = re.compile(r"&#(?:x[0-9a-f]{8,}|[0-9]{9,});?", re.I)  # no character has it, and int() takes its time


@dataclass(frozen=True)
class Page:
    """What a page says."""

    text: str
    title: str | None
    left_out: Counter[str]
    """"ruby" and "picture": how many of them."""


def read_page(markup: str) -> Page:
    """The text of an HTML or XHTML page."""
    out: list[str] = []
    title: list[str] = []
    left_out: Counter[str] = Counter()
    silent = heading = kept = 0  # how many elements are open whose text is not taken, is the title, is kept as it is
    rubies = readings = 0  # and how many rubies, and readings in them
    markup = markup.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")  # \0 is the end of a line below
    for name, closing, attributes, text in _marks(markup):
        if text:
            if heading:
                title.append(text)
            elif not silent and not readings:
                out.append(text.replace("\n", "\0") if kept else _BROKEN.sub("", text))
        if name == "title" and not silent:
            heading = 0 if closing else 1
        elif name in _SILENT:
            silent = max(0, silent + (-1 if closing else 1))
        elif silent:
            continue
        elif name in _READINGS:
            left_out["ruby"] += name == "rt" and not closing and rubies > 0
            readings = max(0, readings + (-1 if closing else 1)) if rubies else 0
        elif name in ("rb", "ruby"):  # old pages leave the ends of rt and rp out
            readings = 0
            rubies = max(0, rubies + (name == "ruby") * (-1 if closing else 1))
        elif name == "img" and not readings:
            shown = _character_of(attributes)
            out.append(shown)
            left_out["picture"] += not shown
        elif name == "br" and not readings:
            out.append("\0")
        elif name in ("td", "th"):
            out.append(" ")
        elif name in _PARAGRAPHS:
            rubies = readings = 0  # no ruby goes on there
            out.append("\0\0" if name not in ("li", "tr", "dt", "dd") else "\0")
        if name == "pre":
            kept = 0 if closing else 1
    joined = re.sub(r"[ \t\n\f]+", " ", "".join(out))
    lines = [line.strip(" ") for line in joined.split("\0")]
    found = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    named = " ".join("".join(title).split())
    return Page(found + "\n" if found else "", named or None, +left_out)


def _character_of(picture: dict[str, str]) -> str:
    """The character that a picture stands for, or nothing."""
    alt = html.unescape(_NUMBER.sub("", picture.get("alt", "")))
    if re.match("※[(（［]", alt):  # the code may stand in the name of the file alone: gaiji/1-84/1-84-86.png
        return described_character(f"{alt} {picture.get('src', '')[-100:]}")
    return alt if len(alt) == 1 else ""


def page_text(name: str, data: bytes, encoding: str | None = None) -> tuple[str, Decoder]:
    """A page as markup, and what decoded it. A mark or UTF-8 goes before what the page declares.

    Raises LoadError when it is not text in a known encoding.
    """
    try:
        decoder = Decoder(name, data, True, encoding)
        return decoder.feed(data, True), decoder
    except LoadError:
        declared = declared_encoding(data)
        if encoding or declared is None:
            raise
        decoder = Decoder(name, data, True, declared)
        return decoder.feed(data, True), decoder


def declared_encoding(head: bytes) -> str | None:
    """Python's name of what the first lines of a page say of their encoding, where that can be."""
    found = _DECLARED.search(head[:4096])
    if not found:
        return None
    label = found.group(1).decode("ascii").lower().removeprefix("x-")
    try:
        name = codecs.lookup(re.sub(r"^windows-(?=\d+$)", "cp", label)).name
        possible = _ASCII.decode(name) == _ASCII.decode()  # the declaration itself was read as ASCII
    except (LookupError, ValueError):
        return None
    return _AS_BROWSERS.get(name, name) if possible else None


def _marks(markup: str) -> Iterator[tuple[str, bool, dict[str, str], str]]:
    """(name of the element, whether it ends, its attributes, the text before it) of each mark, and of the end."""
    at, gone = 0, set[str]()  # what is looked for to the end and not there is not looked for again

    def after(end: str, start: int) -> int:
        place = -1 if end in gone else markup.find(end, start)
        if place < 0:
            gone.add(end)
        return place

    before: list[str] = []
    quoting = True  # whether a > in quotes is part of a tag
    while mark := _MARK.search(markup, at):
        before.append(_plain(markup[at : mark.start()]))
        opening = mark.group()
        end = _ENDS.get(opening, ">")
        close = -1
        if quoting and opening in ("<", "</"):
            close = _tag_end(markup, mark.end(), after)
            quoting = close >= 0  # else it would be looked for to the end again and again
        close = close if close >= 0 else after(end, mark.end())
        if close < 0:  # it never ends: a mark of the text
            before.append(opening)
            at = mark.end()
            continue
        inside = markup[mark.end() : close]
        at = close + len(end)
        if opening == "<![CDATA[":
            before.append(inside)
        elif opening in ("<", "</") and (name := _NAME.match(inside)):
            tag = name.group().lower().rpartition(":")[2]
            attributes = {key.lower(): value.strip("\"'") for key, value in _ATTRIBUTE.findall(inside)}
            yield tag, opening == "</", attributes, "".join(before)
            before = []
            if opening == "<" and inside.endswith("/") and tag in _SILENT | {"title"}:
                yield tag, True, {}, ""
            elif opening == "<" and tag in ("script", "style"):  # in which nothing is a mark
                found = _RAW_END.search(markup, at)
                at = found.start() if found else len(markup)
    yield "", False, {}, "".join((*before, _plain(markup[at:])))


def _tag_end(markup: str, start: int, after: Callable[[str, int], int]) -> int:
    """Where the tag that begins there ends: at the next > outside quotes, -1 where there is none."""
    at = start
    while found := _IN_TAG.search(markup, at):
        if found.group() == ">":
            return found.start()
        quoted = markup[found.start() - 1] in "= \t\n"  # an apostrophe in a tag of nobody's is no quote
        closed = after(found.group(), found.end()) if quoted else -1
        at = closed + 1 if closed >= 0 else found.end()
    return -1


def _plain(text: str) -> str:
    return html.unescape(_NUMBER.sub("", text)) if "&" in text else text


@dataclass(frozen=True)
class Book:
    """What an EPUB says: its pages one after another."""

    text: str
    title: str | None
    author: str | None
    left_out: Counter[str]


def read_book(path: Path) -> Book:
    """The text of an EPUB, in the order of its pages. Raises LoadError, and what `zipfile` raises for a damaged one."""
    with zipfile.ZipFile(path) as archive:
        there = {_place(_utf_8_name(info)): info for info in archive.infolist()}
        left = MOST_BYTES

        def read(name: str) -> str:
            nonlocal left
            if (info := there.get(name)) is None:
                raise LoadError("file_unreadable", file=path, reason=f"it has no {name[:200]!r}")
            left -= info.file_size
            refuse_bomb(path, path.stat().st_size, MOST_BYTES - left)
            if left < 0:
                raise LoadError("file_too_large", file=path, size=f"> {MOST_BYTES}", limit=MOST_BYTES)
            return page_text(f"{path}:{name}", archive.read(info))[0]

        roots = (a["full-path"] for tag, _, a, _ in _marks(read("META-INF/container.xml")) if "full-path" in a)
        place = _place(html.unescape(next(roots, "")))
        package = list(_marks(read(place)))
        files = {a["id"]: a for tag, _, a, _ in package if tag == "item" and "id" in a and "href" in a}
        order = [
            a["idref"] for tag, _, a, _ in package if tag == "itemref" and "idref" in a and a.get("linear") != "no"
        ]
        locked = "META-INF/encryption.xml"
        sealed = (
            {_target(a["uri"]) for _, _, a, _ in _marks(read(locked)) if "uri" in a} if locked in there else set[str]()
        )
        pages: list[str] = []
        left_out: Counter[str] = Counter()
        for key in dict.fromkeys(order):
            item = files.get(key, {})
            if "html" not in item.get("media-type", "") or "nav" in item.get("properties", "").split():
                continue  # a picture, or a table of contents
            name = _target(item["href"], posixpath.dirname(place))
            if name in sealed:
                raise LoadError("file_unreadable", file=path, reason="its pages are encrypted (DRM)")
            page = read_page(read(name))
            left_out += page.left_out
            pages += [page.text] if page.text else []
        first = {tag: " ".join(text.split()) for tag, closing, _, text in reversed(package) if closing}
        return Book("\n".join(pages), first.get("title") or None, first.get("creator") or None, left_out)


def _place(name: str, folder: str = "") -> str:
    """A name in an archive, written in one way: programs differ in slashes and in the form of accents."""
    path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
    return unicodedata.normalize("NFC", path).lstrip("/")


def _target(address: str, folder: str = "") -> str:
    """The name that an address in a package stands for."""
    return _place(unquote(html.unescape(address).partition("#")[0]), folder)


def _utf_8_name(member: zipfile.ZipInfo) -> str:
    """The name, which the format has in UTF-8, also where the zip does not say so."""
    try:
        return member.filename if member.flag_bits & 0x800 else member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename
