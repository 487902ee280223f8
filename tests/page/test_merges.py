"""The merge player: in one file without a network and in the served page, by keyboard, with a table, at 360 pixels."""

import json
from pathlib import Path

import pytest
from pages import close, open_tab, violations, watch
from playwright.sync_api import Browser, Page, expect
from serving import TOKEN, serving
from toy import write_toy

from manako.analysis.merges import Replay, merge_table, replay
from manako.corpus import build
from manako.formats import run_folder
from manako.messages import text
from manako.model import Model, for_page, load
from manako.refs import Ref
from manako.trace.file import to_bytes
from manako.training.run import keep_settings
from manako.views.html import Carried, page

PROMPT = "猫は猫である。猫は思う。"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The checkpoint of a run whose corpus is there."""
    place = tmp_path_factory.mktemp("merges")
    (place / "a.txt").write_text(f"{PROMPT}\n" * 30, encoding="utf-8")
    corpus = build(place / "a.txt", place / "c", tokenizer="bpe", vocab_size=270, validation=0.1)
    run = place / "run"
    step = run_folder.step_folder(run, 1)
    write_toy(step, Ref.parse(place / "c").tokenizer())
    (step / run_folder.STATE).write_text(json.dumps({"corpus": corpus.digest}))
    run_folder.point(run, run_folder.LAST, step)
    keep_settings(run, {}, [str(place / "c")])
    return load(run)


def told(shown: Page) -> str:
    return shown.locator(".merges-now").inner_text()


def pieces(shown: Page) -> list[str]:
    return shown.locator("manako-merges .cut").all_inner_texts()


def cuts(found: Replay, count: int) -> list[str]:
    spans = found.merges[count - 1].pieces if count else found.begin
    return [found.read[a:b].decode() for a, b in spans]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_file_replays_its_text_offline(browser: Browser, tmp_path: Path, model: Model, lang: str) -> None:
    ref = Ref.parse(model.ref)
    corpus = ref.counted(model.tokenizer)
    table, data = merge_table(model.tokenizer, corpus), for_page(model.ref)
    file = tmp_path / "page.html"
    trace = model.score(PROMPT)
    file.write_text(page(trace, lang, Carried("run", len(data), data, merges=table)), encoding="utf-8")
    counts = dict(json.loads(table)["counts"])
    found = replay(model.tokenizer, PROMPT, counts=counts)
    assert corpus and found and len(found.merges) > 3 and found.merges[0].count
    complaints: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 360, "height": 740})
    shown = context.new_page()
    watch(shown, complaints)
    shown.goto(file.as_uri())
    open_tab(shown, "merges")
    assert pieces(shown) == cuts(found, 0)
    slider = shown.locator("manako-merges input")
    for at, merge in enumerate(found.merges, 1):
        slider.press("ArrowRight")
        parts = {name: getattr(merge, name).decode() for name in ("left", "right", "made")}
        numbers = {"rank": merge.rank, "times": merge.count, "places": len(merge.places), "pieces": len(merge.pieces)}
        assert told(shown) == text("page.merges_counted", lang, number=at, count=len(found.merges), **parts, **numbers)
        assert pieces(shown) == cuts(found, at)
        assert set(shown.locator("manako-merges .made").all_inner_texts()) == {merge.made.decode()}
    back, forward = (text(f"page.merges_{name}", lang) for name in ("back", "forward"))
    expect(shown.get_by_role("button", name=forward)).to_be_disabled()
    shown.get_by_role("button", name=back).press("Enter")
    assert pieces(shown) == cuts(found, len(found.merges) - 1)
    shown.locator("manako-merges summary").press("Enter")
    expect(shown.locator("manako-merges tbody tr")).to_have_count(len(found.merges))
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360
    assert lang == "ja" or violations(shown) == []
    close([context], complaints)


def test_the_served_page_plays_them_to_the_end(browser: Browser, model: Model) -> None:
    complaints: list[str] = []
    context = browser.new_context(locale="en")
    shown = context.new_page()
    watch(shown, complaints)
    with serving(model) as site:
        site.runs.add("scored", to_bytes(model.score(PROMPT)))
        shown.goto(f"http://{site.host}/#token={TOKEN}")
        open_tab(shown, "merges")
        shown.clock.install()
        shown.locator("manako-merges").get_by_role("button", name="Play").click()
        expect(shown.locator("manako-merges").get_by_role("button", name="Pause")).to_be_visible()
        shown.clock.run_for(60_000)
        expect(shown.locator("manako-merges").get_by_role("button", name="Play")).to_be_visible()
        assert pieces(shown) == [model.tokenizer.token_bytes[i].decode() for i in model.tokenizer.encode(PROMPT)]
        close([context], complaints)
