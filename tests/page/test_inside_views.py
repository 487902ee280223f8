"""The overview of all heads, the lens around a step, the ranks through the layers: what they show and how they act."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from golden import INSIDE, INSIDE_MODEL, FakeInside, golden_header, golden_inside
from pages import PAYLOADS, looks, violations
from playwright.sync_api import Page, expect
from serving import until

import manako
from manako.analysis.lens import lens
from manako.engines.captures import CaptureRecorder
from manako.engines.generation import Generation
from manako.messages.numbers import percent
from manako.refs import DEMO
from manako.sampling import Sampling
from manako.trace.record import Trace, Vocabulary
from manako.trace.tree import Branch, Tree

Open = Callable[..., Page]
PIXEL = """([x, y]) => {
    const seen = document.querySelector("manako-heads canvas"), copy = document.createElement("canvas");
    [copy.width, copy.height] = [seen.width, seen.height];
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(seen, 0, 0);
    return [...pen.getImageData(x, y, 1, seen.height - y).data];
}"""  # a column of pixels, from a place down
COLOUR = "name => getComputedStyle(document.querySelector('manako-heads canvas'))[name]"
DRAWN = "manako-heads canvas[style]:not([aria-busy])"
NUMBERS, BETWEEN = 22, 6  # CSS pixels before the squares and between them
LAYERS, HEADS = (json.loads((DEMO / "config.json").read_text())[name] for name in ("n_layer", "n_head"))


@cache
def demo() -> Trace:
    return manako.load("demo").trace("吾輩は猫である。", max_new_tokens=40, seed=0, temperature=0.8, capture=INSIDE)


def inside_of(tokens: Sequence[bytes], rows: npt.NDArray[np.float32]) -> Trace:
    """A record of the golden model's inside over other tokens, one step a row, drawn greedily."""
    session = FakeInside(rows, context=len(rows) + 1)
    settings: dict[str, Any] = {"sampling": Sampling(temperature=0), "special_ids": (), "end": "interrupted"}
    header = golden_header(model=INSIDE_MODEL, self_checks=(), max_new_tokens=len(rows), **settings)
    recorder = CaptureRecorder(session, INSIDE)
    vocabulary = Vocabulary(tokens, len(tokens), frozenset())
    generation = Generation(session, header, (len(tokens) - 1,), vocabulary, (), recorder)
    for _ in rows:
        generation.advance()
    return replace(generation.trace(), header=replace(header, capture=INSIDE, parts=generation.trace().header.parts))


def many_heads(layers: int, heads: int, steps: int) -> Trace:
    """A long record of a model with this many heads, whose attention is random."""
    rng = np.random.default_rng(3)
    names = [chr(ord("あ") + i).encode() for i in range(60)]
    trace = inside_of(names, rng.normal(0, 2, size=(steps, len(names))).astype(np.float32))
    rows = [rng.dirichlet(np.full(n, 0.1), size=layers * heads).ravel() for n in range(1, steps + 1)]
    attention = np.concatenate(rows).astype(np.float32)
    shape = np.array([layers, heads, 0], dtype=np.int32)
    captured = {**trace.columns.captured, "attention": attention, "attention_shape": shape}
    return replace(trace, columns=replace(trace.columns, captured=captured))


def pixels(page: Page, x: int, y: int) -> list[tuple[int, ...]]:
    page.wait_for_selector(DRAWN)
    column = page.evaluate(PIXEL, [x, y])
    return [tuple(column[i : i + 3]) for i in range(0, len(column), 4)]


def colour(page: Page, name: str) -> tuple[int, ...]:
    """What the style sheet gives the canvas: color of a share of 1, caretColor of 0, outlineColor of the line."""
    text = page.evaluate(COLOUR, name)
    return tuple(int(n) for n in text.removeprefix("rgb(").removesuffix(")").split(", "))


def side_of(page: Page, heads: int) -> int:
    page.wait_for_selector(DRAWN)
    width = page.eval_on_selector("manako-heads canvas", "e => e.width / devicePixelRatio")
    return round((width - NUMBERS) / heads - BETWEEN)


def settled(page: Page, text: str) -> None:
    expect(page.locator("[data-place=title]")).to_have_text(text)


def test_a_click_on_a_square_chooses_its_head(open_page: Open) -> None:
    page = open_page(demo(), "en", "step=9&tab=attention+layers")
    pitch = side_of(page, HEADS) + BETWEEN
    frame = colour(page, "borderTopColor")
    at = (NUMBERS + pitch * 2 + pitch // 2, NUMBERS + pitch - 2)  # the upper edge of 1.2, where nothing is chosen yet
    assert pixels(page, *at)[0] != frame
    page.click("manako-heads canvas", position={"x": NUMBERS + pitch * 2.5, "y": NUMBERS + pitch * 1.5})
    assert [page.locator("manako-attention select").nth(i).input_value() for i in (0, 1)] == ["1", "2"]
    assert pixels(page, *at)[0] == frame
    page.click("manako-heads canvas", position={"x": 4, "y": 4})  # beside every square
    assert page.locator("manako-attention select").first.input_value() == "1"


def test_the_line_is_at_the_step(open_page: Open) -> None:
    trace = demo()
    rows = len(trace.all_ids) - 1
    page = open_page(trace, "en", "step=1&tab=attention+layers")
    side, ink = side_of(page, HEADS), colour(page, "outlineColor")
    for step in (0, 7, 39):
        page.locator("[role=option]").nth(step).click()
        column = pixels(page, NUMBERS + side // 2, NUMBERS)[:side]
        row = rows - len(trace) + step
        marked = [y for y, pixel in enumerate(column) if pixel == ink]
        assert marked and abs(marked[0] - row * side / rows) <= 2


def test_a_square_has_the_shares_of_its_head(open_page: Open) -> None:
    page = open_page(golden_inside(), "en", "step=12&tab=attention+layers")
    side = side_of(page, 2)
    full, none = colour(page, "color"), colour(page, "caretColor")
    first = pixels(page, NUMBERS + side + BETWEEN + 2, NUMBERS)  # head 0.1 rests on the first token alone
    assert first[side // 12 * 6] == full
    second = pixels(page, NUMBERS + side + BETWEEN + side // 12 + 2, NUMBERS)
    assert second[side // 12 * 6] == none
    even = pixels(page, NUMBERS + side + BETWEEN + 2, NUMBERS + side + BETWEEN)  # head 1.1 looks at all alike
    shade = even[int(side / 12 * 8.5)]
    expected = [n + (f - n) * (1 / 9) ** 0.5 for n, f in zip(none, full, strict=True)]
    assert np.abs(np.subtract(shade, expected)).max() <= 2


def test_the_text_is_tinted_by_the_share_of_each_token(open_page: Open) -> None:
    trace = demo()
    page = open_page(trace, "en", "step=9&layer=1&head=2&tab=attention+layers")
    for step in (8, 30, 3):  # forward and back
        page.locator("[role=option]").nth(step).click()
        weights = trace.attention[step][1, 2]
        found = page.eval_on_selector_all(
            "manako-attention .text > .token",
            "all => all.map(e => [Number(e.style.getPropertyValue('--weight')), getComputedStyle(e).backgroundColor])",
        )
        assert np.abs(np.array([weight for weight, _ in found]) - weights / weights.max()).max() < 1e-3
        assert len({tint for _, tint in found}) > 3
        text = page.inner_text("manako-attention .text")
        figures = [percent(float(weight)) for weight in sorted(weights, reverse=True)[:5]]
        assert sorted(page.locator("manako-attention .text small").all_inner_texts()) == sorted(figures)
        assert text[0] == trace.text[0]


def test_the_squares_follow_the_scheme_and_the_width(open_page: Open) -> None:
    page = open_page(
        golden_inside(),
        "en",
        "step=12&tab=attention+layers",
        color_scheme="light",
        viewport={"width": 1280, "height": 900},
    )
    before = pixels(page, NUMBERS + 2, NUMBERS)
    page.emulate_media(color_scheme="dark")
    until(lambda: pixels(page, NUMBERS + 2, NUMBERS) != before)
    page = open_page(demo(), "en", "step=12&tab=attention+layers", viewport={"width": 1280, "height": 900})
    wide = side_of(page, HEADS)
    page.set_viewport_size({"width": 360, "height": 900})
    until(lambda: side_of(page, HEADS) < wide)


def test_the_table_of_heads_has_the_strongest_of_each(open_page: Open) -> None:
    trace = demo()
    page = open_page(trace, "en", "step=9&tab=attention+layers")
    expect(page.locator("manako-heads details td")).to_have_count(0)  # made when it is opened
    page.click("manako-heads summary")
    for step in (8, 9):
        weights = trace.attention[step].reshape(LAYERS * HEADS, -1)
        expected = [
            [f"{n // HEADS}.{n % HEADS}", str(int(row.argmax()) + 1), percent(float(row.max()))]
            for n, row in enumerate(weights)
        ]
        page.locator("[role=option]").nth(step).click()
        expect(page.locator("manako-heads details tbody tr")).to_have_count(LAYERS * HEADS)
        rows = page.eval_on_selector_all(
            "manako-heads details tbody tr", "rows => rows.map(r => [0, 1, 3].map(i => r.cells[i].innerText.trim()))"
        )
        assert rows == expected


@pytest.mark.parametrize("width", [360, 1280])
def test_the_grid_has_the_likeliest_token_of_each_layer(width: int, open_page: Open) -> None:
    trace = demo()
    page = open_page(trace, "en", "step=20&tab=layers", viewport={"width": width, "height": 900})
    steps = [int(n) - 1 for n in page.locator(".lens-grid button small").all_inner_texts()]
    assert 9 <= len(steps) <= 15 and 19 in steps and steps == list(range(steps[0], steps[-1] + 1))
    found = [lens(trace, step) for step in steps]
    shown = page.eval_on_selector_all(
        ".lens-grid tbody tr", "rows => rows.map(r => [...r.cells].slice(1).map(c => c.lastChild.textContent))"
    )
    assert shown == [[percent(step.first[n][0].p) for step in found] for n in range(LAYERS + 1)]
    agreeing = page.eval_on_selector_all(
        ".lens-grid tbody tr", "rows => rows.map(r => [...r.cells].slice(1).map(c => c.classList.contains('agrees')))"
    )
    assert agreeing == [[s.first[n][0].id == s.chosen[0].id for s in found] for n in range(LAYERS + 1)]
    assert page.eval_on_selector_all(".lens-grid .here", "cells => cells.map(c => c.cellIndex)") == [
        steps.index(19) + 1
    ] * (LAYERS + 2)
    box, frame = (
        page.locator(".lens-grid .here").first.bounding_box(),
        page.locator("manako-lens-grid .scroll").bounding_box(),
    )
    assert box and frame and frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]


def test_a_column_of_the_grid_selects_its_step(open_page: Open) -> None:
    page = open_page(demo(), "en", "step=20&tab=layers", viewport={"width": 1280, "height": 900})
    page.locator(".lens-grid tbody tr").nth(2).locator("td").nth(1).click()
    step = int(page.locator(".lens-grid button small").nth(1).inner_text())
    assert step != 20
    settled(page, f"Step {step} of 40")
    assert page.locator(".lens-grid button[aria-pressed=true] small").all_inner_texts() == [str(step)]
    last = page.locator(".lens-grid button").last
    last.focus()
    step = int(last.locator("small").inner_text())
    page.keyboard.press("Enter")
    settled(page, f"Step {step} of 40")
    assert page.evaluate("document.activeElement.querySelector('small').textContent") == str(step)
    page.locator("[role=option]").nth(39).click()  # far outside: the grid moves along
    assert page.locator(".lens-grid button[aria-pressed=true] small").all_inner_texts() == ["40"]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_ranks_are_those_of_every_tracked_token(lang: str, open_page: Open) -> None:
    trace = demo()
    page = open_page(trace, lang, "step=9&tab=attention+layers")
    for step in (8, 22):
        page.locator("[role=option]").nth(step).click()
        tracked = lens(trace, step).tracked
        expect(page.locator(".ranks polyline[stroke-width]")).to_have_count(len(tracked))
        assert len(tracked) >= 3
        points = page.eval_on_selector_all(
            ".ranks polyline[stroke-width]",
            "all => all.map(e => e.getAttribute('points').split(' ').map(p => p.split(',').map(Number)))",
        )
        rank = np.array([[reading.rank for reading in token] for token in tracked])
        height = np.array(points)[:, :, 1]
        slope = np.polyfit(np.log10(rank).ravel(), height.ravel(), 1)
        assert slope[0] > 0 and np.abs(np.polyval(slope, np.log10(rank)) - height).max() < 1e-6  # 1 is at the top
        names = page.eval_on_selector_all(
            ".ranks polyline + polyline + text", "all => all.map(e => Number(e.getAttribute('y')))"
        )
        assert len(names) == len(tracked) and np.diff(sorted(names)).min() >= 15
        page.locator("manako-lens details").evaluate("e => { e.open = true; }")
        expect(page.locator("manako-lens details tbody tr")).to_have_count(len(tracked))
        cells = page.eval_on_selector_all(
            "manako-lens details tbody tr",
            "rows => rows.map(r => [...r.querySelectorAll('td')].map(c => [...c.childNodes].map(n => n.textContent)))",
        )
        assert cells == [[[percent(r.p), f"{r.rank:,}"] for r in token] for token in tracked]


def test_lines_are_told_apart_by_more_than_colour(open_page: Open) -> None:
    page = open_page(demo(), "en", "step=9&tab=attention+layers")
    looks = page.eval_on_selector_all(
        ".ranks polyline[stroke-width]",
        "all => all.map(e => getComputedStyle(e)).map(s => s.strokeDasharray + s.strokeWidth)",
    )
    assert len(set(looks[:3])) == 3


@pytest.mark.parametrize(("lang", "scheme"), [("en", "light"), ("ja", "dark")])
def test_axe_has_nothing_to_say_of_the_open_tables(lang: str, scheme: str, open_page: Open) -> None:
    page = open_page(demo(), lang, "step=9&layer=1&head=2&tab=attention+layers")
    for _ in looks(page, [scheme]):
        page.eval_on_selector_all(
            "manako-heads details, manako-lens details", "all => all.forEach(e => { e.open = true; })"
        )
        expect(page.locator("manako-heads details tbody tr")).to_have_count(LAYERS * HEADS)
        assert violations(page) == []


def test_hostile_tokens_stay_text_in_every_view(open_page: Open) -> None:
    size = len(PAYLOADS)
    rows = np.zeros((size, size), dtype=np.float32)
    rows[range(size), range(size)] = 4
    kinds = []
    for tokens in ([b"abc"] * size, PAYLOADS):
        page = open_page(inside_of(tokens, rows), "en", "tab=attention+layers")
        page.eval_on_selector_all(
            "manako-heads details, manako-lens details", "all => all.forEach(e => { e.open = true; })"
        )
        expect(page.locator("manako-lens details tbody tr").first).to_be_attached()
        found: set[str] = set()
        for step in range(0, size, 5):
            page.locator("[role=option]").nth(step).click()
            found |= set(page.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))
        kinds.append(found)
        boxes = page.eval_on_selector_all(
            ".lens-grid .cell-token > *, .lens-grid button > *", "all => all.map(e => e.getBoundingClientRect().height)"
        )
        assert max(boxes) < 80  # a token of 3,000 letters too
        names = page.eval_on_selector_all(
            ".ranks polyline + polyline + text", "all => all.map(e => [...e.textContent].length)"
        )
        assert max(names) <= 14
    assert kinds[1] <= kinds[0] | {"small"}


def test_what_was_rounded_is_said(open_page: Open) -> None:
    trace = golden_inside()
    assert "Rounded" not in open_page(trace, "en", "tab=attention").inner_text("manako-attention")
    page = open_page(
        replace(trace, header=replace(trace.header, rounded={"attention": 2.0**-9})), "en", "tab=attention"
    )
    assert "Attention is rounded in this file (relative error ≤ 0.195%)." in page.inner_text("manako-attention")


def test_a_window_that_moves_is_drawn_as_it_moved(open_page: Open) -> None:
    page = open_page(golden_inside(8, prompt_ids=(9, 2, 3, 4), context=6), "en", "step=8&tab=attention+layers")
    side = side_of(page, 2)
    none = colour(page, "caretColor")
    rest = pixels(page, NUMBERS + side + BETWEEN + 2, NUMBERS)[:side]  # head 0.1 and the first token of all
    assert rest[4] != none and rest[side - 8] == none  # which left the window


def test_a_text_that_went_on_from_another_shows_the_record_of_each_step(open_page: Open) -> None:
    model, first = manako.load("demo"), demo()
    run = model.fork(first, 6, text="犬", max_new_tokens=4)
    list(run)
    second = run.trace()
    tree = Tree((Branch("1", None, 0, first), Branch("2", "1", 6, second)), "2")
    page = open_page(tree, "en", "branch=2&step=3&tab=attention+layers")
    side, ink = side_of(page, HEADS), colour(page, "outlineColor")
    for place, trace, step in ((2, first, 2), (7, second, 0), (10, second, 3), (5, first, 5)):
        page.locator("[role=option]").nth(place).click()
        rows = len(trace.all_ids) - 1
        column = pixels(page, NUMBERS + side // 2, NUMBERS)[:side]
        marked = [y for y, pixel in enumerate(column) if pixel == ink]
        assert marked and abs(marked[0] - (rows - len(trace) + step) * side / rows) <= 2
        assert page.locator(".lens-grid button[aria-pressed=true] small").all_inner_texts() == [str(place + 1)]
        expect(page.locator(".ranks polyline[stroke-width]")).to_have_count(len(lens(trace, step).tracked))
    page.locator("[role=option]").nth(7).click()
    page.locator(".lens-grid button").nth(2).click()  # of the second record
    assert page.locator(".lens-grid button[aria-pressed=true] small").all_inner_texts() == ["10"]
    assert page.evaluate("document.querySelector('[role=option][aria-selected=true]').textContent") == (
        second.steps[2].chosen.text
    )


def test_as_many_heads_as_a_large_model_has_are_drawn_and_chosen(open_page: Open) -> None:
    layers, heads, steps = 30, 9, 60
    page = open_page(many_heads(layers, heads, steps), "ja", f"step={steps}&tab=attention+layers")
    side, ink = side_of(page, heads), colour(page, "outlineColor")
    for row in (0, layers - 1):
        top = NUMBERS + row * (side + BETWEEN)
        assert pixels(page, NUMBERS + side // 2, top)[side - 1] == ink  # the row of the step is the last one
    page.click("manako-heads canvas", position={"x": NUMBERS + side // 2, "y": top + side // 2})
    page.wait_for_url(f"**layer={layers - 1}&head=0*")
