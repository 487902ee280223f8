"""Every term of the page has its meaning under it: by pointer, by touch and by keyboard."""

from collections.abc import Callable

import pytest
from golden import golden_inside
from pages import violations
from playwright.sync_api import Page, expect

from manako import messages

OPEN = ":popover-open"


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_a_term_opens_and_closes_by_keyboard(lang: str, open_page: Callable[..., Page]) -> None:
    page, words = open_page(golden_inside(), lang, "temperature=2"), messages.catalog(lang)
    term = page.locator("manako-candidates button.term", has_text=words["page.p_model"])
    term.focus()
    for key in ("Enter", "Space"):
        page.keyboard.press(key)
        assert page.inner_text(OPEN).replace("\n", "") == words["term.p_model"] + words["term.p_model_means"]
        page.wait_for_selector("button.term[aria-expanded=true]")
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.wait_for_selector("button.term[aria-expanded=true]", state="detached")
        expect(page.locator(OPEN)).to_have_count(0)
        assert term.evaluate("e => e === document.activeElement")


def test_every_term_of_the_page_is_explained_somewhere(open_page: Callable[..., Page]) -> None:
    page = open_page(golden_inside(), "en", "temperature=2")
    found = page.locator("button.term").evaluate_all("all => all.map(e => e.dataset.term)")
    named = "p p_model u rank token entropy surprisal perplexity coverage seed temperature top_k top_p min_p typical_p"
    inside = "attention sink rollout lens residual_stream contribution logit capture forced fork what_if sampler_chain"
    assert {*found} >= {*named.split(), *inside.split()}
    assert all(f"term.{key}_means" in messages.catalog("en") for key in found)


def test_terms_open_by_touch_and_close_inside_a_narrow_window(open_page: Callable[..., Page]) -> None:
    page = open_page(golden_inside(), "ja", "temperature=2", has_touch=True, viewport={"width": 360, "height": 740})
    terms = page.locator("button.term:visible")
    assert terms.count() >= 6
    for n in range(terms.count()):
        terms.nth(n).tap()
        box = page.locator(OPEN).bounding_box()  # strict: there is one
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        terms.nth(n).tap()
        expect(page.locator(OPEN)).to_have_count(0)
