"""What the tests of the page share: the browser, the judge of its accessibility, and records full of hostile tokens."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from golden import HOSTILE, FakeSession, golden_header
from playwright.sync_api import BrowserContext, Page

from manako.engines.generation import Generation
from manako.sampling import Sampling
from manako.trace.record import Trace, Vocabulary

AXE = Path(__file__).parents[2] / ".venv-test/node/node_modules/axe-core/axe.min.js"
SEEN = """([width, height, scheme]) => innerWidth === width && innerHeight === height &&
    (scheme === null || matchMedia(`(prefers-color-scheme: ${scheme})`).matches)"""
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


def chromium() -> dict[str, Any]:
    """How to launch it: without the part that is windows and menus where that is installed, as a page starts sooner."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert path, "these tests need Chromium: apt-get install chromium-headless-shell"
    return {"executable_path": path, "args": ["--no-sandbox"]}  # a container has no user namespaces


def watch(page: Page, complaints: list[str]) -> None:
    """Collect whatever a page complains about from now on, breaches of its own policy too."""
    page.on("console", lambda said: complaints.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error} {error.stack}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.add_init_script("""addEventListener("securitypolicyviolation", (event) =>
        console.error(`breach of ${event.violatedDirective}`));""")


def quiet(pages: Sequence[Page], complaints: list[str]) -> None:
    """Nothing may have been complained about in these pages; the next test begins without it."""
    for page in pages:
        page.evaluate("0")  # what was said before its answer has arrived with it
    said, complaints[:] = [*complaints], []
    assert said == []


def close(contexts: Sequence[BrowserContext], complaints: list[str]) -> None:
    """Close contexts, after which nothing may have been complained about."""
    try:
        quiet([page for context in contexts for page in context.pages], complaints)
    finally:
        for context in contexts:
            context.close()


def open_tab(page: Page, name: str) -> None:
    """Choose a tab below the stage; where there is room the one chosen before stays beside it."""
    page.click(f"[data-tab={name}]")


def open_sheet(page: Page, name: str) -> None:
    """Open what stands behind a button: settings, share; Escape closes it."""
    page.click(f"[popovertarget=sheet-{name}]")


def wish(page: Page, count: int | None = None, seed: int | str = "", inside: bool = True) -> None:
    """What the next generation is asked for."""
    open_sheet(page, "settings")
    if count is not None:
        page.fill("manako-act [name=count]", str(count))
    page.fill("manako-act [name=seed]", str(seed))
    page.set_checked("manako-act [type=checkbox]", inside)
    page.keyboard.press("Escape")


def look(page: Page, width: int, height: int, scheme: str | None = None) -> None:
    """Change what the page is seen in, and wait until it knows, which may be later than it was asked for."""
    if scheme is not None:
        page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function(SEEN, arg=[width, height, scheme])


def looks(
    page: Page, schemes: Sequence[str] = ("light", "dark"), widths: Sequence[int] = (360, 1280)
) -> Iterator[None]:
    """The page in each scheme at each width, one after another; it must fit into each."""
    for scheme, width in itertools.product(schemes, widths):
        look(page, width, 900, scheme)
        yield
        page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


def violations(page: Page) -> list[str]:
    """What axe-core has to say."""
    assert AXE.exists(), "axe-core is missing; scripts/test installs it"
    if page.evaluate("globalThis.axe === undefined"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    page.emulate_media(reduced_motion="reduce")  # a card that is still fading in has the colours of no theme
    found = page.evaluate("axe.run().then(r => r.violations)")
    page.emulate_media(reduced_motion="null")
    return [f"{v['id']}: {node['html'][:200]} {node['failureSummary']}" for v in found for node in v["nodes"]]


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
