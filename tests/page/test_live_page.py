"""Writing in the browser: a real model behind a real server, from the first token to a saved file.

Special here: one list of texts for all, so that the server generates; the page does for itself in test_served.py.
"""

import csv
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import FakeSession
from pages import PAYLOADS, close, looks, open_sheet, open_tab, trace_of, violations, watch, wish
from playwright.sync_api import Browser, Page, expect
from serving import TOKEN, Serving, serving, until

import manako
from manako.engines.generation import Generation
from manako.messages.numbers import fixed
from manako.model import Model
from manako.refs import example
from manako.trace.file import to_bytes
from manako.trace.record import derive
from manako.trace.tree import Branch, open_tree

IDLE = "manako-app:not([data-writing])"


@pytest.fixture(scope="module")
def model() -> Model:
    return manako.load("demo")


@pytest.fixture
def site(model: Model) -> Iterator[Serving]:
    """A server with the embedded model and its example."""
    with serving(model, shared=True) as found:
        found.runs.add("example", to_bytes(manako.open(example())))
        yield found


@pytest.fixture
def open_live(browser: Browser, site: Serving) -> Iterator[Callable[..., Page]]:
    """open_live(**context): the served page, ready to write; whatever it complains about fails the test."""
    complaints: list[str] = []
    contexts: list[Any] = []

    def opened(**settings: Any) -> Page:
        context = browser.new_context(**({"locale": "en"} | settings))
        contexts.append(context)
        page = context.new_page()
        watch(page, complaints)
        page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
        page.wait_for_selector("[data-act=go]:not([disabled])")
        return page

    yield opened
    close(contexts, complaints)


def text_of(page: Page) -> str:
    """The text without its line breaks, which the page shows with a sign of their own."""
    return re.sub("[\n\u23ce]", "", page.inner_text("manako-ribbon .text"))


def rows(page: Page) -> list[str]:
    return page.locator("manako-tree [role=option] .branch").all_inner_texts()


def wait(page: Page, act: Callable[[], Any]) -> None:
    """Do something that makes the model write, until there is a branch more."""
    branch = "new URLSearchParams(location.hash.slice(1)).get('branch')"  # the step is written a moment later
    before = page.evaluate(branch)
    act()
    page.wait_for_function(f"before => {branch} !== before", arg=before)
    page.wait_for_selector(IDLE)


def write(page: Page, prompt: str, count: int, seed: int | None = None) -> None:
    wish(page, count, "" if seed is None else seed)
    wait(page, lambda: generate(page, prompt))


def generate(page: Page, prompt: str) -> None:
    """Type a prompt where it stands, and Enter."""
    page.fill("[data-edit=prompt]", prompt)
    page.press("[data-edit=prompt]", "Enter")


def save(page: Page, name: str, file: Path) -> None:
    """Save all texts from the sheet, with whole rows."""
    open_sheet(page, "share")
    page.uncheck("[name=compact]")
    if page.locator("[value=all]").count():
        page.check("[value=all]")
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    page.keyboard.press("Escape")
    download.value.save_as(file)


def test_what_is_written_is_what_the_library_gives(open_live: Callable[..., Page], model: Model) -> None:
    page = open_live()
    write(page, "\u732b\u306f", 20, seed=5)
    expected = model.trace("\u732b\u306f", max_new_tokens=20, seed=5, temperature=0.8)
    assert text_of(page) == expected.text.replace("\n", "")
    assert page.inner_text("[data-place=title]") == "Step 1 of 20"
    assert f"rank {expected.steps[0].chosen.rank:,}" in page.inner_text("[data-place=chosen]")
    for tab in ("attention", "layers", "why"):  # recorded unless one says otherwise
        open_tab(page, tab)
        expect(page.locator(f"#panel-{tab} table")).not_to_have_count(0)


def test_while_it_writes_every_step_is_shown_and_stop_stops(
    open_live: Callable[..., Page], site: Serving, model: Model
) -> None:
    page = open_live()
    page.evaluate("""() => {
        globalThis.seen = [];
        new MutationObserver(() => {
            const title = document.querySelector("[data-place=title]").textContent;
            if (title.startsWith("Generating")) seen.push(
                [title, document.querySelector("manako-candidates tbody tr th").textContent]);
        }).observe(document.querySelector("manako-app"), { childList: true, subtree: true, characterData: true });
    }""")
    wish(page, 2000)
    generate(page, "私は")
    page.wait_for_function("() => new Set(seen.map(([title]) => title)).size > 5")
    page.keyboard.press("Escape")
    page.wait_for_selector(IDLE)
    page.wait_for_function("() => document.querySelectorAll('manako-tree [role=option]').length === 2")
    steps = int(re.findall(r"of (\d+)", page.inner_text("[data-place=title]"))[0])
    assert 5 < steps < 2000
    assert len({token for _, token in page.evaluate("seen")}) > 1  # the candidates moved along
    until(lambda: not site.runs.live)


def test_a_changed_temperature_holds_for_what_is_written_next(open_live: Callable[..., Page], site: Serving) -> None:
    page = open_live()
    open_tab(page, "what_if")
    page.fill("manako-what-if label:has-text('temperature') input", "0")
    wish(page, 6)
    wait(page, lambda: page.click("[data-act=settings]"))
    open_tab(page, "branches")
    made = open_trace(site, list(site.runs.traces)[-1])
    assert made.header.sampling.temperature == 0
    assert all(step.chosen.rank == 1 for step in made)
    assert "temperature 0," in page.locator("manako-tree [aria-selected=true]").inner_text()


def open_trace(site: Serving, key: str) -> manako.Trace:
    return site.runs._opened(site.runs.traces[key])


def test_a_forced_candidate_forks_with_the_same_luck_and_nothing_is_lost(
    open_live: Callable[..., Page], site: Serving, model: Model
) -> None:
    page = open_live()
    write(page, "\u79c1\u306f", 12, seed=4)
    whole = text_of(page)
    page.click("#token-4")
    wait(page, lambda: page.locator("manako-candidates tbody button.force >> nth=2").click())
    first, forked = (open_trace(site, key) for key in list(site.runs.traces)[-2:])
    token = int(forked.columns.prompt_ids[-1])
    assert token == first.steps[4].candidates[2].id
    assert forked.columns.u[:7].tolist() == first.columns.u[5:12].tolist()
    assert manako.verify(forked).ok
    assert text_of(page) == forked.text.replace("\n", "")
    assert page.inner_text("[data-place=title]").startswith("Step 5 of ")
    assert "the token was forced" in page.inner_text("[data-place=forced]")
    expect(page.locator("manako-candidates tr.forced")).to_have_count(1)
    assert len(rows(page)) == 3
    page.keyboard.press("Control+z")
    assert text_of(page) == whole
    assert len(rows(page)) == 3  # undo shows the text before; the branch stays
    page.click("[data-act=redo]")
    assert text_of(page) == forked.text.replace("\n", "")
    page.reload()
    page.wait_for_selector("manako-tree [role=option] >> nth=2")
    assert text_of(page) == forked.text.replace("\n", "")
    assert page.inner_text("[data-place=title]").startswith("Step 5 of ")


def test_typed_words_fork_at_the_step_or_at_the_end(open_live: Callable[..., Page]) -> None:
    page = open_live()
    write(page, "\u79c1\u306f", 8, seed=4)
    whole = text_of(page)
    page.click("#token-2")
    page.fill("manako-fan input", "\u72ac\u3068")
    wait(page, lambda: page.press("manako-fan input", "Enter"))
    assert text_of(page).startswith(whole[:4] + "\u72ac\u3068")
    page.locator("manako-tree [role=option] >> nth=1").click()
    assert text_of(page) == whole
    page.fill("[data-edit=tail]", "\u72ac\u3068")
    wait(page, lambda: page.press("[data-edit=tail]", "Enter"))
    assert text_of(page).startswith(whole + "\u72ac\u3068")
    expect(page.locator("manako-ribbon .given")).to_have_count(2)
    expect(page.locator("manako-ribbon .given[role=option]")).to_have_count(0)  # without a step: past the end


def test_step_play_and_other_luck(open_live: Callable[..., Page], model: Model) -> None:
    page = open_live()
    write(page, "\u79c1\u306f", 3, seed=4)
    page.focus("manako-ribbon [role=listbox]")
    page.keyboard.press("End")
    wait(page, lambda: page.click("[data-act=step]"))
    assert page.inner_text("[data-place=title]") == "Step 4 of 4"
    assert text_of(page) == model.trace("\u79c1\u306f", max_new_tokens=4, seed=4, temperature=0.8).text
    page.click("[popovertarget=how-to-play]")
    page.select_option("#how-to-play select >> nth=0", "8")
    page.keyboard.press("Escape")
    page.click("[data-act=play]")
    page.wait_for_function("() => /of ([6-9]|\\d\\d)$/.test(document.querySelector('[data-place=title]').textContent)")
    page.click("[data-act=play]")
    page.wait_for_selector(IDLE)
    assert len(rows(page)) == 2  # steps at the end of a text are one row
    page.click("#token-1")
    wait(page, lambda: page.click("[data-act=luck]"))
    assert len(rows(page)) == 3


def test_a_text_of_another_model_can_be_read_but_not_gone_on_with(browser: Browser, model: Model) -> None:
    from golden import golden_trace

    with serving(model, shared=True) as site:
        site.runs.add("golden", to_bytes(golden_trace()))
        page = browser.new_page(locale="ja")
        page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
        page.get_by_text("golden").first.wait_for()
        page.get_by_text("\u5225\u306e\u30e2\u30c7\u30eb").wait_for()
        assert page.is_disabled("[data-act=go]")
        expect(page.locator("button.force")).to_have_count(0)
        page.evaluate("""() => {
            globalThis.others = [];  // what is told of all other tokens while it writes
            new MutationObserver(() => {
                if (!document.querySelector("[data-place=title]").textContent.includes("生成して")) return;
                others.push(document.querySelector("tr.other th").textContent);
            }).observe(document.body, { childList: true, subtree: true });
        }""")
        wish(page, 300, 1)  # so many that a busy machine, too, draws more than the last of them
        generate(page, "私は")
        page.wait_for_selector("[data-act=go]:not([disabled])")
        others = page.evaluate("others")
        assert len(others) > 5 and all("3,85" in text for text in others[1:])  # of its vocabulary, not of the record's
        page.close()


def test_the_server_tells_what_it_refuses(browser: Browser, site: Serving) -> None:
    page = browser.new_page(locale="en")
    page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
    page.wait_for_selector("[data-act=go]:not([disabled])")
    generate(page, "\u3042" * 9000)
    page.wait_for_selector("[data-place=state].warn")
    assert "8192" in page.inner_text("[data-place=state].warn").replace(",", "")
    assert len(rows(page)) == 1
    page.close()


def test_the_tree_is_saved_and_opens_again_also_as_a_page_without_the_network(
    open_live: Callable[..., Page], browser: Browser, tmp_path: Path, model: Model
) -> None:
    page = open_live()
    write(page, "\u732b\u306f", 6, seed=5)
    page.click("#token-3")
    wait(page, lambda: page.locator("button.force >> nth=1").click())
    shown = text_of(page)
    file = tmp_path / "tree.manako"
    save(page, "Trace (.manako)", file)
    tree = open_tree(file)
    assert [branch.parent for branch in tree.branches] == [None, None, tree.branches[1].id]
    assert all(manako.verify(branch.trace).ok for branch in tree.branches)
    html = tmp_path / "texts.html"
    save(page, "Page that works offline", html)
    assert TOKEN not in html.read_text(encoding="utf-8")
    context = browser.new_context(offline=True)
    offline = context.new_page()
    complaints: list[str] = []
    watch(offline, complaints)
    offline.goto(f"{html.as_uri()}#tab=branches+candidates")
    offline.wait_for_selector("manako-tree [role=option] >> nth=2")
    assert text_of(offline) == shown
    offline.locator("manako-tree [role=option] >> nth=0").click()
    assert text_of(offline) == manako.open(example()).text
    assert offline.is_hidden("[data-act=go]")
    close([context], complaints)
    with serving(model, shared=True) as again:
        from manako.cli.serve import _add

        _add(again.runs, "tree.manako", tree)
        other = browser.new_page(locale="en")
        other.goto(f"http://{again.host}/#token={TOKEN}&tab=branches+candidates")
        other.wait_for_selector("manako-tree [role=option] >> nth=2")
        assert rows(other) == rows(page)
        other.close()


def test_guess_first_hides_what_comes_and_scores_in_bits(open_live: Callable[..., Page]) -> None:
    page = open_live()
    trace = manako.open(example())
    whole, count = text_of(page), len(trace)
    page.click("[data-toggle=guess]")
    assert text_of(page) == trace.text[:2]
    for hidden in ("manako-candidates", "manako-fan", "manako-draw", "manako-tree", "[role=tablist]"):
        assert page.is_hidden(hidden), hidden
    page.keyboard.press("End")
    assert text_of(page) == trace.text[:2]
    listed = trace.steps[0].candidates[:10]
    values = [int(v) for v in page.eval_on_selector_all("manako-guess [type=radio]", "all => all.map(e => e.value)")]
    assert values == [*sorted(c.id for c in listed), -1]
    page.check(f"manako-guess [type=radio][value='{trace.steps[0].token_id}']")
    page.get_by_role("button", name="Show the draw").click()
    drawn = trace.steps[0].chosen
    own = fixed(-math.log2(drawn.p), 2)
    assert own != fixed(-math.log2(drawn.p_model), 2)  # the surprisal: the score is of p
    scored = page.inner_text("manako-guess")
    assert f"Your score: 1.00 bits; the draw's own p would have scored {own} bits" in scored  # half sure, and right
    assert "surprisal" not in scored
    assert text_of(page) == trace.text[:3] and page.is_visible("manako-candidates") and page.is_hidden("manako-tree")
    for _ in range(count - 1):
        page.get_by_role("button", name="Next guess").click()
        page.check("manako-guess [type=radio][value='-1']")
        page.get_by_role("button", name="Show the draw").click()
    assert "last step" in page.inner_text("manako-guess") and f"Guesses so far: {count}" in page.inner_text(
        "manako-guess"
    )
    page.click("[data-toggle=guess]")
    assert text_of(page) == whole and page.is_visible("manako-tree")


@pytest.mark.parametrize(("lang", "width"), [("ja", 360), ("en", 1280)])
def test_axe_has_nothing_to_say_of_writing_branches_and_guesses(
    lang: str, width: int, open_live: Callable[..., Page]
) -> None:
    page = open_live(viewport={"width": width, "height": 900}, locale=lang)

    def nothing_to_say() -> None:
        for _ in looks(page, widths=[width]):
            assert violations(page) == []

    wish(page, 4)
    wait(page, lambda: page.locator("manako-fan button >> nth=2").click())
    nothing_to_say()
    page.click("[data-toggle=guess]")
    nothing_to_say()
    page.check("manako-guess [type=radio] >> nth=0")
    page.click("manako-guess form button")
    nothing_to_say()


def test_everything_can_be_done_by_keyboard(open_live: Callable[..., Page]) -> None:
    page = open_live()
    wish(page, 3)
    reached = set()
    page.focus("header button")
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(e => e.dataset.act ?? e.dataset.edit ?? e.className ?? e.localName)(document.activeElement)"
                " + ' ' + (document.activeElement.closest('manako-tree') ? 'tree' : '')"
            ).strip()
        )
    for control in ("step", "play", "go", "luck", "force", "prompt", "tail", "branches tree"):
        assert control in reached, reached
    page.focus("[data-act=luck]")
    wait(page, lambda: page.keyboard.press("Enter"))
    assert page.evaluate("document.activeElement.dataset.act") == "luck"  # where the reader was
    page.focus("manako-tree [role=listbox]")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.activeElement.closest('manako-tree')")
    assert text_of(page) == manako.open(example()).text
    page.keyboard.press("ArrowDown")
    assert text_of(page) != manako.open(example()).text


def test_hostile_tokens_stay_text_while_they_are_written_and_in_the_tree(browser: Browser) -> None:
    plain, odd = [written_kinds(browser, tokens) for tokens in ([b"abc"] * len(PAYLOADS), PAYLOADS)]
    assert odd <= plain


def written_kinds(browser: Browser, tokens: Sequence[bytes]) -> set[str]:
    """The kinds of elements that a page ever had while such tokens were written, guessed and saved as a picture."""
    record = trace_of(tokens)

    def made(prompt: str, **_: Any) -> Generation:
        session = FakeSession(np.concatenate([record.logits, record.logits[:1]]))
        header = replace(record.header, prompt=prompt)
        return Generation(session, header, record.columns.prompt_ids.tolist(), record.vocabulary, ())

    with serving(made) as site:
        site.runs.add(tokens[0].decode("utf-8", "replace"), to_bytes(record))
        page = browser.new_page(locale="en")
        complaints: list[str] = []
        watch(page, complaints)
        page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
        page.wait_for_selector("[data-edit=prompt][contenteditable]")
        page.evaluate("""() => {
            globalThis.kinds = new Set();
            const look = () => document.querySelectorAll("*").forEach((e) => kinds.add(e.localName));
            new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
            look();
        }""")
        generate(page, "".join(token.decode("utf-8", "replace") for token in tokens[:20]))
        page.wait_for_selector("manako-tree [role=option] >> nth=1")
        page.wait_for_selector(IDLE)
        page.click("[data-toggle=guess]")
        page.check("manako-guess [type=radio] >> nth=3")
        page.click("manako-guess form button")
        found = set(page.evaluate("[...kinds]"))
        assert complaints == []
        page.close()
        return found


def test_a_connection_that_breaks_leaves_the_page_alive_and_the_text_readable(browser: Browser, site: Serving) -> None:
    page = browser.new_page(locale="en")
    page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
    page.wait_for_selector("[data-act=go]:not([disabled])")
    before = text_of(page)
    page.route("**/api/traces/*", lambda route: route.abort())  # the finished record does not come through
    wish(page, 5)
    page.click("[data-act=go]")
    page.wait_for_selector("[data-place=state].warn")
    said = page.inner_text("[data-place=state].warn")
    assert "does not answer" in said and "not in any trace: " in said
    expect(page.locator("[data-act=go]")).to_be_enabled()
    assert text_of(page) == before and len(rows(page)) == 1
    page.unroute("**/api/traces/*")
    wait(page, lambda: page.click("[data-act=go]"))
    assert text_of(page).startswith(before)
    expect(page.locator("[data-place=state].warn")).to_have_count(0)
    page.close()


def test_while_the_model_loads_the_page_stays_whatever_the_server_does(browser: Browser, model: Model) -> None:
    with serving(shared=True) as site:
        site.runs.add("example", to_bytes(manako.open(example())))
        page = browser.new_page(locale="en")
        page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
        page.get_by_text("is still loading").wait_for()
        page.route("**/api/model", lambda route: route.abort())
        page.get_by_text("does not answer").wait_for()
        assert text_of(page) == manako.open(example()).text
        page.unroute("**/api/model")
        site.runs.model.set_result(model)
        page.wait_for_selector("[data-act=go]:not([disabled])")
        expect(page.locator("[data-place=state].warn")).to_have_count(0)
        page.close()


def test_stop_counts_before_the_first_step_and_undo_waits_for_the_last(
    open_live: Callable[..., Page], site: Serving
) -> None:
    page = open_live()
    wish(page, 2000)
    page.evaluate("""() => {
        document.querySelector("[data-act=new]").click();
        document.querySelector("[data-act=stop]").click();
    }""")
    page.wait_for_selector(IDLE)
    until(lambda: not site.runs.live)
    assert text_of(page) == manako.open(example()).text
    for _ in range(2):
        write(page, "\u79c1\u306f", 3, seed=4)
    wish(page, 2000)
    generate(page, "私は")
    page.wait_for_selector("manako-app[data-writing]")
    until(lambda: len(text_of(page)) > len("私は"))  # stopped before its first step there would be no third text
    for _ in range(5):
        page.keyboard.press("Control+z")
    page.keyboard.press("Escape")
    page.wait_for_selector(IDLE)
    page.click("[data-act=undo]")
    page.click("[data-act=undo]")
    assert page.is_enabled("[data-act=undo]")  # nothing of it was lost


def test_a_text_goes_on_in_another_way_with_the_settings_of_its_own_end(
    open_live: Callable[..., Page], site: Serving
) -> None:
    page = open_live()
    wish(page, 4)
    open_tab(page, "what_if")
    page.fill("manako-what-if label:has-text('temperature') input", "0")
    wait(page, lambda: page.click("[data-act=go]"))
    page.click("#token-2")  # of the part that was written at 0.8
    wait(page, lambda: page.click("[data-act=go]"))
    assert open_trace(site, list(site.runs.traces)[-1]).header.sampling.temperature == 0
    page.click("[data-act=undo]")
    page.click("[data-act=undo]")
    assert text_of(page) == manako.open(example()).text
    wait(page, lambda: page.click("[data-act=go]"))
    assert open_trace(site, list(site.runs.traces)[-1]).header.sampling.temperature == 0.8
    open_tab(page, "branches")
    assert len(rows(page)) == 2


def test_play_gives_up_where_the_server_does(browser: Browser, site: Serving) -> None:
    page = browser.new_page(locale="en")
    page.goto(f"http://{site.host}/#token={TOKEN}&tab=branches+candidates")
    page.wait_for_selector("[data-act=go]:not([disabled])")
    asked: list[str] = []
    page.route("**/api/generate", lambda route: (asked.append(route.request.url), route.abort()))
    page.focus("manako-ribbon [role=listbox]")
    page.keyboard.press("End")
    page.click("[popovertarget=how-to-play]")
    page.select_option("#how-to-play select >> nth=0", "8")
    page.keyboard.press("Escape")
    page.click("[data-act=play]")
    page.wait_for_selector("[data-place=state].warn")
    page.wait_for_timeout(500)  # four more, at this speed
    assert len(asked) == 1 and page.inner_text("[data-act=play]") == "Play"
    page.close()


def test_a_step_of_a_long_text_repeats_none_of_its_attention(open_live: Callable[..., Page], site: Serving) -> None:
    page = open_live()
    page.focus("manako-ribbon [role=listbox]")
    page.keyboard.press("End")
    wait(page, lambda: page.click("[data-act=step]"))
    stepped = open_trace(site, list(site.runs.traces)[-1])
    assert stepped.attention.prompt_rows == 0 and manako.verify(stepped).ok
    open_tab(page, "attention")
    assert page.inner_text("manako-attention")


def test_whatever_is_done_every_number_is_that_of_the_record(
    open_live: Callable[..., Page], tmp_path: Path, model: Model
) -> None:
    page, chance = open_live(), random.Random(5)
    wish(page, 5)
    shown: list[tuple[str, list[dict[str, str]]]] = []
    for _ in range(14):
        act = chance.choice(["force", "luck", "here", "end", "go", "step", "settings", "tree"])
        options = page.eval_on_selector_all("manako-ribbon [role=option]", "all => all.map(e => '#' + e.id)")
        page.click(chance.choice(options))
        open_tab(page, "what_if" if act == "settings" else "branches")
        if act == "tree":
            page.locator("manako-tree [role=option]").nth(chance.randrange(len(rows(page)))).click()
        elif act == "force":
            button = page.locator("manako-fan button").nth(chance.randrange(9))
            wait(page, button.click)
        elif act in ("here", "end"):
            field = "manako-fan input" if act == "here" else "[data-edit=tail]"
            page.fill(field, chance.choice(["犬", "それは", "\n😀"]).strip())
            wait(page, lambda field=field: page.press(field, "Enter"))
        elif act == "step":
            page.focus("manako-ribbon [role=listbox]")
            page.keyboard.press("End")
            wait(page, lambda: page.click("[data-act=step]"))
        else:
            if act == "settings":
                page.fill("manako-what-if label:has-text('temperature') input", str(chance.choice([0, 0.5, 1.5])))
            wait(page, lambda act=act: page.click(f"[data-act={act}]"))
        open_sheet(page, "share")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the steps as CSV").click()
        page.keyboard.press("Escape")
        table = csv.DictReader(download.value.path().read_text(encoding="utf-8-sig").splitlines())
        branch = re.findall(r"branch=([\w-]+)", page.evaluate("location.hash"))[0]
        shown.append((branch, list(table)))
    file = tmp_path / "tree.manako"
    save(page, "Trace (.manako)", file)
    tree = {branch.id: branch for branch in open_tree(file).branches}
    assert len(tree) > 8 and all(manako.verify(branch.trace).ok for branch in tree.values())
    for branch, table in shown:
        expected = expected_steps(tree, branch)
        assert [(int(r["step"]), int(r["token_id"]), r["forced"]) for r in table] == [each[:3] for each in expected]
        assert [float(r["p"]) for r in table] == pytest.approx([each[3] for each in expected], abs=1e-9)


def expected_steps(tree: dict[str, Branch], leaf: str) -> list[tuple[int, int, str, float]]:
    """(step, id, whether it was put in, p) of each step of a text, gathered branch by branch from its beginning."""
    chain = [tree[leaf]]
    while chain[0].parent:
        chain.insert(0, tree[chain[0].parent])
    found: list[tuple[int, int, str, float]] = []
    for branch, child in zip(chain, [*chain[1:], None], strict=True):
        steps, first = branch.trace.steps, branch.trace.header.first_step
        kept = len(steps) if child is None else child.keep
        found += [(first + i + 1, s.token_id, "", s.chosen.p) for i, s in enumerate(steps[:kept])]
        if child is not None and kept < len(steps):  # the step that was forked has the numbers of what was put there
            place = len(branch.trace.columns.prompt_ids) + kept
            if place < len(child.trace.columns.prompt_ids):
                token = int(child.trace.columns.prompt_ids[place])
                found.append((first + kept + 1, token, "1", derive(branch.trace, kept).p[token]))
    return found


def test_a_part_that_was_written_without_captures_says_so(open_live: Callable[..., Page]) -> None:
    page = open_live()
    wish(page, 2, inside=False)
    wait(page, lambda: page.click("[data-act=go]"))
    for tab in ("attention", "layers", "why"):
        open_tab(page, tab)
        assert "Not stored for this step" in page.inner_text(f"#panel-{tab}")
    page.click("#token-3")
    for tab in ("attention", "layers", "why"):
        open_tab(page, tab)
        expect(page.locator(f"#panel-{tab} table")).not_to_have_count(0)
        assert "Not stored" not in page.inner_text(f"#panel-{tab}")


def test_putting_in_what_was_drawn_is_not_said_to_be_something_else(open_live: Callable[..., Page]) -> None:
    page = open_live()
    wish(page, 2)
    page.click("#token-2")
    wait(page, lambda: page.locator("manako-candidates tr.chosen button.force").click())
    expect(page.locator("manako-candidates tr.chosen.forced")).to_have_count(1)
    assert page.inner_text("[data-place=forced]") == ""
