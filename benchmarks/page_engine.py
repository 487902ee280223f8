"""The engine in the page: tokens a second in node, Chromium and Firefox, sizes of what carries a model, first texts.

Best of twelve rounds, since the machine is seldom idle: CPU time in node, wall time in both. The model is 4 layers,
4 heads, width 256, context 256, 3,864 tokens, random weights. Files carry the embedded model.
"""

import functools
import json
import shutil
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
            "opening": {name: min(each[name] for each in openings) for name in openings[0]},
            "bytes": {"demo.html": len(carrying.encode()), "site": {name: len(data) for name, data in files.items()}},
        }
        browser.close()
    target = ">= 500 tokens/s plain, >= 250 with all captures; file <= 17 MB; text <= 500 ms, own token <= 2,000 ms"
    measure.report("page_engine", target, start, **results)


if __name__ == "__main__":
    main()
