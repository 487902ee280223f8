"""The stage and its tabs: every number painted on it is that of the record, and it fits wherever it is opened."""

import math
import re
from collections.abc import Callable

import pytest
from golden import golden_inside, golden_trace
from pages import open_sheet, open_tab, violations
from playwright.sync_api import Page, expect
from trees import toy_tree

import manako
from manako import messages
from manako.analysis.contributions import contributions
from manako.messages.numbers import percent, signed
from manako.trace.record import Trace
from manako.trace.tree import Tree
from manako.views.html import WEB

Open = Callable[..., Page]
HEIGHT = 40  # of the overview
INSIDE = ("attention", "lens", "contributions")
TABS = ("candidates", "what_if", "attention", "layers", "why", "branches")


def demo() -> Trace:
    trace = manako.load("demo").trace("吾輩は猫である。名前は", max_new_tokens=12, seed=28, capture=INSIDE)
    assert isinstance(trace, Trace)
    return trace


def lines(page: Page) -> list[list[list[float]]]:
    """The points of the overview: the area, entropy, surprisal, and the other branch's where there is one."""
    return page.eval_on_selector_all(
        "manako-overview polyline",
        "all => all.map(e => e.getAttribute('points').split(' ').filter(Boolean).map(p => p.split(',').map(Number)))",
    )


def test_the_overview_has_the_surprisal_and_the_entropy_of_each_step(open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(trace)
    page.wait_for_function(
        "n => document.querySelectorAll('manako-overview polyline')[1].points.numberOfItems === n", arg=len(trace)
    )
    top = math.ceil(math.log2(trace.vocabulary.size))
    for found, bits in zip(
        lines(page)[1:], ([s.entropy for s in trace], [-math.log2(s.chosen.p_model) for s in trace]), strict=True
    ):
        assert [x for x, _ in found] == [i + 0.5 for i in range(len(trace))]
        assert [y for _, y in found] == pytest.approx([HEIGHT * (1 - min(1, b / top)) for b in bits], abs=1e-6)
    box = page.locator("manako-overview .chart").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] * 6.5 / len(trace), box["y"] + 10)
    expect(page.locator("[data-place=title]")).to_have_text(f"Step 7 of {len(trace)}")


def test_two_branches_lie_over_each_other_from_where_they_part(open_page: Open) -> None:
    tree = toy_tree()
    assert isinstance(tree, Tree)
    page = open_page(tree, "en", "branch=2")
    branch, parent = (next(b for b in tree.branches if b.id == name) for name in ("2", "1"))
    assert branch.parent == "1"
    other = lines(page)[-1]
    assert other[0][0] == branch.keep + 0.5
    top = math.ceil(math.log2(parent.trace.vocabulary.size))
    bits = -math.log2(parent.trace.steps[branch.keep].chosen.p_model)
    assert other[0][1] == pytest.approx(HEIGHT * (1 - min(1, bits / top)), abs=1e-6)


@pytest.mark.parametrize("width", [360, 1280])
def test_the_candidates_that_hang_at_a_token_are_those_of_the_record(width: int, open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(trace, viewport={"width": width, "height": 740})
    for step in trace:
        page.click(f"#token-{step.index}")
        shown = [c for c in step.candidates[: 6 if width == 360 else 9] if c.cut_by is None]
        if step.chosen not in shown:
            shown = [*shown, step.chosen]
        assert page.locator("manako-fan .chip small").all_inner_texts() == [percent(c.p) for c in shown]
        rest = step.other(shown)
        said = messages.text("page.fan_other", "en", count=rest.count, p=percent(max(0, rest.p)))
        assert page.inner_text("manako-fan > .soft") == said


def test_the_arrow_to_the_candidates_is_seen_only_right_below_the_selected_token(open_page: Open) -> None:
    trace = manako.load("demo").trace("私は", max_new_tokens=40, seed=0)
    page = open_page(trace, viewport={"width": 360, "height": 740})  # where two lines are seen
    for place, apart in ((39, False), (0, True)):
        page.locator(f"#token-{place}").click()
        assert page.locator(".point").evaluate("e => e.hasAttribute('data-apart')") == apart, place


def test_the_picture_of_the_model_has_the_part_of_each_box(open_page: Open) -> None:
    trace = demo()
    page = open_page(trace, "en", "step=10&tab=why")
    for step in (9, 3):
        page.click(f"#token-{step}")
        found = contributions(trace, step)
        parts = {part.name: part for part in found.why(found.step.chosen).parts}
        layers, heads = trace.attention[step].shape[:2]
        for layer in range(layers):
            for head in range(heads):
                box = page.locator(f"[data-part='{layer}.{head}']")
                assert box.inner_text() == signed(parts[f"head:{layer}.{head}"].effect)
            assert page.inner_text(f"[data-part='{layer}.mlp'] span") == signed(parts[f"mlp:{layer}"].effect)
        longest = max(abs(part.effect) for part in parts.values())
        weight = page.eval_on_selector("[data-part='3.1']", "e => Number(e.style.getPropertyValue('--weight'))")
        assert weight == pytest.approx(abs(parts["head:3.1"].effect) / longest, abs=1e-6)
    page.click("[data-part='2.1']")
    assert page.evaluate("document.activeElement.dataset.part") == "2.1"
    shares = trace.attention[3][2, 1]
    seen = page.eval_on_selector_all(".seen", "all => all.map(e => e.title)")
    assert seen == [percent(float(share)) for share in shares[-16:]]
    open_tab(page, "attention")
    assert [page.locator("manako-attention select").nth(i).input_value() for i in (0, 1)] == ["2", "1"]


def test_the_large_head_has_the_share_of_each_cell(open_page: Open) -> None:
    trace = golden_inside()
    page = open_page(trace, "en", "step=6&layer=1&head=0&tab=attention")
    rows = page.eval_on_selector_all(
        ".matrix tbody tr", "rows => rows.map(r => [...r.cells].slice(1).map(c => c.textContent))"
    )
    weights = trace.attention[5][1, 0]
    assert rows[-1] == [percent(float(w)) for w in weights[-16:]]
    assert all(cell == "" for n, row in enumerate(rows[:-1]) for cell in row[len(row) - len(rows) + n + 1 :])
    page.select_option("manako-attention select >> nth=1", "")
    expect(page.locator(".matrix")).to_have_count(0)  # no one head is chosen
    page.hover("manako-heads canvas", position={"x": 22 + 5, "y": 22 + 5})
    assert "0.0" in page.inner_text(".matrix caption")


@pytest.mark.parametrize(("kind", "bound"), [("rank", "3"), ("entropy", "2.9"), ("surprisal", "3")])
def test_playing_stops_at_the_step_that_was_asked_for(kind: str, bound: str, open_page: Open) -> None:
    trace = golden_trace()
    values = {
        "rank": [s.chosen.rank for s in trace],
        "entropy": [s.entropy for s in trace],
        "surprisal": [-math.log2(s.chosen.p_model) for s in trace],
    }
    wanted = next((i for i, value in enumerate(values[kind]) if i > 0 and value >= float(bound)), len(trace) - 1)
    page = open_page(trace)
    page.click("[popovertarget=how-to-play]")
    page.select_option("#how-to-play select >> nth=0", "16")
    page.select_option("#how-to-play select >> nth=1", kind)
    page.fill("#how-to-play input", bound)
    page.keyboard.press("Escape")
    page.click("[data-act=play]")
    title = f"Step {wanted + 1} of {len(trace)}"
    expect(page.locator("[data-place=title]")).to_have_text(title)
    expect(page.locator("[data-act=play] .label")).to_have_text("Play")  # and not on its way to the next one
    assert page.inner_text("[data-place=title]") == title


def test_playing_until_something_needs_to_know_what(open_page: Open) -> None:
    page = open_page(golden_trace())
    page.click("[popovertarget=how-to-play]")
    page.select_option("#how-to-play select >> nth=0", "16")
    page.select_option("#how-to-play select >> nth=1", "rank")
    for typed in ("", "-1"):
        page.fill("#how-to-play input", typed)
        page.keyboard.press("Escape")
        page.click("[data-act=play]")
        expect(page.locator("#how-to-play input:focus")).to_be_visible()
        assert page.inner_text("[data-act=play] .label") == "Play"
    page.keyboard.press("Escape")
    page.evaluate("document.querySelector('[data-choice=ja]').click()")
    assert page.eval_on_selector_all("#how-to-play select", "all => all.map(e => e.value)") == ["16", "rank"]
    assert page.input_value("#how-to-play input") == "-1" and page.inner_text("[data-place=title]") == "ステップ 1 / 12"


def test_sliders_move_their_settings_and_a_number_beyond_them_can_be_typed(open_page: Open) -> None:
    page = open_page(golden_trace(), "en", "step=4&tab=what_if")
    size = golden_trace().vocabulary.size
    slider = {name: page.locator(f"input[type=range][aria-label^='{name},']") for name in ("top_k", "top_p", "min_p")}
    for at in (0, 0.5, 0.9):
        slider["top_k"].fill(str(at))
        assert page.input_value("manako-what-if label:has-text('top_k') input") == str(round(size**at))
    slider["top_k"].press("End")
    assert page.input_value("manako-what-if label:has-text('top_k') input") == ""  # off
    slider["top_p"].fill("0.9")
    slider["min_p"].fill("0.2")
    assert "top_p 0.9" in page.inner_text("manako-stages") and "min_p 0.2" in page.inner_text("manako-stages")
    page.fill("manako-what-if label:has-text('temperature') input", "7")
    assert "temperature 7" in page.inner_text("manako-stages")
    before = page.inner_text("manako-candidates")
    page.fill("manako-what-if label:has-text('temperature') input", "-1")
    assert messages.text("error.temperature", "en", got="-1") in page.inner_text("manako-what-if [role=status]")
    assert page.inner_text("manako-candidates") == before


def test_one_tab_is_shown_where_it_is_narrow_and_two_where_it_is_wide(open_page: Open) -> None:
    for width, count in ((1199, 1), (1200, 2), (360, 1)):
        page = open_page(golden_inside(), "en", "tab=why+layers", viewport={"width": width, "height": 800})
        for part in ("[role=tabpanel]:visible", "[aria-selected=true][role=tab]"):
            expect(page.locator(part)).to_have_count(count)
        assert page.is_visible("manako-why")
        open_tab(page, "attention")
        assert page.is_visible("manako-attention") and page.is_visible("manako-why") == (count == 2)
    page.goto(page.url.split("#")[0] + "#tab=nothing+layers")
    expect(page.locator("manako-lens")).to_be_visible()


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_on_a_phone_no_tab_is_more_than_three_screens_and_no_bar_is_covered(lang: str, open_page: Open) -> None:
    for tab in TABS:
        page = open_page(demo(), lang, f"step=5&tab={tab}", viewport={"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollHeight") <= 3 * 740, tab
        assert page.evaluate("document.documentElement.scrollWidth") == 360, tab
        cut = "all => all.filter((s) => s.getBoundingClientRect().width > s.parentElement.clientWidth).length"
        assert page.eval_on_selector_all("manako-model .part > span", cut) == 0, tab  # a number is whole
    open_tab(page, "candidates")
    covered = page.eval_on_selector_all(
        "manako-candidates .bar > .p",
        """all => all.filter((bar) => {
            const box = bar.getBoundingClientRect(), frame = bar.parentElement.getBoundingClientRect();
            const after = bar.closest("td").nextElementSibling?.getBoundingClientRect();
            return box.right > frame.right + 0.5 || (after?.width && after.left < frame.right);
        }).length""",
    )
    assert covered == 0 and page.locator("manako-candidates .bar").count() >= 10


def test_a_guess_asks_about_the_step_that_is_shown(open_page: Open) -> None:
    tree = toy_tree()
    page = open_page(tree, "en", "branch=2")
    forced = next(b for b in tree.branches if b.id == "2").keep
    page.click(f"#token-{forced}")  # filled in by the reader: nothing was drawn there
    page.click("[data-toggle=guess]")
    assert page.is_hidden("manako-fan") and page.is_hidden("[role=tablist]")
    title = page.inner_text("[data-place=title]") if page.is_visible("[data-place=title]") else ""
    place = page.evaluate("document.querySelector('manako-guess').view.place")
    assert place == page.evaluate("document.querySelector('manako-guess').view.guess.place") and place > forced
    assert title in (
        "",
        f"Step {place + 1} of {page.evaluate('document.querySelector(`manako-guess`).view.path.length')}",
    )


def test_this_text_or_all_texts_are_saved_with_their_sizes_told_first(open_page: Open) -> None:
    page = open_page(toy_tree(), "en", "branch=2")
    open_sheet(page, "share")
    sizes = page.locator("#sheet-share label")
    expect(sizes).to_have_text([re.compile(r" MB\)$")] * 3)
    assert page.is_checked("[name=compact]")
    lengths = []
    for value in ("this", "all"):
        page.check(f"[value={value}]")
        with page.expect_download() as download:
            page.get_by_role("button", name="Trace (.manako)").click()
        lengths.append(download.value.path().stat().st_size)
    assert lengths[0] < lengths[1]


def test_the_size_that_is_told_is_that_of_the_texts_that_are_chosen(open_page: Open) -> None:
    """Though that of those chosen before may be known later."""
    page = open_page(toy_tree(), "en", "branch=2")
    page.evaluate("""() => {
        const { toFixed } = Number.prototype; // these texts are of kB
        Number.prototype.toFixed = function (digits) { return toFixed.call(this * 1e3, digits); };
    }""")
    open_sheet(page, "share")
    size = page.locator("#sheet-share label:has([name=compact])")
    expect(size).to_have_text(re.compile(r" MB\)$"))
    told = size.inner_text()
    page.evaluate("['all', 'this'].forEach((value) => document.querySelector(`[value=${value}]`).click())")
    page.wait_for_timeout(500)
    assert size.inner_text() == told
    page.check("[value=all]")
    expect(size).not_to_have_text(told)


@pytest.mark.parametrize("sheet", ["settings", "share", "how-to-play"])
def test_axe_has_nothing_to_say_of_an_open_sheet(sheet: str, open_page: Open) -> None:
    page = open_page(golden_inside(), "ja", color_scheme="dark")
    if sheet == "how-to-play":
        page.click("[popovertarget=how-to-play]")
    else:
        open_sheet(page, sheet)
    assert violations(page) == []


def test_projector_mode_is_large_with_one_tab_and_lives_in_the_address(open_page: Open) -> None:
    page = open_page(golden_inside(), "en", "projector=1")
    expect(page.locator("[role=tabpanel]:visible")).to_have_count(1)
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") == 24
    open_sheet(page, "settings")
    page.click("[data-toggle=projector]")
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") == 16


def test_a_print_has_the_names_that_can_be_pressed_and_no_other_button(open_page: Open) -> None:
    page = open_page(golden_inside(), "en", "tab=layers+candidates")
    try:
        page.emulate_media(media="print")
        for name in ("manako-lens-grid thead button", "manako-candidates thead button"):
            assert page.locator(name).first.is_visible()
        assert page.is_hidden("[data-act=play]") and page.is_hidden("[data-tab=layers]")
    finally:
        page.emulate_media(media="null")


def test_every_tab_is_named_once_in_one_list() -> None:
    text = (WEB / "page/tabs.js").read_text(encoding="utf-8")
    assert [name for name in TABS if f'id: "{name}"' in text] == [*TABS]
    assert all(messages.text(f"page.tab_{name}", lang) for name in TABS for lang in messages.LANGUAGES)
