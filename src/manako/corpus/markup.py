"""HTML and EPUB as plain text: what stands in the lines, without readings (ruby), scripts, styles and pictures.

Special here: a scanner of our own that looks for the next mark and never goes back, since `html.parser` takes a time
that grows with the square of some texts (python/cpython#135462), and no XML parser, so that no entity grows. Nesting
is counted, never followed. A picture that stands for one character (gaiji) is that character. Source of what is a
block: HTML Living Standard, section 15.3, "Non-replaced elements".
"""

import html
import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from manako.corpus.archives import refuse_bomb
from manako.errors import LoadError

MOST_BYTES = 32 << 20  # of one page, and of all pages of a book together
_MARK = re.compile(r"<!--|<!\[CDATA\[|<[!?]|</?(?=[A-Za-z])")
_NAME = re.compile(r"[A-Za-z][^\s/>]{0,60}")
_ATTRIBUTE = re.compile(r"""([A-Za-z][\w:.-]{0,60})\s{0,20}=\s{0,20}("[^"]*"|'[^']*'|[^\s"'>]+)""")
_IN_TAG = re.compile(r"""[>"']""")
_RAW_END = re.compile(r"</(?:script|style)", re.I)
_ENDS = {"<!--": "-->", "<![CDATA[": "]]>"}
_SILENT = {"script", "style", "template", "svg", "math", "rt", "rp", "rtc", "textarea", "select", "noscript", "iframe"}
_PARAGRAPHS = set(
    "address article aside blockquote body dd div dl dt figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr li"
    " main nav ol p pre section table tr ul".split()
)
_WIDE = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_BROKEN = re.compile(rf"(?<=[{_WIDE}])[ \t]*\n[ \t\n]*(?=[{_WIDE}])")  # a line of the file ends inside a sentence
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
    for name, closing, attributes, text in _marks(markup.replace("\0", "")):  # which stands for the end of a line below
        if text:
            if heading:
                title.append(text)
            elif not silent:
                out.append(text.replace("\n", "\0") if kept else _BROKEN.sub("", text))
        if name == "title" and not silent:
            heading = 0 if closing else 1
        elif name in _SILENT:
            left_out["ruby"] += name == "rt" and not closing and not silent
            silent = max(0, silent + (-1 if closing else 1))
        elif name in ("rb", "ruby"):  # old pages leave the ends of rt and rp out
            silent = 0 if closing or name == "rb" else silent
        elif name == "img" and not silent:
            alt = html.unescape(_NUMBER.sub("", attributes.get("alt", "")))
            out.append(alt if len(alt) == 1 else "")
            left_out["picture"] += len(alt) != 1
        elif name == "br" and not silent:
            out.append("\0")
        elif name in _PARAGRAPHS:
            out.append("\0\0" if name not in ("li", "tr", "dt", "dd") else "\0")
        if name == "pre":
            kept = 0 if closing else 1
    joined = re.sub(r"[ \t\n]+", " ", "".join(out))
    lines = [line.strip(" ") for line in joined.split("\0")]
    found = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    named = " ".join("".join(title).split())
    return Page(found + "\n" if found else "", named or None, +left_out)


def declared_encoding(head: bytes) -> str | None:
    """What the first lines of a page say of their encoding."""
    found = re.search(rb"""(?:charset|encoding)\s{0,9}=\s{0,9}["']?([\w.:-]{1,40})""", head[:2048])
    return found.group(1).decode("ascii") if found else None


def _marks(markup: str) -> Iterator[tuple[str, bool, dict[str, str], str]]:
    """(name of the element, whether it ends, its attributes, the text before it) of each mark, and of the end."""
    at, gone = 0, set[str]()  # what is looked for to the end and not there is not looked for again

    def after(end: str, start: int) -> int:
        place = -1 if end in gone else markup.find(end, start)
        if place < 0:
            gone.add(end)
        return place

    before: list[str] = []
    while mark := _MARK.search(markup, at):
        before.append(_plain(markup[at : mark.start()]))
        opening = mark.group()
        end = _ENDS.get(opening, ">")
        close = after(end, mark.end()) if opening[:2] in ("<!", "<?") else _tag_end(markup, mark.end(), after)
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
            attributes = {key.lower(): value.strip("\"'") for key, value in _ATTRIBUTE.findall(inside[:4000])}
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
    at = start if after(">", start) >= 0 else len(markup)
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
        there = {info.filename: info for info in archive.infolist()}
        left = MOST_BYTES

        def read(name: str) -> str:
            nonlocal left
            if (info := there.get(name)) is None:
                raise LoadError("file_unreadable", file=path, reason=f"it has no {name[:200]!r}")
            left -= info.file_size
            refuse_bomb(path, path.stat().st_size, MOST_BYTES - left)
            if left < 0:
                raise LoadError("file_too_large", file=path, size=f"> {MOST_BYTES}", limit=MOST_BYTES)
            data = archive.read(info)
            named = declared_encoding(data) or "utf-8"
            try:
                return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else named).removeprefix("\ufeff")
            except (UnicodeDecodeError, LookupError) as error:
                raise LoadError("file_unreadable", file=f"{path}:{name}", reason=error) from None

        roots = (a["full-path"] for tag, _, a, _ in _marks(read("META-INF/container.xml")) if "full-path" in a)
        place = next(roots, "")
        package = list(_marks(read(place)))
        files = {a["id"]: a for tag, _, a, _ in package if tag == "item" and "id" in a and "href" in a}
        order = [
            a["idref"] for tag, _, a, _ in package if tag == "itemref" and "idref" in a and a.get("linear") != "no"
        ]
        locked = "META-INF/encryption.xml"
        sealed = {a["uri"] for _, _, a, _ in _marks(read(locked)) if "uri" in a} if locked in there else set[str]()
        pages: list[str] = []
        left_out: Counter[str] = Counter()
        for key in dict.fromkeys(order):
            item = files.get(key, {})
            if "html" not in item.get("media-type", "") or "nav" in item.get("properties", "").split():
                continue  # a picture, or a table of contents
            name = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(html.unescape(item["href"]))))
            if name in sealed:
                raise LoadError("file_unreadable", file=path, reason="its pages are encrypted (DRM)")
            page = read_page(read(name))
            left_out += page.left_out
            pages += [page.text] if page.text else []
        said = {tag: text for tag, closing, _, text in package if closing and tag in ("title", "creator")}
        return Book("\n".join(pages), said.get("title") or None, said.get("creator") or None, left_out)
