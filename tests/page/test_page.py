"""The page as its reader meets it: the numbers of the record, other settings, the keyboard, the languages."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from golden import LOGITS, golden_inside, golden_score, golden_trace, large_inside
from pages import open_sheet, open_tab
from playwright.sync_api import Browser, Page, expect
from toy import toy_model

from manako import messages
from manako.analysis.contributions import contributions
from manako.analysis.lens import lens
from manako.messages.numbers import percent, signed
from manako.sampling import Distribution, Sampling, distribution, draw
from manako.trace.file import to_bytes
from manako.trace.record import Trace
from manako.trace.tree import Branch, Tree
from manako.views.html import packed
from manako.views.html import page as page_of

Open = Callable[..., Page]
NAME_OF_FOCUSED = (
    "(e => e.getAttribute('aria-label') ?? e.labels?.[0]?.firstChild.textContent ?? e.textContent)"
    "(document.activeElement)"
)
FOCUS_SHOWS = """(() => {
    const shown = (e) => getComputedStyle(e).outlineStyle !== "none";
    const active = document.activeElement;  // the list shows its focus at the selected token
    return active === document.body || shown(active) || shown(document.getElementById(
        active.getAttribute("aria-activedescendant")));
})()"""
TRACES: dict[str, Callable[[], Trace]] = {
    "golden": golden_trace,
    "score": golden_score,
    "large": large_inside,
    "toy": lambda: toy_model().trace(
        "私は", max_new_tokens=6, seed=3, temperature=0.9, top_k=40, capture=["attention"]
    ),
}


def cells(page: Page, element: str) -> list[list[str]]:
    """The texts of the cells of the first table in an element, row by row."""
    return page.eval_on_selector_all(
        f"{element} table:first-of-type tbody tr",
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))",
    )


def text_of(page: Page, selector: str) -> str:
    return page.inner_text(selector)


def go(page: Page, step: int) -> None:
    """Press the arrow until a step, counted from 0, is shown."""
    page.focus("manako-ribbon [role=listbox]")
    page.keyboard.press("Home")
    for _ in range(step):
        page.keyboard.press("ArrowRight")


@pytest.mark.parametrize("name", TRACES)
def test_the_numbers_shown_are_those_of_the_record(name: str, open_page: Open) -> None:
    trace = TRACES[name]()
    page = open_page(trace)
    for step in trace:
        go(page, step.index)
        rows = cells(page, "manako-candidates")
        shown = step.candidates[:10]
        if step.chosen.rank > 10:
            shown = [*shown, step.chosen]
        assert [row[0].removeprefix("\u25b8 ") for row in rows[:-1]] == [f"{c.rank:,}" for c in shown]
        assert [row[2] for row in rows[:-1]] == [percent(c.p) if c.cut_by is None else "\u2013" for c in shown]
        if len(rows[0]) == 5:  # p_model stands beside p where they differ
            assert [row[4] for row in rows[:-1]] == [percent(c.p_model) for c in shown]
        else:
            assert all(c.p == c.p_model for c in shown)
        assert [bool(c.cut_by) and f"cut by {c.cut_by}" == row[3] for c, row in zip(shown, rows, strict=False)] == [
            c.cut_by is not None for c in shown
        ]
        (marked,) = [n for n, row in enumerate(rows) if row[0].startswith("\u25b8")]
        assert shown[marked].id == step.token_id
        other = step.other(shown)
        assert rows[-1][1] == f"all {other.count:,} other tokens"
        assert rows[-1][2] == (percent(other.p) if other.p > 1e-12 else rows[-1][2])
        said = text_of(page, "[data-place=chosen]")
        assert (
            f"p = {percent(step.chosen.p)} (p_model = {percent(step.chosen.p_model)}), rank {step.chosen.rank:,}"
            in said
        )
        assert f"entropy {step.entropy:.2f} bits" in text_of(page, "manako-draw")


def test_the_draw_shows_u_and_where_it_fell(open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(trace)
    for step in trace:
        go(page, step.index)
        low, high = step.interval
        assert f"u = {step.u:.4f}" in text_of(page, "manako-draw")
        assert f"{low:.4f} to {high:.4f}" in text_of(page, "manako-draw")
        needle = page.eval_on_selector("manako-draw .needle", "e => Number(e.style.getPropertyValue('--p'))")
        assert needle == step.u
        piece, strip = (page.locator(f"manako-draw {s}").bounding_box() for s in (".taken", ".strip"))
        assert piece and strip and step.u is not None
        at = strip["x"] + step.u * strip["width"]
        assert piece["x"] - 3 <= at <= piece["x"] + piece["width"] + 3


def what_if(page: Page) -> list[tuple[str, str]]:
    """(rank, p) of each row."""
    return [(row[0].removeprefix("\u25b8 "), row[2]) for row in cells(page, "manako-candidates")[:-1]]


def expected(d: Distribution, n: int = 10) -> list[tuple[str, str]]:
    ids = d.top(n)
    return [(str(rank), percent(d.p[i]) if d.cut_by[i] < 0 else "\u2013") for rank, i in enumerate(ids, 1)]


@pytest.mark.parametrize("settings", [
    {"temperature": 0}, {"temperature": 0.05}, {"temperature": 5}, {"temperature": 1.2, "top_p": 0.5},
    {"top_k": 2}, {"min_p": 0.3}, {"typical_p": 0.4}, {"repetition_penalty": 3}, {"presence_penalty": 2},
    {"frequency_penalty": 1.5, "temperature": 2}, {"top_k": None}, {"top_p": None, "top_k": 3},
])  # fmt: skip
def test_other_settings_give_the_numbers_that_python_gives(settings: dict[str, float | None], open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(trace, fragment="tab=what_if")
    go(page, 3)
    for name, value in settings.items():
        page.fill(f"manako-what-if label:has-text('{name}') input", "" if value is None else str(value))
    sampling = Sampling(**{**trace.header.sampling.to_dict(), **settings})
    d = distribution(LOGITS[3], sampling, trace.all_ids[:4])
    taken = draw(d, float(trace.columns.u[3])).token_id
    (marked,) = [int(row[0][2:]) for row in cells(page, "manako-candidates")[:-1] if row[0].startswith("\u25b8")]
    assert what_if(page)[:10] == expected(d)
    assert marked == d.rank(taken)
    stages = page.eval_on_selector_all("manako-stages li strong", "all => all.map(e => e.textContent)")
    assert stages[1:] == [f"{name} {getattr(sampling, name):g}" for name in sampling.active]
    page.click("manako-what-if button")
    assert what_if(page)[:10] == expected(distribution(LOGITS[3], trace.header.sampling, trace.all_ids[:4]))


def test_the_slider_moves_the_bars_at_once(open_page: Open) -> None:
    page = open_page(golden_trace(), fragment="tab=what_if")
    page.focus("manako-what-if input[type=range]")
    page.keyboard.press("Home")
    assert page.input_value("manako-what-if input[type=number]") == "0"
    assert what_if(page)[0] == ("1", "100.0%")
    page.keyboard.press("End")
    d = distribution(LOGITS[0], Sampling(temperature=2, top_k=8, top_p=0.98))
    assert what_if(page)[:10] == expected(d)
    assert "exactly" in text_of(page, "manako-what-if [role=status]")


def test_a_setting_out_of_range_is_said_and_changes_nothing(open_page: Open) -> None:
    page = open_page(golden_trace(), fragment="tab=what_if")
    before = what_if(page)
    page.fill("manako-what-if label:has-text('top_p') input", "1.5")
    assert "top_p must lie in (0, 1], got 1.5" in text_of(page, "manako-what-if [role=status]")
    assert what_if(page) == before
    assert page.get_attribute("manako-what-if label:has-text('top_p') input", "aria-invalid") == "true"


def test_three_temperatures_stand_on_the_same_u(open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(trace, fragment="step=5&tab=what_if")
    tables = page.eval_on_selector_all(
        "manako-beside table",
        "all => all.map(t => [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.innerText.trim())))",
    )
    for temperature, rows in zip((0.3, 0.8, 1.2), tables, strict=True):
        d = distribution(LOGITS[4], Sampling(temperature=temperature, top_k=8, top_p=0.98), trace.all_ids[:5])
        taken = d.rank(draw(d, float(trace.columns.u[4])).token_id)
        assert [int(r[0][2:]) for r in rows if r[0].startswith("\u25b8")] == [taken]
        assert [(r[0].removeprefix("\u25b8 "), r[2]) for r in rows[:5]] == expected(d, 5)


def test_any_temperature_stands_beside_the_others_and_what_is_none_is_said(open_page: Open) -> None:
    page = open_page(golden_trace(), fragment="step=5&tab=what_if")
    first = page.locator(".beside input").first
    first.fill("0.35")
    expect(page.locator("manako-beside caption").first).to_have_text(re.compile(r"T = 0\.35"))
    first.fill("-1")
    expect(page.locator("manako-beside [role=alert]")).to_have_text(re.compile("got -1$"))
    first.fill("0.35")
    expect(page.locator("manako-beside table")).to_have_count(3)


def test_the_temperatures_are_in_the_address(open_page: Open) -> None:
    page = open_page(golden_trace(), fragment="step=5&tab=what_if")
    page.locator(".beside input").first.fill("2")
    page.wait_for_url(re.compile("temperatures="))
    page.reload()
    expect(page.locator("manako-beside caption").first).to_have_text(re.compile(r"T = 2"))
    assert [each.input_value() for each in page.locator(".beside input").all()] == ["2", "0.8", "1.2"]


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("width", [360, 390, 430, 800])
def test_the_chain_and_three_temperatures_are_whole_in_any_window(width: int, lang: str, open_page: Open) -> None:
    fragment = "step=5&tab=what_if&temperature=1.2&typical_p=0.9&min_p=0.01&repetition_penalty=1.3"
    page = open_page(golden_trace(), lang, fragment, viewport={"width": width, "height": 800})
    cut = "all => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => [e.scrollWidth, e.clientWidth])"
    assert page.eval_on_selector_all("manako-beside .scroll", cut) == []
    arrows = page.evaluate("""() => {
        const chain = document.querySelector(".stages").getBoundingClientRect();
        return [...document.querySelectorAll(".stages li")].flatMap((stage) => ["::before", "::after"].map((side) => {
            const { content, left, width } = getComputedStyle(stage, side);
            const at = stage.getBoundingClientRect().left + stage.clientLeft + parseFloat(left);
            return content !== "none" && [chain.left <= at, at + parseFloat(width) <= chain.right];
        })).filter(Boolean);
    }""")
    assert arrows == [[True, True]] * 6  # between seven: the model, and its chain
    grounds = "all => [...new Set(all.map((row) => getComputedStyle(row).backgroundColor))]"
    assert page.eval_on_selector_all("manako-beside tr.cut", grounds) == ["rgba(0, 0, 0, 0)"]  # none


@pytest.mark.parametrize(
    ("temperature", "top_k"), [*((t, None) for t in (0, 0.3, 0.9, 1.1, 2, 5)), (2, 300), (2, 257), (5, 5000)]
)
def test_a_part_of_a_row_is_approximate_within_the_bound_it_states(
    temperature: float, top_k: int | None, open_page: Open
) -> None:
    trace = large_inside()
    rows = (
        np.random.default_rng(7).normal(0, 1.5, size=(6, 20_000)).astype(np.float32)
    )  # those of golden.large_generation
    page = open_page(trace, fragment="step=3&details=1&tab=what_if")
    page.fill("manako-what-if input[type=number]", str(temperature))
    if top_k:  # more than are on record
        page.fill("manako-what-if label:has-text('top_k') input", str(top_k))
        assert f"tokens left: ≥ {top_k:,}" in text_of(page, "manako-stages")
    d = distribution(rows[2], Sampling(temperature=temperature, top_k=top_k))
    said = text_of(page, "manako-what-if [role=status]")
    bound = float(re.findall(r"more than ([\d.e-]+)", said)[0]) / 100 if temperature else 0
    ids = page.eval_on_selector_all(
        "manako-candidates tbody tr", "all => all.slice(0, -1).map(r => Number(r.cells[2].innerText))"
    )
    shown = page.eval_on_selector_all(
        "manako-candidates tbody tr",
        "all => all.slice(0, -1).map(r => Number(r.querySelector('.p')?.style.getPropertyValue('--p') ?? 0))",
    )
    assert max(abs(p - d.p[i]) for p, i in zip(shown, ids, strict=True)) <= bound * 1.06 + 1e-12  # said to two digits
    other = page.eval_on_selector(
        "manako-candidates tbody tr:last-child .p", "e => Number(e.style.getPropertyValue('--p'))"
    )
    assert abs(other - (1 - d.p[ids].sum())) <= bound * 1.06 + 1e-12  # which carries the errors of all others
    assert bound < (0.1 if top_k is None else 0.6)
    assert page.is_disabled("manako-what-if label:has-text('top_p') input")
    assert "256 likeliest" in text_of(page, "manako-what-if")


def test_the_first_tokens_of_a_part_are_exact(open_page: Open) -> None:
    rows = np.random.default_rng(7).normal(0, 1.5, size=(6, 20_000)).astype(np.float32)
    page = open_page(large_inside(), fragment="step=2&tab=what_if")
    page.fill("manako-what-if label:has-text('top_k') input", "5")
    page.fill("manako-what-if label:has-text('temperature') input", "2")
    assert what_if(page)[:5] == expected(distribution(rows[1], Sampling(temperature=2, top_k=5)), 5)
    assert "exactly" in text_of(page, "manako-what-if [role=status]")


def test_attention_lens_and_contributions_are_those_of_the_record(open_page: Open) -> None:
    trace = golden_inside()
    page = open_page(trace, fragment="step=6&layer=1&head=0&tab=attention+layers")
    weights = trace.attention[5][1, 0]
    order = sorted(range(len(weights)), key=lambda k: -weights[k])[:8]
    assert [row[0] for row in cells(page, "manako-attention > div >")] == [str(k + 1) for k in order]
    assert [row[2] for row in cells(page, "manako-attention > div >")] == [percent(float(weights[k])) for k in order]
    page.select_option("manako-attention select >> nth=0", "")
    mean = trace.attention[5].mean(axis=(0, 1), dtype=np.float64)
    assert [row[2] for row in cells(page, "manako-attention > div >")] == [
        percent(p) for p in sorted(mean.tolist(), reverse=True)[:8]
    ]
    found = lens(trace, 5)
    assert [row[:3] for row in cells(page, "manako-lens > .pane")] == [
        [layer, percent(r.p), str(r.rank)] for layer, r in zip(found.layers, found.chosen, strict=True)
    ]
    said = [text_of(page, "main")]
    open_tab(page, "why")
    said.append(text_of(page, "#panel-why"))
    on_record = contributions(trace, 5)
    first, rest = on_record.why(on_record.step.chosen).strongest(10)
    shown = [signed(p.effect) for p in first] + [signed(rest.over_mean or 0)]
    assert [row[1] for row in cells(page, "manako-why")] == shown
    raw = [signed(p.value) for p in first] + [signed(rest.value)]
    assert [row[3] for row in cells(page, "manako-why")] == raw
    rival = on_record.next_best(on_record.step.chosen)
    assert rival is not None
    page.select_option("manako-why select >> nth=1", str(rival.id))
    first, rest = on_record.why(on_record.step.chosen, rival).strongest(10)
    for lang in ("en", "ja"):  # the choice stays
        page.click(f"[data-choice={lang}]")
        assert [row[1] for row in cells(page, "manako-why")] == [signed(p.value) for p in first] + [signed(rest.value)]
    for caveat in ("attention.meaning", "lens.meaning", "why.meaning"):
        assert messages.text(caveat, "en") in "".join(said)
    assert "".join(said).count("self-check ") == 3


def test_what_was_not_captured_is_not_there(open_page: Open) -> None:
    page = open_page(golden_trace())
    assert page.locator("[role=tab]:visible").all_inner_texts() == ["Candidates", "What if", "Branches"]
    expect(page.locator("manako-attention, manako-lens, manako-why").locator("visible=true")).to_have_count(0)


def test_the_whole_page_works_by_keyboard_alone(open_page: Open) -> None:
    page = open_page(golden_inside())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "to the text"
    page.keyboard.press("Enter")
    for key, step in (
        ("End", 12),
        ("ArrowLeft", 11),
        ("Home", 1),
        ("ArrowRight", 2),
        ("ArrowUp", 2),
        ("ArrowLeft", 1),
        ("ArrowLeft", 1),
    ):
        page.keyboard.press(key)
        assert text_of(page, "[data-place=title]") == f"Step {step} of 12"
        active = page.eval_on_selector(
            "[role=listbox]", "e => document.getElementById(e.getAttribute('aria-activedescendant')).id"
        )
        assert active == f"token-{step - 1}"
    reached: list[str] = []
    for _ in range(100):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(NAME_OF_FOCUSED))
        assert page.evaluate(FOCUS_SHOWS), reached[-1]
    for control in (
        "Next step",
        "Play",
        "Settings",
        "50 candidates",
        "id and bytes",
        "rather than",
        "\u65e5\u672c\u8a9e",
    ):
        assert any(control in name for name in reached), (control, reached)
    page.focus("[role=tab][aria-selected=true]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(NAME_OF_FOCUSED) == "What if" and page.is_visible("manako-what-if")


def test_arrows_up_and_down_move_by_line(open_page: Open) -> None:
    trace = toy_model().trace("私は", max_new_tokens=60, seed=3)
    page = open_page(trace, viewport={"width": 420, "height": 800})
    go(page, 0)
    page.keyboard.press("ArrowDown")
    tops = page.eval_on_selector_all("[role=option]", "all => all.map(e => e.getBoundingClientRect().bottom)")
    selected = page.eval_on_selector_all(
        "[role=option]", "all => all.findIndex(e => e.getAttribute('aria-selected') === 'true')"
    )
    assert tops[selected] > tops[0] + 5
    page.keyboard.press("ArrowUp")
    assert (
        page.eval_on_selector_all(
            "[role=option]", "all => all.findIndex(e => e.getAttribute('aria-selected') === 'true')"
        )
        < selected
    )


def test_the_choice_lives_in_the_address(open_page: Open) -> None:
    page = open_page(golden_inside())
    go(page, 4)
    open_sheet(page, "settings")
    page.click("manako-tints button:text-is('surprisal')")
    page.keyboard.press("Escape")
    page.click("text=id and bytes")
    open_tab(page, "what_if")
    page.fill("manako-what-if label:has-text('temperature') input", "1.3")
    open_tab(page, "attention")
    page.select_option("manako-attention select >> nth=0", "1")
    page.wait_for_url(re.compile("layer=1"))  # written a moment after the last change
    before = page.inner_text("main")
    page.reload()
    page.wait_for_selector("manako-app header")
    assert page.inner_text("main") == before
    assert "Step 5 of 12" in before


@pytest.mark.parametrize("fragment", ["step=99999", "step=-1&layer=77&head=9", "temperature=-4",
                                      "temperature=NaN&top_k=x", "lang=xx&tint=%00", "%%%", "top_k=1e999",
                                      "tab=what_if&temperatures=1+-2+x", "tab=what_if&temperatures=1",
                                      "a" * 5000])  # fmt: skip
def test_an_address_that_makes_no_sense_is_passed_over(fragment: str, open_page: Open) -> None:
    page = open_page(golden_inside(), fragment=fragment)
    assert re.fullmatch(r"Step \d+ of 12", text_of(page, "[data-place=title]"))
    assert [field.input_value() for field in page.locator(".beside input").all()] in ([], ["0.3", "0.8", "1.2"])


def test_an_address_of_a_text_that_is_not_there_says_so(open_page: Open) -> None:
    page = open_page(golden_trace(), fragment="branch=t5&step=2")
    assert "not on this page" in text_of(page, "[data-place=state]")
    assert text_of(page, "[data-place=title]") == "Step 2 of 12"
    page.evaluate("location.hash = 'branch=1'")
    expect(page.locator("[data-place=state]")).to_have_text("")


def test_the_language_can_be_switched(open_page: Open) -> None:
    page = open_page(golden_inside(), lang="ja")
    assert page.get_attribute("html", "lang") == "ja" and "ステップ 1 / 12" in text_of(page, "main")
    page.click("text=English")
    assert page.get_attribute("html", "lang") == "en" and "Step 1 of 12" in text_of(page, "main")
    assert page.evaluate("document.activeElement.textContent") == "English"


def test_a_row_of_the_branches_says_how_each_of_its_steps_was_made(open_page: Open) -> None:
    model = toy_model()
    branches = [Branch("1", None, 0, model.trace("私は", max_new_tokens=12, seed=3))]
    for id_, changes in (("2", {"temperature": 1.7}), ("3", {"temperature": 0.8}), ("4", {"seed": 2**63})):
        before = branches[-1]
        more = model.fork(before.trace, len(before.trace), max_new_tokens=9, **changes)
        list(more)
        branches.append(Branch(id_, before.id, len(before.trace), more.trace()))
    scored = model.score("私は")
    more = model.fork(scored, len(scored), max_new_tokens=4, seed=5)
    list(more)
    branches += [Branch("s", None, 0, scored), Branch("t", "s", len(scored), more.trace())]
    page = open_page(Tree(tuple(branches), "3"), fragment="tab=branches")
    facts = [row.locator("small").all_inner_texts() for row in page.locator("manako-tree [role=option]").all()]
    assert facts == [
        [f"steps {n}, temperature {t}, seed {s}" for n, t, s in ((21, 0.8, 3), (9, 1.7, 3), (9, 0.8, 2**63))],
        [f"tokens scored: {len(scored)}", "steps 4, temperature 1, seed 5"],
    ]
    assert "\ufffd" not in text_of(page, "manako-tree")  # its name ends inside a character, as tokens of bytes do
    page.focus("manako-tree [role=listbox]")
    for key, shown in (("ArrowUp", 0), ("End", 1), ("ArrowDown", 1), ("Home", 0)):
        page.keyboard.press(key)
        expect(page.locator(f"#branch-{shown}[aria-selected=true]")).to_have_count(1)


def test_an_empty_record_says_that_nothing_was_generated(open_page: Open) -> None:
    assert "Nothing was generated." in text_of(open_page(golden_trace(0)), "main")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_phone_and_two_hundred_percent(scheme: str, open_page: Open) -> None:
    trace = golden_inside()
    for width in (360, 640):
        page = open_page(
            trace,
            lang="ja",
            fragment="details=1&temperature=2",
            viewport={"width": width, "height": 700},
            color_scheme=scheme,
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_nothing_moves_where_motion_is_not_wanted(open_page: Open) -> None:
    durations = [
        open_page(golden_trace(), reduced_motion=motion).eval_on_selector(
            ".card:not([hidden])", "e => getComputedStyle(e).animationDuration"
        )
        for motion in ("reduce", "no-preference")
    ]
    assert durations[0] == "0s" and durations[1] != "0s"


def test_a_notebook_shows_the_page_in_its_frame(browser: Browser, tmp_path: Path) -> None:
    complaints: list[str] = []
    page = browser.new_context(offline=True).new_page()
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    (tmp_path / "notebook.html").write_text(golden_inside()._repr_mimebundle_()["text/html"], encoding="utf-8")
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("[data-act=step]").click()
    assert frame.locator("[data-place=title]").inner_text() == messages.text(
        "page.step", messages.language(os.environ), number=2, count=12
    )
    assert complaints == []
    page.context.close()


@pytest.mark.parametrize("place", [-1, -40, 9, 400])
def test_a_record_that_was_changed_is_not_believed(place: int, browser: Browser, tmp_path: Path) -> None:
    data = bytearray(to_bytes(golden_trace()))
    text = page_of(golden_trace(), "en")
    data[place] ^= 1
    (tmp_path / "page.html").write_text(
        text.replace(packed(to_bytes(golden_trace())), packed(bytes(data))), encoding="utf-8"
    )
    page = browser.new_context(offline=True).new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("[role=alert]")
    assert re.search("is damaged|is not a manako trace|is not valid JSON|newer", page.inner_text("[role=alert]"))
    expect(page.locator("manako-candidates")).to_have_count(0)
    page.context.close()
