"""The page in a real browser: Debian's Chromium through Playwright, with the network off.

Special here: whatever a page complains about fails the test that opened it: an error in the console, a request, a
dialog, a breach of its own policy. A missing browser is an error and not a skip; scripts/test installs it.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import close, watch
from playwright.sync_api import Browser, Page, sync_playwright

from manako.trace.record import Trace
from manako.views.html import page as page_of

Open = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A new one for each file: as long as it is open, its event loop runs in this thread and no other can start."""
    path = shutil.which("chromium")
    assert path, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"]  # a container has no user namespaces
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """open_page(trace, lang, fragment, **context): the exported page, opened from its file."""
    complaints: list[str] = []
    contexts: list[Any] = []

    def open_(trace: Trace, lang: str = "en", fragment: str = "", **settings: Any) -> Page:
        file = tmp_path / f"{len(contexts)}.html"
        file.write_text(page_of(trace, lang), encoding="utf-8")
        context = browser.new_context(offline=True, **settings)
        contexts.append(context)
        page = context.new_page()
        watch(page, complaints)
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if request.url != page.url.split("#")[0] and not request.url.startswith(file.as_uri())
                else None
            ),
        )
        page.goto(file.as_uri() + (f"#{fragment}" if fragment else ""))
        page.wait_for_selector("manako-app header")
        return page

    yield open_
    close(contexts, complaints)
