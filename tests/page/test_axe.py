"""axe-core finds nothing wrong with the page, in either language, light or dark, wide or narrow."""

from collections.abc import Callable

import pytest
from golden import golden_inside, golden_score, golden_trace
from pages import looks, violations
from playwright.sync_api import Page


@pytest.mark.parametrize(
    ("lang", "fragment"),
    [("ja", "step=3"), ("en", "step=3&details=1&temperature=2&tint=rank&layer=1&tab=attention+what_if")],
)
def test_axe_has_nothing_to_say(lang: str, fragment: str, open_page: Callable[..., Page]) -> None:
    page = open_page(golden_inside(), lang, fragment)
    for _ in looks(page):
        assert violations(page) == []


@pytest.mark.parametrize("trace", [golden_score(), golden_trace(0)])
def test_axe_has_nothing_to_say_of_other_records(trace: object, open_page: Callable[..., Page]) -> None:
    assert violations(open_page(trace)) == []
