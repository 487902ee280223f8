"""Write docs/glossary.md and docs/glossary.ja.md from the catalogs' glossary; a test compares them.

python docs/make_glossary.py
"""

from pathlib import Path

from manako import messages

HERE = Path(__file__).parent
PAGES = {"en": HERE / "glossary.md", "ja": HERE / "glossary.ja.md"}
HEADS = {
    "en": """# Glossary

The terms that manako uses in the terminal, on the page and in its files. 日本語: [用語集](glossary.ja.md).

| term | in Japanese | meaning |
|---|---|---|
""",
    "ja": """# 用語集

manako が端末、ページ、ファイルで使う用語です。English: [glossary](glossary.md).

| 用語 | 英語 | 意味 |
|---|---|---|
""",
}


def page(lang: str) -> str:
    """One page: a row for each term."""
    words, others = messages.catalog(lang), messages.catalog("ja" if lang == "en" else "en")
    terms = [key for key in words if key.startswith("term.") and not key.endswith("_means")]
    return HEADS[lang] + "".join(f"| {words[key]} | {others[key]} | {words[f'{key}_means']} |\n" for key in terms)


if __name__ == "__main__":
    for lang, path in PAGES.items():
        path.write_text(page(lang), encoding="utf-8")
