"""The notation of Aozora Bunko (青空文庫), taken out of a work.

Special here: characters outside JIS X 0208 are written as a description with a code; the code is looked up, so that the
character itself comes back. One without a code becomes the geta mark 〓, as printers do, never a guess.
Source: https://www.aozora.gr.jp/aozora-manual/ (notation), JIS X 0213 through Python's euc_jis_2004.
"""

import re
import unicodedata

_RULE = re.compile(r"^-{20,}$", re.M)  # the block that explains the marks stands between two such lines
_TRAILER = re.compile(r"^[ 　]*底本[：:]", re.M)
_GAIJI = re.compile(r"※［＃(?:[^［］]|［[^］]*］)*］")
_UNICODE = re.compile(r"U\+([0-9A-Fa-f]{4,6})")
_JIS = re.compile(r"(?:第[34]水準)?([12])-(\d{1,2})-(\d{1,2})")
_ANNOTATION = re.compile(r"［＃(?:[^［］]|［[^］]*］)*］")
_RUBY = re.compile(r"《[^》\n]*》")
GETA = "〓"


def is_aozora(text: str) -> bool:
    """Whether a text looks like a work as Aozora Bunko publishes it: its explanation block, or trailer and marks."""
    return len(_RULE.findall(text[:4000])) >= 2 or (bool(_TRAILER.search(text)) and "［＃" in text)


def plain_text(source: str) -> str:
    """The running text of a work: no header, trailer, ruby or annotations; NFC.

    >>> body = "｜胴着《チョッキ》の※［＃「てへん＋蚤」、第3水準1-84-86］［＃「の」に傍点］。"
    >>> plain_text(f"題\\n著者\\n\\n{body}\\n底本：全集")
    '胴着の搔。\\n'
    """
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    rules = list(_RULE.finditer(text[:20_000]))
    if len(rules) >= 2:
        text = text[rules[1].end() :]
    else:
        text = text.partition("\n\n")[2] or text  # title and author end at the first empty line
    if trailer := _TRAILER.search(text):
        text = text[: trailer.start()]
    text = _GAIJI.sub(lambda m: _character(m.group()), text)
    text = _RUBY.sub("", _ANNOTATION.sub("", text)).replace("｜", "")
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n")
    return unicodedata.normalize("NFC", text) + "\n"


def is_modern_kana(text: str) -> bool:
    """Whether a text is written in modern kana (現代仮名遣い): small っ in use, ゐ and ゑ all but absent.

    Historical kana writes だつた for だった and てゐる for ている, so the two signs agree in nearly every work.
    """
    kana = sum(1 for ch in text if "ぁ" <= ch <= "ゖ")
    if kana == 0:
        return False
    return text.count("っ") >= 0.008 * kana and text.count("ゐ") + text.count("ゑ") <= 0.001 * kana


def _character(gaiji: str) -> str:
    if match := _UNICODE.search(gaiji):
        code = int(match.group(1), 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else GETA
    if match := _JIS.search(gaiji):
        plane, row, cell = (int(g) for g in match.groups())
        if 1 <= row <= 94 and 1 <= cell <= 94:
            euc = bytes([0xA0 + row, 0xA0 + cell])
            return (euc if plane == 1 else b"\x8f" + euc).decode("euc_jis_2004", "ignore") or GETA
    return GETA
