"""What the page saves, in a real browser: pictures of its cards, tables; and the axes and buttons beside the bars."""

import base64
import csv
import json
import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from golden import TOKENS, FakeSession, golden_header, golden_inside, golden_trace, large_inside
from pages import open_sheet, open_tab
from playwright.sync_api import Browser, Page, expect
from serving import TOKEN, free, serving

from manako import messages
from manako.engines.generation import Generation
from manako.sampling import Sampling
from manako.trace.file import to_bytes
from manako.trace.record import Trace, Vocabulary
from manako.views.document import trace_document

Open = Callable[..., Page]
CARDS = {"manako-candidates": "step", "manako-attention": "attention", "manako-lens": "lens"}  # which have a picture
TABS = {"manako-candidates": "candidates", "manako-attention": "attention", "manako-lens": "layers"}
SHARE = "[role=status]"
LONGEST_BAR = 344  # pixels of a picture
TAGS = {"svg", "title", "rect", "polyline", "text", "image"}
SVG = "{http://www.w3.org/2000/svg}"
COARSE = 8  # pixels in one when pictures are compared: text may lie a part of a pixel lower, a missing bar still shows
COMPARE = """async ([texts, coarse]) => {
    const images = await Promise.all(texts.map((text) => {
        const bytes = Uint8Array.from(atob(text), (ch) => ch.charCodeAt(0));
        return createImageBitmap(new Blob([bytes], { type: "image/png" }));
    }));
    const [width, height] = ["width", "height"].map((side) => Math.min(...images.map((image) => image[side])));
    const pixels = (image, by) => {
        const pen = new OffscreenCanvas(Math.floor(width / by), Math.floor(height / by)).getContext("2d");
        pen.imageSmoothingQuality = "high";
        pen.drawImage(image, 0, 0, width, height, 0, 0, pen.canvas.width, pen.canvas.height);
        return pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height).data;
    };
    const [one, other] = images.map((image) => pixels(image, coarse));
    const far = one.filter((value, i) => Math.abs(value - other[i]) > 40).length;
    return { far: far / one.length, colours: new Set(new Uint32Array(pixels(images[0], 1).buffer)).size };
}"""


def trace_of(tokens: Sequence[bytes], rows: npt.NDArray[np.float64]) -> Trace:
    """A record of as many steps as there are rows of logits; the first token is the prompt."""
    header = golden_header(sampling=Sampling(temperature=1), special_ids=(), end="length", max_new_tokens=len(rows))
    vocabulary = Vocabulary(tokens, len(tokens), frozenset())
    generation = Generation(FakeSession(rows.astype(np.float32)), header, (0,), vocabulary, ())
    for _ in rows:
        generation.advance()
    return replace(generation.trace(), header=header)


def save(page: Page, card: str, kind: str) -> tuple[str, bytes]:
    """(name, content) of the file that a button saves: of a card, or of the sheet for all that can be saved."""
    if card == SHARE:
        open_sheet(page, "share")
    elif page.is_hidden(card):
        open_tab(page, TABS[card])
    with page.expect_download() as started:
        page.locator(f":is(.card, .sheet):has({card}) .save button", has_text=kind).click()
    page.keyboard.press("Escape")
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def compared(browser: Browser, *pictures: bytes) -> dict[str, float]:
    """The share of two PNG files, seen coarsely, that clearly differs; and how many colours the first one has."""
    page = browser.new_page()
    found = page.evaluate(COMPARE, [[base64.b64encode(each).decode() for each in pictures], COARSE])
    page.close()
    return found


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def texts(root: ElementTree.Element) -> str:
    """All texts of a picture in order, without spaces, which stand where nothing is drawn."""
    return re.sub(r"\s", "", "".join(each.text or "" for each in root.iter(f"{SVG}text")))


@pytest.mark.parametrize("card", CARDS)
def test_an_svg_is_named_by_its_card_and_its_model(card: str, open_page: Open) -> None:
    page = open_page(golden_inside(), fragment="step=3")
    name, data = save(page, card, "SVG")
    assert name == f"manako-{CARDS[card]}.svg"
    root = ElementTree.fromstring(data)
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= TAGS
    assert root[0].tag == f"{SVG}title" and root[0].text
    assert texts(root).endswith("manako\u00b7golden")
    assert not [
        e for e in root.iter() if "var(" in " ".join(e.attrib.values()) or "" in (e.get("fill"), e.get("stroke"))
    ]


def test_the_picture_of_a_step_has_its_numbers(open_page: Open) -> None:
    page = open_page(golden_inside(), fragment="step=3&axis=log")
    found = texts(ElementTree.fromstring(save(page, "manako-candidates", "SVG")[1]))
    shown = page.eval_on_selector_all(
        """[data-place=title], [data-place=chosen], manako-candidates :is(td.number, .other th),
        manako-draw .said > p:first-of-type""",
        "all => all.map(e => e.innerText)",
    )
    pieces = page.eval_on_selector_all(".strip .piece", "all => all.map(e => e.textContent)")
    wanted = [re.sub(r"\s", "", text) for text in shown]
    assert len(shown) > 30 and [text for text in wanted if text not in found] == []
    assert len(pieces) >= 3 and re.sub(r"\s", "", pieces[0]) in found


@pytest.mark.parametrize("axis", ["linear", "log", "zoom"])
def test_an_svg_has_each_bar_as_long_as_it_is(axis: str, open_page: Open) -> None:
    page = open_page(golden_inside(), fragment=f"step=2&temperature=1.5&axis={axis}")
    root = ElementTree.fromstring(save(page, "manako-candidates", "SVG")[1])
    for kind, height in (("p", "12"), ("p-model", "4")):
        drawn = [float(r.get("width", "nan")) for r in root.iter(f"{SVG}rect") if r.get("height") == height]
        shown = [LONGEST_BAR * max(0, p) for p in bars_of(page, kind) if p is not None]
        assert drawn == pytest.approx(shown, abs=0.01) and len(drawn) >= 3


def test_the_picture_of_the_ranks_is_that_of_the_page(open_page: Open) -> None:
    page = open_page(golden_inside(), fragment="step=4")
    root = ElementTree.fromstring(save(page, "manako-lens", "SVG")[1])
    shown = page.eval_on_selector_all(".ranks polyline", "all => all.map(e => e.getAttribute('points'))")
    assert [e.get("points") for e in root.iter(f"{SVG}polyline")] == shown and len(shown) > 5


@pytest.mark.parametrize(("card", "scheme"), [*((card, "light") for card in CARDS), (next(iter(CARDS)), "dark")])
def test_a_png_looks_like_its_svg(card: str, scheme: str, open_page: Open, browser: Browser) -> None:
    settings = {"color_scheme": scheme, "viewport": {"width": 1280, "height": 1000}, "device_scale_factor": 2}
    page = open_page(golden_inside(), fragment="step=3&axis=zoom", **settings)
    if page.is_hidden(card):
        open_tab(page, TABS[card])
    if card == "manako-attention":
        page.wait_for_selector("manako-heads canvas[style]:not([aria-busy])")  # drawn little by little
    png, svg = save(page, card, "PNG")[1], save(page, card, "SVG")[1]
    root = ElementTree.fromstring(svg)
    assert size_of(png) == tuple(round(2 * float(root.attrib[side])) for side in ("width", "height"))
    drawn = browser.new_page(device_scale_factor=2)
    drawn.set_content(f'<img src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">')
    with_svg = compared(browser, png, drawn.locator("img").screenshot())
    drawn.close()
    assert with_svg["far"] < 0.01 and with_svg["colours"] > 50


def test_hostile_texts_stay_texts(open_page: Open) -> None:
    text = "</text><script>alert(1)</script>\x00\x1b\ufffe]]>&lt;"
    trace = golden_inside()
    trace = replace(trace, header=replace(trace.header, model=replace(trace.header.model, ref=text)))
    page = open_page(trace, fragment="step=1&top=50&details=1")
    for card in CARDS:
        root = ElementTree.fromstring(save(page, card, "SVG")[1])
        assert {e.tag.removeprefix(SVG) for e in root.iter()} <= TAGS
        names = {name for e in root.iter() for name in e.attrib}
        assert not any(name.startswith("on") for name in names)
        assert all(e.attrib["href"].startswith("data:image/png;base64,") for e in root.iter(f"{SVG}image"))
        assert "script>\\x00\\x1b" in texts(root) and "]]>&lt;" in texts(root)
    assert "\\x1b[2J" in texts(ElementTree.fromstring(save(page, "manako-candidates", "SVG")[1]))


def test_japanese_is_marked_in_a_picture(open_page: Open) -> None:
    lang = "{http://www.w3.org/XML/1998/namespace}lang"
    page = open_page(golden_inside(), "en", "step=8")
    root = ElementTree.fromstring(save(page, "manako-candidates", "SVG")[1])
    marked = {e.text: e.get(lang) for e in root.iter(f"{SVG}text")}
    assert root.get(lang) == "en" and marked["'\u3042'"] == "ja" and marked["p"] is None
    assert root.attrib["font-family"].endswith("sans-serif")


@pytest.mark.parametrize("kind", ["CSV", "JSON"])
def test_the_steps_are_saved_from_a_file_and_from_a_server(kind: str, open_page: Open, browser: Browser) -> None:
    trace = golden_trace()
    found = [save(open_page(trace), SHARE, kind)]
    with serving(free) as site:
        site.runs.add("golden.manako", to_bytes(trace))
        page = browser.new_page(locale="ja")
        page.goto(f"http://{site.host}/#token={TOKEN}")
        found.append(save(page, SHARE, kind))
        assert save(page, "manako-candidates", "PNG")[1].startswith(b"\x89PNG")
        page.close()
    assert found[0] == found[1] and found[0][0] == f"manako-steps.{kind.lower()}"
    text = found[0][1].decode()
    if kind == "JSON":
        ids = [step["chosen"]["id"] for step in json.loads(text)["steps"]]
    else:
        assert text.startswith("\ufeff")
        ids = [int(row["token_id"]) for row in csv.DictReader(text[1:].splitlines())]
    assert ids == [step["chosen"]["id"] for step in trace_document(trace, 1)["steps"]]


def bars_of(page: Page, kind: str) -> list[float | None]:
    """Where each bar of a kind ends on its axis, row by row."""
    return page.eval_on_selector_all(
        "manako-candidates tbody tr",
        f"""rows => rows.map(row => {{
            const bar = row.querySelector(".bar > .{kind}");
            return bar && Number(bar.style.getPropertyValue("--p"));
        }})""",
    )


def test_the_axis_of_the_bars_can_be_chosen(open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(trace, fragment="step=5")
    step = trace.steps[4]
    rows = [*step.candidates[:10], step.other(step.candidates[:10])]
    p = [None if getattr(row, "cut_by", None) else row.p for row in rows]
    p_model = [None if each is None else row.p_model for each, row in zip(p, rows, strict=True)]
    largest = max(max(row.p, row.p_model) for row in rows[:-1])
    scales: dict[str, Callable[[float], float]] = {
        "0\u2013100 %": lambda x: x,
        "log": lambda x: max(0.0, 1 + math.log10(x) / 6) if x > 1e-12 else 0.0,
        "zoom": lambda x: x / largest,
    }
    said = {"0\u2013100 %": "linear", "log": "log", "zoom": "zoom"}
    ends = {"0\u2013100 %": "100%", "log": "100%", "zoom": f"{100 * largest:.1f}%"}
    for name, scale in scales.items():
        page.click(f"manako-candidates .choices button:text-is('{name}')")
        assert page.evaluate("document.activeElement.textContent") == name
        assert page.get_attribute("manako-candidates [aria-pressed=true]", "aria-pressed") == "true"
        for kind, values in (("p", p), ("p-model", p_model)):
            for drawn, value in zip(bars_of(page, kind), values, strict=True):
                assert drawn is None if value is None else drawn == pytest.approx(scale(value), abs=1e-9)
        assert page.inner_text("manako-candidates .axis > :last-child") == ends[name]
        assert messages.text(f"page.caption_{said[name]}", "en") in page.inner_text("manako-candidates caption")
    page.wait_for_url(re.compile("axis=zoom"))
    page.reload()
    page.wait_for_selector("manako-app header")
    assert bars_of(page, "p")[0] == pytest.approx(rows[0].p / largest)


def test_what_is_longer_than_the_axis_has_no_bar(open_page: Open) -> None:
    tokens = [f"t{n}".encode() for n in range(200)]
    trace = trace_of(tokens, np.zeros((2, len(tokens))))
    page = open_page(trace, fragment="axis=zoom")
    last = page.locator("manako-candidates tbody tr").last
    expect(last.locator(".bar")).to_have_count(0)
    assert messages.text("page.beyond", "en") in last.inner_text()
    page.click("manako-candidates .choices button:text-is('log')")
    expect(last.locator(".bar > .p")).to_have_count(1)


def set_view(page: Page, changes: dict[str, Any]) -> None:
    """What the page shows where a model can go on; what is asked for is kept and goes no further."""
    page.evaluate("""globalThis.acts = [];
        addEventListener("act", (event) => { acts.push(event.detail); event.stopPropagation(); }, true);""")
    page.eval_on_selector("manako-candidates", "(e, changes) => { e.view = { ...e.view, ...changes }; }", changes)


def test_a_candidate_can_be_put_here_where_a_model_can_go_on(open_page: Open) -> None:
    trace = golden_trace()
    page = open_page(trace, fragment="step=2&details=1")
    expect(page.locator(".force")).to_have_count(0)
    assert "force" not in page.inner_text("manako-candidates")
    set_view(page, {"canAct": True})
    assert page.inner_text("manako-candidates thead th:last-child") == "force"
    rows = page.locator("manako-candidates tbody tr:not(.other)")
    ids = [int(text) for text in page.locator("manako-candidates tbody td:nth-child(3)").all_inner_texts() if text]
    expect(rows).to_have_count(len(ids))
    expect(page.locator("tr:not(.other) > td:last-child > .force")).to_have_count(len(ids))
    button = rows.nth(ids.index(TOKENS.index(b"[bold]"))).locator(".force")
    assert button.get_attribute("aria-label") == button.get_attribute("title")
    assert button.get_attribute("title") == "force '[bold]' at this step and continue"
    button.click()
    rows.last.locator(".force").press("Enter")
    assert page.evaluate("acts") == [{"kind": "force", "token": 2}, {"kind": "force", "token": ids[-1]}]


@pytest.mark.parametrize("rank", [3, 11, 12])
def test_the_token_that_a_reader_put_there_is_listed_and_marked(rank: int, open_page: Open) -> None:
    step = golden_trace().steps[1]
    page = open_page(golden_trace(), fragment="step=2&details=1")
    forced = step.candidates[rank - 1]
    set_view(page, {"forcedId": forced.id})
    (row,) = page.locator("tr.forced").all()
    assert row.locator("td").nth(1).inner_text() == str(forced.id)
    assert "token forced by you" in row.locator("th").inner_text()
    assert row.locator("td").first.inner_text().removeprefix("\u25b8 ") == str(rank)
    count = page.locator("manako-candidates tbody tr:not(.other)").count()
    assert count == len({c.id for c in step.candidates[:10]} | {step.chosen.id, forced.id})
    assert f"all {len(step.candidates) - count} other tokens" in page.inner_text("tr.other")


def test_a_token_put_there_of_which_nothing_is_on_record_has_no_bar(open_page: Open) -> None:
    trace = large_inside()
    listed = {c.id for c in trace.steps[1].candidates}
    page = open_page(trace, fragment="step=2")
    before = page.inner_text("tr.other")
    set_view(page, {"forcedId": next(i for i in range(20_000) if i not in listed)})
    row = page.locator("tr.forced")
    assert row.locator("td").first.inner_text() == "?"
    expect(row.locator(".bar")).to_have_count(0)
    assert page.inner_text("tr.other") == before
