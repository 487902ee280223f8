"""One word for one thing, and the field's own: what catalogs, README and docs must not say, and what to say."""

import re
from pathlib import Path

import pytest

from manako import messages

ROOT = Path(__file__).parents[2]
HISTORY = ("log.md",)  # says things as they were said then
PAGES = [p for p in (*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")) if p.name not in HISTORY]
INSTEAD = {
    "en": {
        r"\bluck\b": "random number, seed",
        r"\bput (in|here|there)\b": "force a token, insert text",
        r"\bgo(es|ing)? on\b": "continue",
        r"\bbehind\b": "after",
        r"\bbeside\b": "compared with, in addition to",
        r"\bin front of\b": "before",
        r"\bstands?\b": "is",
        r"\b(told|tells)\b": "shown, says",
        r"\bon record\b": "in the trace, stored",
        r"\b(saved|whole|another|partial) record\b": "trace",
        r"\btaken (token|one)\b|\btoken taken\b|\btoken that was taken\b": "chosen token",
        r"\btaken apart\b": "contributions",
        r"\bthey part\b": "the outputs diverge",
        r"\bequal choices\b": "perplexity",
        r"\bwould have said\b": "prediction after a layer",
        r"\bthe house\b": "source layout",
        r"\bin hand\b": "current",
    },
    "ja": {
        "くじ": "抽選、乱数 u",
        "引き直": "求め直す",
        "引か(れ|な)": "選択される",
        "(次|選択され|選ばれ)た?の?文字": "次のトークン、選択されたトークン",
        "記録(?!さ|し|済)": "トレース",
        "文章": "テキスト",
        "最尤": "最も確率の高い",
        "フォルダ(?!ー)": "フォルダー",
        "トークナイザ(?!ー)": "トークナイザー",
        "メモリ(?!ー)": "メモリー",
        "パラメータ(?!ー)": "パラメーター",
        "サーバ(?!ー)": "サーバー",
        "ブラウザ(?!ー)": "ブラウザー",
    },
}


def wrong_words(text: str, lang: str) -> list[str]:
    return [
        f"{found[0]!r} in {text[max(0, found.start() - 30) : found.end() + 30]!r}: say {instead}"
        for pattern, instead in INSTEAD[lang].items()
        for found in re.finditer(pattern, text, re.I)
    ]


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_the_catalogs_use_the_terms_of_the_field(lang: str) -> None:
    assert {key: w for key, text in messages.catalog(lang).items() if (w := wrong_words(text, lang))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_pages_use_the_terms_of_the_field(page: Path) -> None:
    lang = "ja" if ".ja." in page.name else "en"
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    assert wrong_words(text, lang) == []


def test_a_wrong_word_is_found() -> None:
    assert wrong_words("The same luck from here", "en") and wrong_words("くじに落ちました", "ja")
