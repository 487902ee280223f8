"""The page of one text under two models: offline, by keyboard, with its table, at 360 pixels."""

from pathlib import Path

import pytest
from pages import close, violations, watch
from playwright.sync_api import Browser, expect
from toy import toy_model

from manako.analysis.aligned import aligned
from manako.messages import text
from manako.messages.numbers import count, fixed, signed
from manako.tokenizer import train_character_bpe
from manako.views.html import comparison_page

READ = "私は猫、猫は私。abc 眼と</script>\u202eあ"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_shows_what_python_aligned(browser: Browser, tmp_path: Path, lang: str) -> None:
    other = toy_model(train_character_bpe([f"{READ}\n" * 20], 275), seed=3, block_size=80)
    traces = [model.score(READ) for model in (toy_model(block_size=80), other)]
    found = aligned(READ, *traces)
    (tmp_path / "c.html").write_text(comparison_page(traces, lang), encoding="utf-8")
    complaints: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 360, "height": 740})
    page = context.new_page()
    watch(page, complaints)
    page.goto((tmp_path / "c.html").as_uri())
    page.locator("summary").press("Enter")
    cells = [row.locator("td").all_inner_texts() for row in page.locator("tbody tr").all()]
    assert cells == [
        [count(s.tokens[0]), fixed(s.bits[0], 2), count(s.tokens[1]), fixed(s.bits[1], 2), signed(s.difference)]
        for s in found.stretches
    ]
    parts = page.locator("[role=option]")
    assert parts.locator("small").all_inner_texts() == [signed(s.difference) for s in found.stretches]
    counted = [
        [len(row.locator("span").all()) for row in part.locator(".comparison-row").all()] for part in parts.all()
    ]
    assert counted == [list(s.tokens) for s in found.stretches]
    for n in (0, 1):
        whole = {
            "bits": fixed(found.bits_per_character(n), 3),
            "tokens": count(found.tokens(n)),
            "characters": count(len(READ)),
        }
        expect(page.get_by_text(text("aligned.whole", lang, ref="toy", **whole))).to_have_count(1)
    page.get_by_role("listbox").press("ArrowRight")
    page.get_by_role("listbox").press("ArrowRight")
    s = found.stretches[2]
    values = {"first": fixed(s.bits[0], 2), "second": fixed(s.bits[1], 2), "difference": signed(s.difference)}
    tokens = {"tokens_1": s.tokens[0], "tokens_2": s.tokens[1]}
    assert page.get_by_role("status").inner_text() == text("aligned.chosen", lang, text=s.text, **values, **tokens)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator(".warn")).to_have_count(0)
    assert violations(page) == []
    assert "\u202e" not in page.locator("manako-comparison").inner_text()
    close([context], complaints)


def test_a_reload_keeps_the_language(browser: Browser, tmp_path: Path) -> None:
    traces = [toy_model(seed=seed).score("私は猫") for seed in (0, 3)]
    (tmp_path / "c.html").write_text(comparison_page(traces, "en"), encoding="utf-8")
    complaints: list[str] = []
    context = browser.new_context(offline=True)
    page = context.new_page()
    watch(page, complaints)
    page.goto((tmp_path / "c.html").as_uri())
    page.locator("[data-choice=ja]").click()
    page.reload()
    expect(page.locator("h1")).to_have_text(text("aligned.title", "ja"))
    close([context], complaints)
