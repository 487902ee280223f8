"""The engine in the page: tokens a second in node, Chromium and Firefox, sizes of what carries a model, first texts,
and from a key to the painted token of a single step. `page_engine.py step` measures the last alone.

Best of twelve rounds, since the machine is seldom idle: CPU time in node, wall time in both. The model is 4 layers,
4 heads, width 256, context 256, 3,864 tokens, random weights. Files carry the embedded model.
"""

import functools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import measure
from models import write_reference_model
from playwright.sync_api import Browser, sync_playwright

import manako
from manako.model import for_page
from manako.refs import example
from manako.views.html import WEB, Carried, page
from manako.views.site import site

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
import firefox  # noqa: E402  which drives it for the tests of the page

ROOT, SCRIPT = WEB.parents[1], Path(__file__).with_name("page_engine.mjs")
OPENINGS = 5
STEPS, BEHIND = 20, 200  # single steps, behind so many tokens
FIRST = 3  # of them wait for the compiler
PAINTED = """() => {
    globalThis.painted = [];
    const tokens = () => document.querySelectorAll("manako-ribbon [role=option]").length;
    let [start, before] = [0, Infinity];
    addEventListener("keydown", ({ timeStamp }) => ([start, before] = [timeStamp, tokens()]), true);
    new MutationObserver(() => {
        if (tokens() <= before) return;
        before = Infinity;
        requestAnimationFrame(() => {
            const { port1, port2 } = new MessageChannel();  // its message comes behind the frame
            port1.onmessage = () => painted.push(performance.now() - start);
            port2.postMessage(0);
        });
    }).observe(document.querySelector("manako-app"), { childList: true, subtree: true });
}"""
BENCH = """(async () => {
    const { bench } = await import("/page_engine.mjs");
    const bytes = await (await fetch("/model.bin")).arrayBuffer();
    return JSON.stringify(await bench(bytes, "/manako/views/web", () => performance.now()));
})()"""


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
        pass


def in_node(model: Path, clock: str) -> dict[str, Any]:
    node = shutil.which("node")
    assert node, "needs node"
    done = subprocess.run([node, SCRIPT, model, WEB.as_posix(), clock], capture_output=True, check=True, text=True)
    return json.loads(done.stdout)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of an empty page that may import what lies in a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/empty.html"
        server.shutdown()


def in_chromium(browser: Browser, folder: Path) -> dict[str, Any]:
    with served(folder) as address:
        tab = browser.new_page()
        tab.goto(address)
        found = json.loads(tab.evaluate(BENCH))
        tab.close()
        return found


def in_firefox(folder: Path) -> dict[str, Any] | str:
    if firefox.program() is None:
        return "not measured: Firefox is not installed"
    with served(folder) as address, firefox.firefox(folder) as tab:
        tab.open(address)
        return json.loads(tab.evaluate(BENCH))


def opening(browser: Browser, file: Path) -> dict[str, float]:
    """Milliseconds from opening a page with a model to its first text, and to the first token of its own."""
    tab = browser.new_page()
    began = time.perf_counter()
    tab.goto(file.as_uri(), wait_until="commit")
    tab.wait_for_selector("manako-ribbon [role=option]")
    shown = time.perf_counter() - began
    tab.evaluate("document.querySelector('manako-act [name=count]').value = 1")
    tab.wait_for_selector("[data-edit=prompt][contenteditable]")
    tab.fill("[data-edit=prompt]", "私")
    tab.press("[data-edit=prompt]", "Enter")
    tab.locator("manako-ribbon [role=option] >> nth=1").wait_for(state="detached")
    own = time.perf_counter() - began
    painted = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
    tab.close()
    return {"first_paint_ms": painted, "first_text_ms": 1000 * shown, "first_own_token_ms": 1000 * own}


def stepping(browser: Browser, folder: Path) -> dict[str, float]:
    """Milliseconds from the key on "next step" to the painted token, all captured, behind 200 tokens."""
    model, text = manako.load("demo"), folder / "step.html"
    trace = model.trace("私は", max_new_tokens=BEHIND, seed=0, capture=("attention", "lens", "contributions"))
    data = for_page("demo")
    text.write_text(page(trace, "ja", Carried("demo", len(data), data)), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(text.as_uri())
    tab.wait_for_selector("[data-act=go]:not([disabled])")
    tab.press("manako-ribbon [role=listbox]", "End")
    tab.evaluate(PAINTED)
    client = tab.context.new_cdp_session(tab)
    client.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU time, whatever else the machine does

    def spent() -> float:
        told = {each["name"]: each["value"] for each in client.send("Performance.getMetrics")["metrics"]}
        return 1000 * sum(told[f"{part}Duration"] for part in ("Script", "Layout", "RecalcStyle"))

    before = 0.0
    for n in range(1, STEPS + 1):
        if n == FIRST + 1:
            before = spent()
        tab.press("manako-app:not([data-writing]) [data-act=step]", "Enter")
        tab.wait_for_function("n => painted.length === n", arg=n)
    tab.wait_for_selector("manako-app:not([data-writing])")
    times, cpu = tab.evaluate("painted")[FIRST:], (spent() - before) / (STEPS - FIRST)
    tab.close()
    return {"median_ms": statistics.median(times), "largest_ms": max(times), "script_and_layout_cpu_ms": cpu}


def only_stepping() -> None:
    start = measure.calibration()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        measure.report("page_engine step", "key to painted <= 50 ms", start, step=stepping(browser, Path(name)))
        browser.close()


def main() -> None:
    start = measure.calibration()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        write_reference_model(folder / "model", n_layer=4, n_head=4, block_size=256, vocabulary=3_864)
        (folder / "model.bin").write_bytes(for_page(folder / "model"))
        (folder / "empty.html").write_text("<!doctype html>", encoding="utf-8")
        (folder / "page_engine.mjs").write_bytes(SCRIPT.read_bytes())
        (folder / "manako").symlink_to(ROOT)
        demo = for_page("demo")
        carrying = page(manako.open(example()), "ja", Carried("demo", len(demo), demo))
        (folder / "demo.html").write_text(carrying, encoding="utf-8")
        files = site(manako.open(example()), "ja", "demo", demo)
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        openings = [opening(browser, folder / "demo.html") for _ in range(OPENINGS)]
        results = {
            "node_cpu": in_node(folder / "model.bin", "cpu"),
            "node_wall": in_node(folder / "model.bin", "wall"),
            "chromium_wall": in_chromium(browser, folder),
            "firefox_wall": in_firefox(folder),
            "step": stepping(browser, folder),
            "opening": {name: min(each[name] for each in openings) for name in openings[0]},
            "bytes": {"demo.html": len(carrying.encode()), "site": {name: len(data) for name, data in files.items()}},
        }
        browser.close()
    target = ">= 500 tokens/s plain, >= 250 with all captures; file <= 17 MB; text <= 500 ms, own token <= 2,000 ms"
    measure.report("page_engine", target, start, **results)


if __name__ == "__main__":
    only_stepping() if sys.argv[1:] == ["step"] else main()
