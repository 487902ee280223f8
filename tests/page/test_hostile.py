"""T19, T20, T22: whatever a record holds stays text, in every place where the page shows it."""

from collections.abc import Callable
from dataclasses import replace

from golden import golden_inside, golden_trace
from pages import MARKUP, PAYLOADS, UNSEEN, trace_of
from playwright.sync_api import Page, expect

from manako.trace.record import SelfCheck, Trace

Open = Callable[..., Page]
WALK = """() => [...document.querySelectorAll("[role=option]")].map((token) => {
    token.click();
    const kinds = [...document.querySelectorAll("*")].map((e) => e.localName);
    return [document.querySelector("[data-place=chosen]").textContent, [...new Set(kinds)]];
})"""


def kinds(page: Page) -> set[str]:
    return set(page.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))


def test_no_token_becomes_anything_but_text(open_page: Open) -> None:
    harmless = kinds(open_page(trace_of([b"abc"] * len(PAYLOADS)), "en", "details=1&top=50"))
    trace = trace_of(PAYLOADS)
    page = open_page(trace, "en", "details=1&top=50")
    expect(page.locator("[role=option]")).to_have_count(len(trace))
    seen = page.evaluate(WALK)
    assert len(seen) == len(trace) and len({said for said, _ in seen}) > len(trace) / 2  # the steps were really shown
    assert {kind for _, here in seen for kind in here} <= harmless
    boxes = page.eval_on_selector_all(
        "[role=option]", "all => all.map(e => [e.getBoundingClientRect().width, getComputedStyle(e).unicodeBidi])"
    )
    assert all(width > 0 and bidi == "isolate" for width, bidi in boxes)


def test_text_without_anything_odd_is_shown_as_it_is(open_page: Open) -> None:
    plain = [text.encode() for text in MARKUP]
    page = open_page(trace_of(plain))
    shown = page.eval_on_selector_all("[role=option]", "all => all.map(e => e.textContent)")
    taken = trace_of(plain).columns.token_id.tolist()
    assert shown == [plain[i].decode() for i in taken]


def test_what_is_copied_is_the_true_text(open_page: Open) -> None:
    trace = trace_of([text.encode() for text in UNSEEN if text != "\x00"])
    page = open_page(trace)
    copied = page.evaluate("""() => {
        getSelection().selectAllChildren(document.querySelector("manako-ribbon .text"));
        const event = new ClipboardEvent("copy", { clipboardData: new DataTransfer(), bubbles: true });
        document.querySelector("[role=option]").dispatchEvent(event);
        return event.clipboardData.getData("text/plain");
    }""")
    assert copied == trace.text


def test_a_tower_of_marks_stays_low(open_page: Open) -> None:
    page = open_page(trace_of([b"a" + "\u0301".encode() * 1000, b"b"]))
    assert page.locator("[role=option]").first.text_content() == "a\u0301\u0301" + "\u2039U+0301\u203a" * 998


def test_names_in_the_header_stay_text(open_page: Open) -> None:
    harmless = kinds(open_page(named("abc")))
    for payloads in (MARKUP, UNSEEN):
        assert kinds(open_page(named("".join(payloads)))) == harmless


def named(text: str) -> Trace:
    """A record whose every free text is this one."""
    trace = golden_inside()
    config = {name: text for name in trace.header.model.config} | {"n_layer": 2}
    model = replace(trace.header.model, ref=text, switches=(text,), config=config, engine=text, device=text)
    checks = (SelfCheck(text, 0.0, 1.0), SelfCheck(text, 2.0, 1.0))
    parts = tuple(f"{text}{n}" for n in range(len(trace.header.parts)))
    changes = {
        "prompt": text,
        "model": model,
        "self_checks": checks,
        "ablate": (text,),
        "stop": (text,),
        "parts": parts,
    }
    return replace(trace, header=replace(trace.header, **changes))


def test_special_and_plain_tokens_of_the_same_letters_differ(open_page: Open) -> None:
    trace = trace_of([b"<|endoftext|>", b"<|endoftext|>"], special_ids=(0,))
    page = open_page(trace)
    chips = page.eval_on_selector_all(
        "manako-candidates tbody .cell-token", "all => all.map(e => e.firstElementChild.className)"
    )
    assert sorted(chips) == ["special", "token"]


def test_a_character_in_pieces_is_shown_as_bytes_and_named(open_page: Open) -> None:
    pieces = [bytes([b]) for b in "眼".encode()]
    page = open_page(trace_of(pieces))
    assert page.eval_on_selector_all("[role=option]", "all => all.map(e => e.textContent)") == [
        "\u2039E7\u203a",
        "\u20399C\u203a",
        "\u2039BC\u203a",
    ]
    assert page.eval_on_selector_all("[role=option]", "all => all.map(e => e.title)") == ["眼 1/3", "眼 2/3", "眼 3/3"]


def test_negative_control_a_breach_of_the_policy_is_a_complaint(
    open_page: Open, kept: tuple[Callable[..., Page], list[str]]
) -> None:
    page, complaints = open_page(golden_trace()), kept[1]
    page.evaluate("""() => new Promise((told) => {
        addEventListener("securitypolicyviolation", () => told());
        document.body.append(Object.assign(new Image(), { src: "http://evil.example/x.png" }));
    })""")
    said, complaints[:] = [*complaints], []
    assert any("breach of img-src" in each for each in said)


def test_a_failed_self_check_is_open_and_named(open_page: Open) -> None:
    page = open_page(golden_trace(self_checks=(SelfCheck("probabilities_sum_to_1", float("inf"), 1e-9),)))
    assert "SELF-CHECKS FAILED: 1" in page.inner_text("manako-checks")
    assert "SELF-CHECK FAILED probabilities sum to 1: error inf" in page.inner_text("manako-checks")
