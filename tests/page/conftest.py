"""The page in a real browser: Debian's Chromium through Playwright, with the network off.

Special here: whatever a page complains about fails the test that opened it: an error in the console, a request, a
dialog, a breach of its own policy. A missing browser is an error and not a skip; scripts/test installs it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import chromium, close, quiet, watch
from playwright.sync_api import Browser, Page, expect, sync_playwright

from manako.trace.record import Trace
from manako.views.html import page as page_of

Open = Callable[..., Page]
expect.set_options(timeout=30_000)  # as everything else that is waited for: other work may take the machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")  # __init__.py makes the folder one
def browser() -> Iterator[Browser]:
    """One for this folder: as long as it is open, its event loop runs in this thread and none of other tests can."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def kept(browser: Browser) -> Iterator[tuple[Callable[..., Page], list[str]]]:
    """(kept_page, complaints) of all tests of a file: a new page costs more than the file that is opened in it.

    kept_page(file, **settings): the page of a context with these settings; of files it may ask for those it was given.
    """
    complaints, files, pages = list[str](), list[str](), dict[str, Page]()

    def kept_page(file: Path, **settings: Any) -> Page:
        files.append(file.as_uri())
        if str(settings) not in pages:
            page = pages[str(settings)] = browser.new_context(offline=True, **settings).new_page()
            watch(page, complaints)
            page.on(
                "request",
                lambda request: complaints.append(request.url) if request.url.split("#")[0] not in files else None,
            )
        return pages[str(settings)]

    yield kept_page, complaints
    close([page.context for page in pages.values()], complaints)


@pytest.fixture
def open_page(kept: tuple[Callable[..., Page], list[str]], tmp_path: Path) -> Iterator[Open]:
    """open_page(trace, lang, fragment, **context): the exported page, opened from its file.

    Special here: it opens in the page of the test before it, as that was at first: its size, its colours, its pointer.
    Of what else a context may be given each has a page; a second call with the same leaves the first one's.
    """
    kept_page, complaints = kept
    opened: list[Page] = []

    def open_(trace: Trace, lang: str = "en", fragment: str = "", **settings: Any) -> Page:
        file = tmp_path / f"{len(opened)}.html"
        file.write_text(page_of(trace, lang), encoding="utf-8")
        viewport = settings.pop("viewport", {"width": 1280, "height": 720})
        media = {name: settings.pop(name, "null") for name in ("color_scheme", "reduced_motion")}
        page = kept_page(file, **settings)
        opened.append(page)
        page.set_viewport_size(viewport)
        page.emulate_media(**media)
        page.mouse.move(0, 0)
        page.goto(file.as_uri() + (f"#{fragment}" if fragment else ""))
        page.wait_for_selector("manako-app header")
        return page

    yield open_
    quiet(opened, complaints)
