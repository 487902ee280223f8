"""The page as `manako serve` serves it, in a real browser; and what other pages in it can reach (T11, T12)."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from golden import golden_trace
from pages import chromium, look, open_sheet, watch, wish
from playwright.sync_api import Browser, Route, expect
from serving import TOKEN, Serving, free, serving, until
from toy import write_toy

from manako import messages
from manako.analysis.verification import verify
from manako.model import load
from manako.trace.file import to_bytes
from manako.trace.tree import open_tree


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
    address = f"http://{site.host}/#token={TOKEN}"
    for opened in (partial(page.goto, address), page.reload):  # again with the token no longer in the address
        with page.expect_event("requestfinished", lambda request: request.url.endswith("/assets/offline.txt")):
            opened()  # this is the last that it asks for; a reload before that would break a question off
        page.get_by_text("golden").first.wait_for()
        page.wait_for_selector("[data-edit=prompt][contenteditable]")
        assert page.locator("manako-app").inner_text().count("[bold]")
        assert TOKEN not in page.url
    assert complaints == []
    page.close()


def test_a_browser_that_keeps_nothing_for_the_page_shows_it_all_the_same(browser: Browser, site: Serving) -> None:
    page = browser.new_page(locale="en")
    page.add_init_script("""for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(globalThis, name, { get() { throw new DOMException("no", "SecurityError"); } });
    }""")
    page.goto(f"http://{site.host}/#token={TOKEN}")
    page.wait_for_selector("[data-edit=prompt][contenteditable]")
    assert page.locator("manako-app").inner_text().count("[bold]")
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
    program = chromium()
    program["args"] += ["--host-resolver-rules=MAP evil.example 127.0.0.1"]
    rebound = browser.browser_type.launch(**program)
    page = rebound.new_page()
    answer = page.goto(f"http://evil.example:{site.port}/")
    assert answer and answer.status == 403 and "E-SERVE-HOST" in page.content()
    rebound.close()


def test_what_the_page_can_run_runs_in_it_and_needs_the_server_only_to_start(browser: Browser, tmp_path: Path) -> None:
    models = [write_toy(tmp_path / str(n), seed=n) and load(tmp_path / str(n)) for n in range(2)]
    complaints, asked, written = list[str](), list[str](), list[list[int]]()
    context = browser.new_context(locale="en")
    page = context.new_page()
    watch(page, complaints)
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    ready, tokens = "[data-act=go]:not([disabled])", page.locator("manako-ribbon [role=option]")

    def write(prompt: str, count: int) -> None:
        wish(page, count, 5)
        page.fill("[data-edit=prompt][contenteditable]", prompt)
        page.press("[data-edit=prompt]", "Enter")
        page.wait_for_function("prompt => document.title.endsWith(prompt)", arg=prompt)

    with serving(models[0]) as site:
        site.runs.beside = (models[1],)
        site.runs.add("given", to_bytes(models[0].trace("私は", seed=0, max_new_tokens=3)))
        page.goto(f"http://{site.host}/#token={TOKEN}")
        page.wait_for_selector(ready)
        until(lambda: page.locator(ready).count() == 1 and len(page.workers) == 2, 60)
        for prompt, model in (("ab", models[0]), ("猫は", models[1])):  # as what stands beside it reads Japanese
            write(prompt, 5)
            written.append(model.trace(prompt, seed=5, max_new_tokens=5).all_ids.tolist())
        open_sheet(page, "share")
        page.check("[value=all]")
        with page.expect_download() as download:
            page.get_by_role("button", name="Trace (.manako)").click()
        page.keyboard.press("Escape")
        download.value.save_as(tmp_path / "saved.manako")
        saved = [branch.trace for branch in open_tree(tmp_path / "saved.manako").branches][1:]
        assert [trace.all_ids.tolist() for trace in saved] == written
        assert all(trace.header.model.engine == "page-wasm" and verify(trace).ok for trace in saved)
        state = page.locator("[data-place=state]")
        answers = {"lost": Route.abort, "again": lambda route: route.fulfill(status=403, json={"message": "no"})}
        now = ["lost"]
        page.route("**/api/model", lambda route: answers[now[0]](route))
        expect(state).to_contain_text("continues without it")
        page.get_by_role("button", name="日本語").click()
        expect(state).to_have_text(messages.text("page.without_server", "ja"))
        page.get_by_role("button", name="English").click()
        look(page, 360, 480)  # where it does not fit above the tabs
        sentence, tabs = (each.bounding_box() for each in (state, page.locator(".tabs")))
        assert sentence and tabs and 0 < sentence["y"] < sentence["y"] + sentence["height"] <= tabs["y"]
        look(page, 1280, 720)
        page.locator("manako-ribbon [role=listbox]").press("End")
        page.click("[data-act=step]")
        expect(tokens).to_have_count(6)
        now[0] = "again"  # as another server answers, whose token is another
        expect(state).to_contain_text("was started again")
        page.unroute("**/api/model")
        expect(state).to_have_text("")
        page.reload()
        expect(tokens).to_have_count(6)
        assert asked == [] and len(site.runs.traces) == 1
        page.evaluate("0")  # what was said before its answer has arrived with it
        context.close()
    assert [said for said in complaints if "Failed to load resource" not in said] == []  # which was made to happen


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
            expect(page.locator("manako-tree [role=option]")).to_have_count(3 if shared else 2)
        assert len(site.runs.traces) == 3
        for context in contexts:
            context.close()
