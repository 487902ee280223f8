"""A page that carries its model: it writes, forks and saves from one file, with the network off."""

import csv
import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from pages import close, open_sheet, open_tab, watch, wish
from playwright.sync_api import Browser, Page, expect
from serving import until
from toy import write_toy

from manako.analysis.verification import verify
from manako.model import Model, for_page, load
from manako.tokenizer import from_characters
from manako.trace.tree import open_tree
from manako.views.html import Carried, page
from manako.views.site import site

READY = "[data-act=go]:not([disabled])"
IDLE = "manako-app:not([data-writing])"
STORE = """(act) => new Promise((resolve) => {
    const opening = indexedDB.open("manako", 1);
    opening.onsuccess = () => {
        const asked = act(opening.result.transaction("texts", "readwrite").objectStore("texts"));
        asked.onsuccess = () => resolve(asked.result);
    };
})"""


@pytest.fixture
def model(tmp_path: Path) -> Model:
    write_toy(tmp_path / "toy", block_size=40)
    return load(tmp_path / "toy")


@pytest.fixture
def shown(browser: Browser, tmp_path: Path, model: Model) -> Iterator[Page]:
    data = for_page(tmp_path / "toy")
    trace = model.trace("私は", seed=0, max_new_tokens=6, capture=["attention", "lens"])
    (tmp_path / "page.html").write_text(page(trace, "en", Carried("toy", len(data), data)), encoding="utf-8")
    complaints: list[str] = []
    context = browser.new_context(offline=True, accept_downloads=True)
    yield opened(context.new_page(), tmp_path / "page.html", complaints)
    close([context], complaints)


def opened(page: Page, file: Path, complaints: list[str]) -> Page:
    watch(page, complaints)
    page.goto(file.as_uri())
    page.wait_for_selector(READY)
    return page


def tokens(page: Page) -> int:
    return page.locator("manako-ribbon [role=option]").count()


def write(page: Page, prompt: str, count: int, seed: int) -> None:
    wish(page, count, seed)
    page.fill("[data-edit=prompt]", prompt)
    page.press("[data-edit=prompt]", "Enter")
    page.locator(f"{IDLE} manako-ribbon [role=option] >> nth={count - 1}").wait_for()


def kept(page: Page) -> int:
    """How many texts the browser keeps."""
    return page.evaluate(f"({STORE})((texts) => texts.count())")


def saved(page: Page, name: str, file: Path) -> Path:
    open_sheet(page, "share")
    if page.locator("[value=all]").count():
        page.check("[value=all]")
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    page.keyboard.press("Escape")
    download.value.save_as(file)
    return file


def test_it_writes_what_python_writes_and_the_file_of_it_verifies(shown: Page, model: Model, tmp_path: Path) -> None:
    write(shown, "猫は", 60, 5)
    tree = open_tree(saved(shown, "Trace (.manako)", tmp_path / "saved.manako"))
    ours = tree.shown
    theirs = model.trace("猫は", seed=5, max_new_tokens=60, temperature=ours.header.sampling.temperature)
    assert ours.header.model.engine == "page-wasm"  # the policy lets WebAssembly run, and no other code
    assert np.array_equal(ours.all_ids, theirs.all_ids) and ours.header.capture == (
        "attention",
        "lens",
        "contributions",
    )
    assert all(verify(branch.trace).ok for branch in tree.branches)
    assert all(check.ok for check in ours.header.self_checks)
    assert ours.columns.window_start[-1] > 0  # past its context


def test_while_it_writes_the_rows_and_all_others_are_the_whole_vocabulary(shown: Page, model: Model) -> None:
    shown.evaluate("""() => {
        globalThis.tables = [];
        globalThis.requestAnimationFrame = queueMicrotask; // so few steps may be over before a frame is drawn
        new MutationObserver(() => {
            if (!document.querySelector("[data-place=title]").textContent.startsWith("Generating")) return;
            const rest = document.querySelector("tr.other th").textContent.replace(/\\D/g, "");
            tables.push([document.querySelectorAll("manako-candidates tbody tr:not(.other)").length, Number(rest)]);
        }).observe(document.body, { childList: true, subtree: true });
    }""")
    shown.evaluate("location.hash += '&temperature=2'")  # at which most drawn tokens are further down than the list
    write(shown, "猫は", 200, 1)
    found = shown.evaluate("tables")
    assert 11 in {rows for rows, _ in found}
    assert {rows + rest for rows, rest in found} == {model.trace("猫", max_new_tokens=0).vocabulary.size}


def test_steps_forks_and_typed_words_go_on_from_each_other(shown: Page, model: Model, tmp_path: Path) -> None:
    write(shown, "猫は", 5, 5)
    shown.locator("manako-ribbon [role=listbox]").press("End")
    shown.locator("[data-act=step]").click()
    shown.locator(f"{IDLE} manako-ribbon [role=option] >> nth=5").wait_for()
    shown.locator("manako-candidates tbody button.force >> nth=3").click()
    shown.wait_for_selector(IDLE)
    open_tab(shown, "branches")
    shown.locator("manako-tree [role=option] >> nth=2").wait_for()  # behind the example and the text it parts from
    shown.wait_for_selector(IDLE)
    assert shown.inner_text("[data-place=title]").startswith("Step 6 of ")
    assert "the token was forced" in shown.inner_text("[data-place=forced]")
    table = list(csv.DictReader(saved(shown, "CSV", tmp_path / "steps.csv").read_text("utf-8-sig").splitlines()))
    assert [int(row["step"]) for row in table] == list(range(1, len(table) + 1))
    assert [row["step"] for row in table if row["forced"]] == ["6"]
    tree = open_tree(saved(shown, "Trace (.manako)", tmp_path / "saved.manako"))
    given, text, step, _ = (branch.id for branch in tree.branches)
    assert given == "1" and [branch.parent for branch in tree.branches] == [None, None, text, step]  # which has the row
    assert all(verify(branch.trace).ok for branch in tree.branches)
    whole = model.trace("猫は", seed=5, max_new_tokens=6, temperature=0.8)
    assert tree.branches[2].trace.all_ids.tolist() == whole.all_ids.tolist()


def test_a_typed_seed_is_that_of_what_goes_on_and_of_another_draw(shown: Page, tmp_path: Path) -> None:
    wish(shown, 4, 7)
    shown.locator("[data-act=go]").click()
    shown.locator(f"{IDLE} manako-ribbon [role=option] >> nth=9").wait_for()
    shown.locator("manako-ribbon [role=listbox]").press("Home")
    shown.locator("[data-act=luck]").click()
    shown.locator(f"{IDLE} manako-ribbon [role=option] >> nth=3").wait_for()
    expect(shown.locator("manako-ribbon [role=option]")).to_have_count(4)
    tree = open_tree(saved(shown, "Trace (.manako)", tmp_path / "saved.manako"))
    headers = [branch.trace.header for branch in tree.branches]
    assert [(header.seed, header.first_step) for header in headers] == [(0, 0), (7, 6), (7, 0)]
    assert all(verify(branch.trace).ok for branch in tree.branches)


def test_a_page_that_it_saves_has_the_texts_and_the_model(shown: Page, browser: Browser, tmp_path: Path) -> None:
    write(shown, "猫は", 4, 5)
    file = saved(shown, "Page that works offline", tmp_path / "again.html")
    assert '<html lang="en" data-mode="file">' in file.read_text(encoding="utf-8")
    complaints: list[str] = []
    context = browser.new_context(offline=True)
    again = opened(context.new_page(), file, complaints)
    assert again.locator("manako-ribbon .text").inner_text() == shown.locator("manako-ribbon .text").inner_text()
    write(again, "私", 3, 1)
    assert tokens(again) == 3
    close([context], complaints)


def test_a_reload_brings_back_what_was_written_and_the_oldest_makes_room(shown: Page, tmp_path: Path) -> None:
    row = "{ home: location.pathname, id: 't9', parent: null, keep: 0, bytes: new ArrayBuffer(64e6) }"
    shown.evaluate(f"({STORE})((texts) => texts.add({row}))")  # of another time, as large as all may be together
    shown.reload()
    shown.wait_for_selector(READY)
    write(shown, "猫は", 5, 5)
    shown.locator("manako-candidates tbody button.force >> nth=3").click()
    shown.wait_for_selector(IDLE)
    open_tab(shown, "branches")
    shown.locator("manako-tree [role=option] >> nth=2").wait_for()
    until(lambda: kept(shown) == 2)
    text = shown.inner_text("manako-ribbon .text")
    before = open_tree(saved(shown, "Trace (.manako)", tmp_path / "before.manako"))
    shown.reload()
    shown.wait_for_selector(READY)
    assert shown.inner_text("manako-ribbon .text") == text  # the one that was shown, which is in the address
    after = open_tree(saved(shown, "Trace (.manako)", tmp_path / "after.manako"))
    told = [[(b.id, b.parent, b.keep, b.trace.text) for b in tree.branches] for tree in (before, after)]
    assert told[0] == told[1] and all(verify(branch.trace).ok for branch in after.branches)
    write(shown, "私", 3, 1)  # under a name of its own
    shown.evaluate(f"({STORE})((texts) => texts.add({row}))")  # by another tab
    open_sheet(shown, "share")
    shown.get_by_role("button", name="Delete the kept texts").click()
    shown.get_by_text("Deleted.").wait_for()
    assert kept(shown) == 0
    shown.reload()
    shown.wait_for_selector(READY)
    open_tab(shown, "branches")
    expect(shown.locator("manako-tree [role=option]")).to_have_count(1)


def test_two_tabs_of_one_page_keep_texts_of_their_own(shown: Page, tmp_path: Path) -> None:
    complaints: list[str] = []
    other = opened(shown.context.new_page(), tmp_path / "page.html", complaints)
    step = "[data-act=step]"
    for tab, count in ((shown, 7), (other, 7), (shown, 8)):
        tab.locator("manako-ribbon [role=listbox]").press("End")
        tab.click("[data-act=luck]" if tab is other else step)
        tab.wait_for_selector(IDLE)
        tab.locator(f"manako-ribbon [role=option] >> nth={count - 1}").wait_for()
        tab.wait_for_selector(f"{step}:not([disabled])")
    shown.wait_for_url(re.compile("step=8"))  # written a moment later
    until(lambda: kept(shown) == 3)
    texts = [tab.inner_text("manako-ribbon .text") for tab in (shown, other)]
    for tab, text in zip((shown, other), texts, strict=True):
        tab.reload()
        tab.wait_for_selector(READY)
        assert tab.inner_text("manako-ribbon .text") == text
    _, ours, theirs, last = open_tree(saved(shown, "Trace (.manako)", tmp_path / "saved.manako")).branches
    assert (last.parent, last.keep) == (ours.id, 1) and theirs.parent == "1"
    assert complaints == []


def test_a_link_to_a_text_of_this_page_alone_is_said_to_be_one(shown: Page, tmp_path: Path) -> None:
    def copied() -> str:
        open_sheet(shown, "share")
        shown.get_by_role("button", name="Copy a link").click()
        said = shown.locator("#sheet-share [role=status]")
        expect(said).not_to_have_text("")
        text = said.inner_text()
        shown.keyboard.press("Escape")
        return text

    state = shown.locator("[data-place=state]")
    assert "generated on this page" not in copied()  # it is in the file
    write(shown, "猫は", 5, 5)
    until(lambda: kept(shown) == 1)
    assert "generated on this page" in copied()
    link = shown.url
    shown.reload()
    shown.wait_for_selector(READY)
    assert "generated on this page" in copied() and state.inner_text() == ""
    complaints: list[str] = []
    browser = shown.context.browser
    assert browser is not None
    elsewhere = browser.new_context(offline=True)
    other = elsewhere.new_page()
    watch(other, complaints)
    other.goto(link)
    other.wait_for_selector(READY)
    state = other.locator("[data-place=state]")
    for name, words in (("日本語", "このページにありません"), ("English", "not on this page")):
        other.get_by_role("button", name=name).click()
        expect(state).to_contain_text(words)
    write(other, "私", 3, 1)
    expect(state).to_have_text("")
    other.evaluate("location.hash = 'branch=none'")
    expect(state).to_contain_text("not on this page")
    other.evaluate("location.hash = 'branch=1'")
    expect(state).to_have_text("")
    close([elsewhere], complaints)


def test_a_browser_that_keeps_nothing_is_said_to_and_all_else_works(shown: Page) -> None:
    shown.add_init_script("indexedDB.open = () => { throw new DOMException('no', 'SecurityError'); };")
    shown.reload()
    shown.wait_for_selector(READY)
    assert shown.inner_text("[data-place=state]") == ""
    write(shown, "猫は", 5, 5)
    shown.get_by_text("This browser keeps no texts of this page").wait_for()
    write(shown, "私", 3, 1)


def test_what_the_browser_refuses_to_delete_is_said_in_its_words(shown: Page) -> None:
    shown.add_init_script("""indexedDB.open = () => {
        const opening = { error: new DOMException("no room for it", "QuotaExceededError") };
        setTimeout(() => opening.onerror(new Event("error")));
        return opening;
    };""")
    shown.reload()
    shown.wait_for_selector(READY)
    open_sheet(shown, "share")
    shown.get_by_role("button", name="Delete the kept texts").click()
    shown.get_by_text("no room for it").wait_for()


def test_the_token_of_a_step_waits_for_nothing(shown: Page) -> None:
    """Neither for a disk that never says that it is done, nor for what the page says of the token."""
    write(shown, "猫は", 5, 5)
    shown.evaluate("Object.defineProperty(IDBTransaction.prototype, 'oncomplete', { set() {} })")
    shown.evaluate("""() => {
        const title = () => document.querySelector("[data-place=title]").textContent;
        new MutationObserver((_, own) => {
            if (document.querySelectorAll("manako-ribbon [role=option]").length === 5) return;
            globalThis.before = title();
            own.disconnect();
        }).observe(document.querySelector("manako-ribbon"), { childList: true, subtree: true });
    }""")
    shown.press("manako-ribbon [role=listbox]", "End")
    shown.locator("[data-act=step]").click()
    expect(shown.locator("[data-place=title]")).to_have_text("Step 6 of 6")
    expect(shown.locator("manako-ribbon [role=option]")).to_have_count(6)
    assert shown.evaluate("before") == "Step 5 of 5"


def test_the_prompt_is_what_was_typed_and_no_line_more(shown: Page) -> None:
    """Chromium puts a line break of its own behind a last one, and leaves it where it is typed on."""
    shown.evaluate("""() => {
        globalThis.asked = [];
        document.querySelector("manako-ribbon").addEventListener("act", (event) => {
            asked.push(event.detail.text);
            event.stopPropagation(); // nothing is written: what was typed stays
        });
    }""")
    for name in ("prompt", "tail"):
        edit = shown.locator(f"[data-edit={name}]")
        edit.focus()
        for key in ("Control+a", "x", "Shift+Enter", "y", "Enter", "Shift+Enter", "Enter"):
            edit.press(key)
    assert shown.evaluate("asked") == ["x\ny", "x\ny\n"] * 2


def test_what_is_typed_stays_as_long_as_the_text_does(shown: Page) -> None:
    text = shown.inner_text("manako-ribbon [role=listbox]")
    shown.fill("[data-edit=tail]", "behind")
    shown.fill("manako-fan input", "here")
    shown.fill("[data-edit=prompt]", "another")
    typed = """[...document.querySelectorAll("[data-edit]")].map((each) => each.textContent)
        .concat(document.querySelector("manako-fan input").value)"""
    for choice in ("rank", "ja"):
        shown.evaluate("name => document.querySelector(`[data-choice=${name}]`).click()", choice)
        assert shown.evaluate(typed) == ["another", "behind", "here"]
    shown.evaluate("document.querySelector('manako-act [name=count]').value = ''")
    shown.press("manako-fan input", "Enter")  # nothing is written with no number of tokens
    assert shown.input_value("manako-fan input") == "here"
    shown.keyboard.press("Escape")
    assert shown.inner_text("manako-ribbon [role=listbox]") == text
    shown.evaluate("document.querySelector('manako-act [name=count]').value = 3")
    shown.press("manako-fan input", "Enter")
    shown.locator(f"{IDLE} manako-fan form:not([hidden])").wait_for()
    assert shown.evaluate(typed)[1:] == ["", ""]


def test_a_copy_in_a_guess_does_not_tell_what_lies_ahead(shown: Page) -> None:
    shown.click("[data-toggle=guess]")
    copied = shown.evaluate("""() => {
        getSelection().selectAllChildren(document.querySelector("manako-ribbon"));
        const [clipboardData, text] = [new DataTransfer(), document.querySelector("manako-ribbon .text")];
        text.dispatchEvent(new ClipboardEvent("copy", { clipboardData }));
        return clipboardData.getData("text/plain");
    }""")
    assert copied == "私は"


def test_what_the_vocabulary_lacks_is_said(browser: Browser, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy", from_characters([*"私は猫ab"]))
    trace, data = load(tmp_path / "toy").trace("私", seed=0, max_new_tokens=3), for_page(tmp_path / "toy")
    (tmp_path / "page.html").write_text(page(trace, "en", Carried("toy", len(data), data)), encoding="utf-8")
    complaints: list[str] = []
    context = browser.new_context(offline=True)
    shown = opened(context.new_page(), tmp_path / "page.html", complaints)
    shown.fill("[data-edit=prompt]", "犬")
    shown.press("[data-edit=prompt]", "Enter")
    shown.get_by_text("犬 U+72AC (1)").wait_for()
    write(shown, "私", 3, 1)
    close([context], complaints)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
        pass


@pytest.fixture
def host(tmp_path: Path, model: Model) -> Iterator[ThreadingHTTPServer]:
    """A plain web server with the site in it; it is ended by the test that wants to be offline."""
    data = for_page(tmp_path / "toy")
    (tmp_path / "site").mkdir()
    for name, content in site(model.trace("私は", seed=0, max_new_tokens=6), "en", "toy", data).items():
        (tmp_path / "site" / name).write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_site_writes_and_opens_again_without_its_host(browser: Browser, host: ThreadingHTTPServer) -> None:
    complaints: list[str] = []
    context = browser.new_context()
    page = context.new_page()
    watch(page, complaints)
    for count in (5, 4):  # again after a reload, with nobody there
        page.goto(f"http://127.0.0.1:{host.server_port}/")
        page.wait_for_selector(READY)
        write(page, "猫は", count, 5)
        assert tokens(page) == count
        page.wait_for_function("navigator.serviceWorker.ready.then(({ active }) => active.state === 'activated')")
        context.set_offline(True)
    close([context], complaints)


def test_a_page_that_a_site_saves_only_reads(browser: Browser, host: ThreadingHTTPServer, tmp_path: Path) -> None:
    """It has no model in it, and what stands beside the site is not beside a file."""
    complaints: list[str] = []
    context = browser.new_context(locale="ja")
    page = context.new_page()
    watch(page, complaints)
    page.goto(f"http://127.0.0.1:{host.server_port}/")
    page.wait_for_selector(READY)
    text = page.inner_text("manako-ribbon .text")
    file = saved(page, "Page that works offline", tmp_path / "again.html")
    page.goto(f"{file.as_uri()}#lang=en")
    page.get_by_text("re-derived on this page").first.wait_for()
    assert page.inner_text("manako-ribbon .text") == text and page.inner_text("[data-place=state]") == ""
    assert page.is_hidden("[data-act=go]") and page.is_hidden("[contenteditable]")
    close([context], complaints)
