"""The page draws every token again: what it says of good records, of forged ones, and of what it cannot check."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from golden import golden_inside, golden_score, golden_trace, large_inside, with_candidates
from playwright.sync_api import Page, expect
from trees import toy_tree

import manako
from manako import messages
from manako.analysis.verification import verify
from manako.sampling import Sampling
from manako.trace.record import Trace
from manako.views.html import _EXPORT, WEB  # pyright: ignore[reportPrivateUsage]

Open = Callable[..., Page]


def verdict(page: Page) -> str:
    """What stands in the page's head once every token was drawn again."""
    summary = page.locator("manako-checks summary")
    language = page.evaluate("document.documentElement.lang")
    expect(summary).not_to_have_text(messages.text("page.verifying", language))
    return summary.inner_text()


def forged(trace: Trace, name: str, index: int, value: Any) -> Trace:
    array = getattr(trace.columns, name).copy()
    array[index] = value
    return replace(trace, columns=replace(trace.columns, **{name: array}))


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_a_good_record_is_told_as_drawn_again(lang: str, open_page: Open) -> None:
    page = open_page(golden_trace(), lang)
    assert verdict(page) == messages.text("page.verified", lang, rederived=12, count=12)
    assert page.locator("manako-checks details").get_attribute("open") is None
    assert messages.text("page.unchecked_model", lang) in page.locator("manako-checks").text_content()


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_a_forged_u_or_probability_is_told(lang: str, open_page: Open) -> None:
    trace = golden_trace()
    for name, value in (("u", 0.5), ("p", 0.25), ("rank", 11)):
        page = open_page(forged(trace, name, 4, value), lang)
        assert verdict(page) == messages.text("page.verify_column", lang, step=5, name=name)
        expect(page.locator("manako-checks summary.warn")).to_have_count(1)
        assert page.locator("manako-checks details").get_attribute("open") is not None


def test_a_forged_token_is_told_with_the_one_that_was_drawn(open_page: Open) -> None:
    trace = golden_trace()
    drawn = int(trace.columns.token_id[6])
    other = (drawn + 1) % trace.vocabulary.size
    page = open_page(forged(trace, "token_id", 6, other))
    assert verdict(page) == messages.text("page.verify_failed", "en", step=7, recorded=other, again=drawn)


def test_what_cannot_be_drawn_again_is_counted(open_page: Open) -> None:
    trace = with_candidates(large_inside(sampling=Sampling(0.4)), 12)
    found = verify(trace)
    assert 0 < found.unverifiable < len(trace)
    page = open_page(trace)
    assert verdict(page) == messages.text("page.verified", "en", rederived=found.rederived, count=len(trace))
    said = page.locator("manako-checks").text_content() or ""
    assert messages.text("page.unchecked_outside", "en", count=found.unverifiable) in said
    assert messages.text("page.unchecked_inside", "en", captures="attention, lens, contributions") in said


def test_a_score_has_no_draws(open_page: Open) -> None:
    page = open_page(golden_score())
    assert verdict(page) == messages.text("page.verified_score", "en", rederived=5, count=5)
    assert messages.text("page.unchecked_score", "en") in (page.locator("manako-checks").text_content() or "")


def test_tokens_that_a_reader_put_in_are_counted_and_each_text_is_verified(open_page: Open) -> None:
    page = open_page(toy_tree(), fragment="branch=2&tab=branches")
    assert messages.text("page.unchecked_forced", "en", count=1) in (page.locator("manako-checks").text_content() or "")
    first = verdict(page)
    page.locator(".branches [role=option]").last.click()
    assert verdict(page) != first and verdict(page).startswith("\u2713")


def test_a_long_record_does_not_hold_up_the_page(open_page: Open) -> None:
    trace = manako.load("demo").trace("私は", max_new_tokens=150, seed=0)
    page = open_page(trace)
    page.click("#token-9")  # while it draws
    assert page.inner_text("[data-place=title]") == f"Step 10 of {len(trace)}"
    assert verdict(page) == messages.text("page.verified", "en", rederived=len(trace), count=len(trace))


def test_a_captured_check_is_told_as_recorded_by_the_run(open_page: Open) -> None:
    page = open_page(golden_inside(), fragment="tab=attention+why")
    recorded = messages.text("page.check_recorded", "en", check="").strip()
    assert recorded in page.inner_text("manako-attention") and recorded in page.inner_text("manako-why")


def test_no_export_hides_a_name_of_the_browser(open_page: Open) -> None:
    """Joined, a module sees what others export; a global of that name would mean something else in it."""
    names = [found[1] for path in WEB.rglob("*.js") for found in _EXPORT.finditer(path.read_text(encoding="utf-8"))]
    assert len(names) > 80
    assert open_page(golden_trace()).evaluate("names => names.filter((name) => name in globalThis)", names) == []


def test_negative_control_numbers_that_round_alike_are_no_forgery(open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(forged(trace, "p", 3, np.nextafter(trace.columns.p[3], 0)))
    assert verdict(page).startswith("\u2713 12 of 12")
