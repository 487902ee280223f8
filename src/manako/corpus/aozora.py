"""A work as Aozora Bunko (青空文庫) publishes it: its notation taken out, title and author read from its head.

Special here: characters outside JIS X 0208 are written as a description with a code; the code is looked up, so that
the character itself comes back. One without a code becomes the geta mark 〓, as printers do, never a guess. Repeat
marks and accents that were taken apart for JIS (／＼, 〔cafe'〕) become the characters that were printed (〳〵,
café).
Source: https://www.aozora.gr.jp/aozora-manual/ and accent_separation.html; JIS X 0213 through Python's euc_jis_2004.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

GETA = "〓"
HISTORICAL_SHARE = 0.25  # of the telling spellings; nearly every work has less than 0.1 or more than 0.9
_MARK = (
    r"［＃(?:[^［］]|［[^］]{0,100}］){0,400}］"  # an annotation, which may hold others one deep; the longest has 202
)
_GAIJI = re.compile("※" + _MARK)
_ANNOTATION_LINES = re.compile(rf"^(?:{_MARK})+[ 　]*\n", re.M)
_ANNOTATION = re.compile(_MARK)
_RUBY = re.compile(r"《[^》\n]{0,200}》")  # without a bound, a file of 《 alone would take for ever
_UNICODE = re.compile(r"U\+([0-9A-Fa-f]{4,6})")
_JIS = re.compile(r"(?:第[34]水準)?([12])-(\d{1,2})-(\d{1,2})")
_RULE = re.compile(r"^-{20,}\n", re.M)  # the block that explains the marks stands between two such lines
_TRAILER = re.compile(r"^[ 　]*底本[：:]", re.M)
_CREDITS = re.compile(r"^(?:テキスト入力|入力|翻訳者|青空文庫(?:作成|収録)ファイル)[^\n：:]{0,2}[：:]", re.M)
_CREDITS_REACH = 3000  # characters from the end
_CREDIT = re.compile(r"^(?:青空文庫\w{0,2}ファイル[：:])?このファイルは[^\n]*青空文庫[^\n]*(?:\n|\Z)", re.M)
_BRACKETS = re.compile(r"〔([^〔〕\n]*)〕")
_ACCENT = re.compile(r"(?:[AaOo]e|AE|OE)&|[Ss]&|[Oo]/|(?<![Qq])([AEIOUYaeiouy])'|[AEIOUaeiou][`^_]|[CGHJScghjs]\^|"
                     r"[ANOano]~|[AEIOUYaeiouy]:|[Aa]&|[Cc],(?=[A-Za-z])")  # fmt: skip
_COMBINING = dict(zip("`'^~:_,", "\u0300\u0301\u0302\u0303\u0308\u0304\u0327", strict=True)) | {"&": "\u030a"}
_LIGATURES = {
    "ae&": "æ", "oe&": "œ", "s&": "ß", "o/": "ø", "Ae&": "Æ", "AE&": "Æ", "Oe&": "Œ", "OE&": "Œ", "S&": "ẞ", "O/": "Ø",
}  # fmt: skip
_SPACES_AT_END = re.compile(
    r"(?<![ \t])[ \t]+\n"
)  # from where the spaces begin, or a long run would be tried again and again
_OLD_KANA = re.compile(
    "[ゐゑ]|[^か]つ[てた]|[やせ]う|さう[でだなしにい]|[云思言いはらまか]ふ|[考見云與変變答教迎数數へ]へ[てたる]"
)
_NEW_KANA = re.compile("っ|よう|[しちじ]ょ|そう[でだなしにい]|[云思言]う|[考見云与変答教迎数]え[てたる]|じゃ|だろう")


@dataclass(frozen=True)
class Work:
    """What a file of Aozora Bunko holds."""

    title: str | None
    author: str | None
    """The last line of the head: the author, or the translator with 訳 behind the name."""
    text: str
    """The running text in NFC, newlines as \\n: no head, trailer, ruby or annotations."""


def is_aozora(text: str) -> bool:
    """Whether a text is a work as Aozora Bunko publishes it: it has the explanation block, or trailer and credits."""
    if "【テキスト中に現れる記号について】" in text[:4000] and len(_RULE.findall(text[:20_000])) >= 2:
        return True
    if trailer := _TRAILER.search(text):
        return "［＃" in text or "青空文庫" in text[trailer.start() :]
    return "青空文庫" in text[-1000:] and _CREDITS.search(text, max(0, len(text) - _CREDITS_REACH)) is not None


def works(text: str) -> list[str]:
    """The works in a file to which several were joined, each ending with the credit to Aozora Bunko; mostly just one.

    Newlines must be \\n. What follows the last credit without a trailer of its own stays with the work before it.
    """
    ends = [m.end() for m in _CREDIT.finditer(text)]
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    joined = pieces[:1]
    for piece in pieces[1:]:
        if _TRAILER.search(piece):
            joined.append(piece.lstrip("\n"))
        else:
            joined[-1] += piece
    return joined


def work(source: str) -> Work:
    """A work in Aozora notation, read.

    The head ends with the block that explains the marks, or else at the first empty line; the text ends at the first
    line that begins with 底本：. A line that holds nothing but annotations goes as a whole.

    >>> body = "｜胴着《チョッキ》の※［＃「てへん＋蚤」、第3水準1-84-86］［＃「の」に傍点］。"
    >>> work(f"題\\n著者\\n\\n{body}\\n底本：全集")
    Work(title='題', author='著者', text='胴着の搔。\\n')
    """
    head, text = _head_and_text(source.replace("\r\n", "\n").replace("\r", "\n"))
    if trailer := _TRAILER.search(text):
        text = text[: trailer.start()]
    elif credit := _CREDITS.search(
        text, max(0, len(text) - _CREDITS_REACH)
    ):  # a few works of the first years have no such line
        gap = text.rfind("\n\n\n", 0, credit.start())
        text = text[: gap if gap >= 0 else credit.start()]
    lines = [line.strip() for line in _plain(head).split("\n") if line.strip()]
    text = _SPACES_AT_END.sub("\n", _plain(text))
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"
    return Work(lines[0] if lines else None, lines[-1] if len(lines) > 1 else None, text)


def kana_of(text: str) -> Literal["modern", "historical"] | None:
    """Whether a text is written in modern kana (現代仮名遣い) or historical kana; None where nothing tells.

    Counted are spellings that differ: だった and だつた, ような and やうな, いう and いふ, 考える and 考へる; ゐ, ゑ.
    """
    old, new = len(_OLD_KANA.findall(text)), len(_NEW_KANA.findall(text))
    if old + new == 0:
        return None
    return "historical" if old > HISTORICAL_SHARE * (old + new) else "modern"


def _head_and_text(source: str) -> tuple[str, str]:
    rules = list(_RULE.finditer(source[:20_000]))
    if len(rules) >= 2 and "記号について" in source[rules[0].end() : rules[1].start()]:
        return source[: rules[0].start()], source[rules[1].end() :]
    head, _, text = source.partition("\n\n")
    if rules and "［表記について］" in source[: rules[0].start()]:
        return head, source[rules[0].end() :]
    paragraph, _, rest = text.lstrip("\n").partition("\n\n")
    if "\n" not in head and 0 < len(paragraph) <= 20 and rest and not re.search(r"[\n　。」]", paragraph):
        return f"{head}\n{paragraph}", rest  # title, an empty line, author
    return (head, text) if text else ("", source)


def _plain(text: str) -> str:
    """A text without its marks."""
    text = _GAIJI.sub(lambda m: described_character(m.group()), text)
    text = _ANNOTATION.sub("", _ANNOTATION_LINES.sub("", text))
    text = _BRACKETS.sub(lambda m: _accented(m.group()), text)
    text = _RUBY.sub("", text).replace("｜", "").replace("／″＼", "〴〵").replace("／＼", "〳〵")
    return unicodedata.normalize("NFC", text)


def described_character(gaiji: str) -> str:
    """The character that a description names by its code, 〓 where it has none.

    >>> described_character("※［＃「てへん＋蚤」、第3水準1-84-86］")
    '搔'
    """
    if match := _UNICODE.search(gaiji):
        code = int(match.group(1), 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else GETA
    if match := _JIS.search(gaiji):
        plane, row, cell = (int(g) for g in match.groups())
        if 1 <= row <= 94 and 1 <= cell <= 94:
            euc = bytes([0xA0 + row, 0xA0 + cell])
            return (euc if plane == 1 else b"\x8f" + euc).decode("euc_jis_2004", "ignore") or GETA
    return GETA


def _accented(bracketed: str) -> str:
    """〔cafe'〕 as café; brackets that hold no accent that was taken apart are an editor's and stay."""
    text, count = _ACCENT.subn(lambda m: _letter(m.group()), bracketed)
    return text[1:-1] if count else bracketed


def _letter(spelled: str) -> str:
    return _LIGATURES.get(spelled) or unicodedata.normalize("NFC", spelled[0] + _COMBINING[spelled[1]])
