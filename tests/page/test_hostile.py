"""T19, T20, T22: whatever a record holds stays text, in every place where the page shows it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from golden import HOSTILE, FakeSession, golden_header, golden_inside, golden_trace
from playwright.sync_api import Page

from manako.engines.generation import Generation
from manako.sampling import Sampling
from manako.trace import SelfCheck, Trace, Vocabulary

Open = Callable[..., Page]
MARKUP = (
    "<script>alert(1)</script>", "</script><script>alert(1)//", "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>", "<svg><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'>", "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>", "<input autofocus onfocus=alert(1)>", "<a href=javascript:alert(1)>x</a>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<style>@import '//evil.example'</style>", "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "<base href=//evil.example/>",
    "<object data=//evil.example>", "<embed src=//evil.example>", "<!--", "-->", "]]>", "<![CDATA[", "<?xml?>",
    "&lt;script&gt;", "&#60;img src=x&#62;", "\"><img src=x onerror=alert(1)>", "'><b>", "`${alert(1)}`",
    "${alert(1)}", "{{constructor.constructor('alert(1)')()}}", "javascript:alert(1)", "\\u003cscript>",
    "<template><img src=x onerror=alert(1)></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>", "<audio src=//evil.example autoplay>",
    "<video poster=//evil.example>", "url(//evil.example)", "expression(alert(1))", "<manako-app>",
    "<x onclick=alert(1)>", "{text}", "{token}", "%s", "$&", "$1",
)  # fmt: skip
UNSEEN = (
    "\u202etxt.exe", "\u2066x\u2069", "\u200b", "\u200d", "\ufeff", "\u00ad", "\U000e0041", "\u00a0", "\u3000", " ",
    "\n", "\t", "\r\n", "\x00", "\x07", "\x1b[31m", "\x1b]0;title\x07", "\x7f", "\x9b2J", "\u2028", "\u2029",
    "a" + "\u0301" * 1000, "\u0301", "\u061c", "\ufff9", "\ue000", "\U0010ffff",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\u5370\U000e0100", "\u0430pple", "w\u03bdrd", "\u2800", "\u115f",
    "\u3164", "x" * 3000,
)  # fmt: skip
BYTES = (
    b"\xe7\x8c",
    b"\xab",
    b"\xf0\x9f",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"a\xe3",
    b"",
)
PAYLOADS = (*(text.encode() for text in (*MARKUP, *UNSEEN)), *BYTES, *HOSTILE)


WALK = """() => [...document.querySelectorAll("[role=option]")].map((token) => {
    token.click();
    const kinds = [...document.querySelectorAll("*")].map((e) => e.localName);
    return [document.querySelector("[data-place=chosen]").textContent, [...new Set(kinds)]];
})"""


def trace_of(tokens: Sequence[bytes], **changes: object) -> Trace:
    """A record in which each of these tokens is drawn once, in order, greedily."""
    rows = np.zeros((len(tokens) + 1, len(tokens)), dtype=np.float32)
    rows[range(len(tokens)), range(len(tokens))] = 4
    settings = {
        "sampling": Sampling(temperature=0),
        "special_ids": (),
        "end": "interrupted",
        "max_new_tokens": len(tokens),
    }
    header = golden_header(**{**settings, "self_checks": (), **changes})
    prompt = (len(tokens) - 1,)
    session = FakeSession(rows)
    generation = Generation(session, header, prompt, Vocabulary(tokens, len(tokens), frozenset(header.special_ids)), ())
    for _ in tokens:
        generation.advance()
    return replace(generation.trace(), header=header)


def kinds(page: Page) -> set[str]:
    return set(page.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))


def test_no_token_becomes_anything_but_text(open_page: Open) -> None:
    harmless = kinds(open_page(trace_of([b"abc"] * len(PAYLOADS)), "en", "details=1&top=50"))
    trace = trace_of(PAYLOADS)
    page = open_page(trace, "en", "details=1&top=50")
    assert page.locator("[role=option]").count() == len(trace)
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


def test_a_failed_self_check_is_open_and_named(open_page: Open) -> None:
    page = open_page(golden_trace(self_checks=(SelfCheck("probabilities_sum_to_1", float("inf"), 1e-9),)))
    assert "1 SELF-CHECKS FAILED" in page.inner_text("manako-checks")
    assert "SELF-CHECK FAILED probabilities sum to 1: error inf" in page.inner_text("manako-checks")
