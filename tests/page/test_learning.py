"""The page of a training: one file, offline; slider, play, heat map and tables, by keyboard, at 360 pixels too."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from toy import write_toy

from manako.experiments.dynamics import dynamics
from manako.formats import run_folder
from manako.messages.numbers import percent
from manako.trace.dynamics import Dynamics
from manako.views.html import learning_page

STEPS = (0, 1, 2, 4, 8, 40)
TEXT = "私あ猫いうえ"  # a token a character


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Dynamics:
    run = tmp_path_factory.mktemp("runs") / "mine"
    for step in STEPS:
        write_toy(run_folder.step_folder(run, step), seed=step)
    run_folder.point(run, run_folder.LAST, run_folder.step_folder(run, STEPS[-1]))
    return dynamics(run, TEXT, max_new_tokens=6)


@pytest.fixture
def opened(browser: Browser, tmp_path: Path, found: Dynamics) -> Iterator[Callable[..., Page]]:
    complaints: list[str] = []
    contexts: list[Any] = []
    numbers = itertools.count()

    def open_(lang: str = "en", record: Dynamics = found, wait: str = "main", **settings: Any) -> Page:
        file = tmp_path / f"{next(numbers)}.html"
        file.write_text(learning_page(record, lang), encoding="utf-8")
        contexts.append(browser.new_context(offline=True, **settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(file.as_uri())
        page.wait_for_selector(f"manako-learning {wait}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def slide(page: Page, z: int) -> None:
    page.locator("input[type=range]").fill(str(z))


def test_the_slider_changes_all_that_hangs_on_time(opened: Callable[..., Page], found: Dynamics) -> None:
    page = opened()
    seen = set()
    for z in (0, 3, 5):
        slide(page, z)
        assert f"step {STEPS[z]} " in page.locator(".learning-now").inner_text()
        assert f"{found.bits_per_character[z]:.2f}" in page.locator(".learning-now").inner_text()
        best = page.locator(".learning-bars").first.locator("li .number").first.inner_text()
        s = len(found.tokens) - 1
        assert best.startswith(f"{100 * found.top(z, s, 1)[0][2]:.1f}"[:3])
        seen.add((page.locator(".learning-written mark").inner_text(), page.locator(".learning-looks").inner_html()))
    assert len(seen) == 3


def test_any_head_at_any_snapshot(opened: Callable[..., Page], found: Dynamics) -> None:
    page, last = opened("ja"), len(found.tokens) - 1
    layers, heads = found.columns["attention"].shape[1:3]
    select = page.locator("main select")
    expect(select.locator("option")).to_have_count(1 + layers * heads)
    for z, layer, head in ((0, 0, 1), (4, 1, 0)):
        slide(page, z)
        select.select_option(label=f"{layer}.{head}")
        given = weights_of(found, z, last)[layer, head].tolist()
        chips = page.locator(".learning-looks li")
        assert [chip.get_attribute("title") for chip in chips.all()] == [percent(p) for p in given]
    page.locator("[data-choice=en]").click()
    assert select.locator("option:checked").inner_text() == "1.0"
    select.select_option(label="mean of all")
    assert percent(float(weights_of(found, 4, last).mean(axis=(0, 1))[0])) == chips.first.get_attribute("title")


def weights_of(found: Dynamics, z: int, s: int) -> Any:
    weights = found.attention(z, s)
    assert weights is not None
    return weights


def test_attention_is_that_of_the_chosen_token_or_of_the_one_that_was_kept(
    opened: Callable[..., Page], found: Dynamics
) -> None:
    one = len(found.tokens) - 3
    keys = len(found.columns["prompt_ids"]) + one
    before = found.columns["attention"].shape[3] - sum(keys + n for n in range(3))
    kept = found.columns["attention"][..., before : before + keys]
    header = replace(found.header, attention_step=one)
    for record in (found, replace(found, header=header, columns={**found.columns, "attention": kept})):
        page = opened(record=record)
        slide(page, 2)
        page.locator("main select").select_option(label="1.1")
        for s in range(len(found.tokens) - 1, -1, -2):
            shown = s if record is found else one
            titles = [chip.get_attribute("title") for chip in page.locator(".learning-looks li").all()]
            assert titles == [percent(p) for p in weights_of(record, 2, shown)[1, 1].tolist()]
            assert page.get_by_role("heading", name="Attention of").inner_text().endswith(TEXT[shown])
            page.locator(".learning-map").press("ArrowUp")
            page.locator(".learning-map").press("ArrowUp")


def test_a_cell_is_chosen_by_pointer_and_by_keyboard(opened: Callable[..., Page], found: Dynamics) -> None:
    page = opened()
    area = page.locator(".learning-map")
    box = area.bounding_box()
    assert box
    cell = (box["width"] / len(STEPS), box["height"] / len(found.tokens))
    area.click(position={"x": 2.5 * cell[0], "y": 1.5 * cell[1]})
    chosen = page.get_by_text("probability").first

    def told(z: int, s: int) -> None:
        assert f"step {STEPS[z]}:" in chosen.inner_text() and f"rank {found.rank[z, s]}" in chosen.inner_text()

    told(2, 1)
    for key, z, s in (("ArrowRight", 3, 1), ("ArrowDown", 3, 2), ("ArrowLeft", 2, 2), ("ArrowUp", 2, 1)):
        area.press(key)
        told(z, s)
    for _ in range(9):
        area.press("ArrowLeft")
        area.press("ArrowUp")
    told(0, 0)


def test_play_goes_through_all_snapshots_and_stops(opened: Callable[..., Page]) -> None:
    page = opened()
    slider = page.locator("input[type=range]")
    page.evaluate("""() => {  // in the page: from here a busy machine would see some of its values alone
        const slider = document.querySelector("input[type=range]");
        const all = [...document.querySelectorAll("button")];
        const button = (name) => all.find((each) => each.textContent.includes(name));
        const watch = (began) => began && slider.value >= 2
            ? button("Stop").click()
            : requestAnimationFrame(() => watch(began || slider.value === "0"));
        button("Play").click();
        watch(false);
    }""")
    page.get_by_role("button", name="Stop").wait_for(state="hidden")
    page.get_by_role("button", name="Play").wait_for()
    held = slider.input_value()
    assert held in ("2", "3", "4")
    page.wait_for_timeout(1000)
    assert slider.input_value() == held
    page.get_by_role("button", name="Play").click()
    expect(slider).to_have_value("5")
    page.get_by_role("button", name="Play").wait_for()


def test_a_table_is_behind_each_picture(opened: Callable[..., Page], found: Dynamics) -> None:
    page = opened("ja")
    summaries = page.locator("summary")
    expect(summaries).to_have_count(3)  # this run has neither corpus nor log
    for i in range(3):
        summaries.nth(i).press("Enter")
    expect(page.locator("details table").nth(0).locator("tbody tr")).to_have_count(len(found.tokens))
    expect(page.locator("details table").nth(1).locator("tbody tr")).to_have_count(len(STEPS))


def test_a_new_snapshot_leaves_the_focus_and_what_is_open(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("summary").nth(1).press("Enter")
    for wanted in ("input[type=range]", "details .scroll >> nth=0"):
        page.locator(wanted).first.focus()
        page.evaluate("document.querySelector('manako-learning').warnUnchecked()")  # drawn anew, as for a snapshot
        expect(page.locator(wanted).first).to_be_focused()
    expect(page.locator("details[open]")).to_have_count(1)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_it_fits_360_pixels(opened: Callable[..., Page], lang: str) -> None:
    page = opened(lang, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("[data-choice=ja]").click()
    assert "学習の経過" in page.locator("h1").inner_text()


def test_a_reload_keeps_the_language(opened: Callable[..., Page]) -> None:
    page = opened("en")
    page.locator("[data-choice=ja]").click()
    page.reload()
    expect(page.locator("h1")).to_contain_text("学習の経過")
    assert page.get_attribute("html", "lang") == "ja"


def test_the_key_has_the_stroke_of_each_line(opened: Callable[..., Page]) -> None:
    page = opened()
    told, drawn = page.evaluate("""() => {
        const all = (what) => [...document.querySelectorAll(what)];
        const lines = all(".learning-plot polyline").filter(({ style }) => style.stroke !== "var(--line)"); // the grid
        return [
            all(".learning-key li").map((name) => getComputedStyle(name, "::before").borderTopStyle === "dashed"),
            lines.map((line) => line.hasAttribute("stroke-dasharray")),
        ];
    }""")
    assert told == drawn and {*told} == {True, False}


def test_hostile_text_stays_text(opened: Callable[..., Page], found: Dynamics) -> None:
    hostile = "<img src=x onerror=alert(1)></script>\u202e"
    page = opened(record=replace(found, header=replace(found.header, run=hostile.replace("/", ""), text=hostile)))
    expect(page.locator("img")).to_have_count(0)
    assert "<img" in page.locator("h1").inner_text()
    assert "\u202e" not in page.locator("manako-learning").inner_text()


def test_a_changed_number_is_told(
    opened: Callable[..., Page], found: Dynamics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manako.trace.dynamics.digests", lambda arrays: dict.fromkeys(arrays, "0" * 64))
    page = opened(wait="p.warn")
    assert "damaged" in page.locator("p.warn").inner_text()
