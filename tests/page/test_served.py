"""The page as `manako serve` serves it, in a real browser; and what other pages in it can reach (T11, T12)."""

import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from golden import golden_trace
from playwright.sync_api import Browser
from serving import TOKEN, Serving, free, serving

from manako import messages
from manako.trace.file import to_bytes


@pytest.fixture
def site() -> Iterator[Serving]:
    """A server with the golden record in it."""
    with serving(free) as found:
        found.runs.add("golden.manako", to_bytes(golden_trace()))
        yield found


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
        pass


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The address of another site on this machine."""
    (tmp_path / "index.html").write_text("<!doctype html><title>other</title>", encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_the_served_page_shows_the_trace_without_a_complaint(browser: Browser, site: Serving, lang: str) -> None:
    complaints: list[str] = []
    page = browser.new_page(locale=lang)
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(f"http://{site.host}/#token={TOKEN}")
    for _ in range(2):  # again after a reload, with the token no longer in the address
        page.get_by_text("golden").first.wait_for()
        page.wait_for_selector("[data-edit=prompt][contenteditable]")  # or the reload would break off a question
        assert page.locator("manako-app").inner_text().count("[bold]")
        assert TOKEN not in page.url
        page.reload()
    assert complaints == []
    page.close()


def test_without_the_token_the_page_shows_the_reason_and_no_data(browser: Browser, site: Serving) -> None:
    page = browser.new_page(locale="ja")
    page.goto(f"http://{site.host}/")
    page.get_by_text(messages.text("error.serve_token", "ja")).wait_for()
    assert "golden" not in page.content()
    page.close()


def test_another_site_reaches_nothing_even_with_the_token(browser: Browser, site: Serving, elsewhere: str) -> None:
    page = browser.new_page()
    page.goto(elsewhere)
    ask = """async ([url, settings]) => {
        try { const got = await fetch(url, settings); return [got.type, got.status, await got.text()]; }
        catch (error) { return ["failed"]; }
    }"""
    url = f"http://{site.host}/api/traces"
    assert page.evaluate(ask, [url, {"headers": {"X-Manako-Token": TOKEN}}]) == ["failed"]
    assert page.evaluate(ask, [url, {}]) == ["failed"]
    blind = [f"http://{site.host}/api/generate", {"method": "POST", "mode": "no-cors", "body": '{"prompt": "a"}'}]
    assert page.evaluate(ask, blind)[-1] in ("failed", "")
    assert not site.runs.live and list(site.runs.traces) == ["1"]
    page.close()


def test_a_rebound_name_gets_403(browser: Browser, site: Serving) -> None:
    rebound = browser.browser_type.launch(
        executable_path=shutil.which("chromium"),
        args=["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"],
    )
    page = rebound.new_page()
    answer = page.goto(f"http://evil.example:{site.port}/")
    assert answer and answer.status == 403 and "E-SERVE-HOST" in page.content()
    rebound.close()


@pytest.mark.parametrize("shared", [False, True])
def test_each_reader_has_a_list_of_his_own_unless_it_is_shared(browser: Browser, shared: bool) -> None:
    with serving(free, shared=shared) as site:
        site.runs.add("golden.manako", to_bytes(golden_trace()))
        contexts = [browser.new_context(locale="en") for _ in range(2)]
        pages = [context.new_page() for context in contexts]
        for page in pages:
            page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
            page.fill("[data-edit=prompt][contenteditable]", "あ")
            page.press("[data-edit=prompt]", "Enter")
            page.wait_for_function("() => new URLSearchParams(location.hash.slice(1)).get('branch') !== '1'")
        for page in pages:  # what was given at the start is everybody's
            page.reload()
            page.locator("manako-tree [role=option]").nth(2 if shared else 1).wait_for()
            assert page.locator("manako-tree [role=option]").count() == (3 if shared else 2)
        assert len(site.runs.traces) == 3
        for context in contexts:
            context.close()
