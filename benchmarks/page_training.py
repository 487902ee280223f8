"""Whole training steps of the page's trainer beside PyTorch on one thread: forward, backward, clipping, AdamW.

    python page_training.py
    python page_training.py --browsers

The same shapes, windows a step and settings on every side; a round is some steps of each, one side after the other.
Node and PyTorch by the time of their own processor, so that other work on the machine counts less; browsers beside
PyTorch by the clock, since nothing tells a page's own time. Ratios are tokens a second divided by PyTorch's.
"""

import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from measure import ROUNDS, calibration, ratio, report
from page_engine import firefox, served
from playwright.sync_api import sync_playwright

from manako.families.gpt2 import ModelConfig
from manako.training.model import GPT
from manako.training.optim import Optimizers
from manako.views.html import WEB

SCRIPT = Path(__file__).with_name("page_training.mjs")
SHAPES: dict[str, tuple[tuple[int, ...], int]] = {  # layers, heads, width, context, vocabulary; steps a round
    "2/4/64, context 64, V 100": ((2, 4, 64, 64, 100), 40),
    "4/4/128, context 128, V 100": ((4, 4, 128, 128, 100), 4),
    "2/4/64, context 32, V 334": ((2, 4, 64, 32, 334), 80),
}
BATCH = 8
BENCH = """(async () => {
    const { bench } = await import("/page_training.mjs");
    globalThis.round = await bench("/manako/views/web", () => performance.now() / 1000);
})()"""
Round = Callable[[tuple[int, ...], int], float]  # a shape and steps -> seconds


def asked(shape: tuple[int, ...], steps: int) -> str:
    names = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")
    return json.dumps({"shape": dict(zip(names, shape, strict=True)), "batch": BATCH, "steps": steps})


class InTorch:
    """The steps of `manako train` without its windows and its looks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.sides = clock, dict[tuple[int, ...], Callable[[], None]]()

    def __call__(self, shape: tuple[int, ...], steps: int) -> float:
        step = self.sides.setdefault(shape, self.begun(*shape))
        step()
        began = self.clock()
        for _ in range(steps):
            step()
        return self.clock() - began

    def begun(self, n_layer: int, n_head: int, n_embd: int, block_size: int, vocab_size: int) -> Callable[[], None]:
        model = GPT(ModelConfig(n_layer, n_head, n_embd, block_size, vocab_size, start_id=0))
        optimizers = Optimizers(model, "adamw", 1e-3, 0.02, 0.1, torch.float32)
        ids = torch.randint(vocab_size, (BATCH, block_size + 1))

        def step() -> None:
            loss = model.loss(ids[:, :-1], ids[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers.step(1.0)
            loss.item()

        return step


def in_node(stack: ExitStack) -> Round:
    node = shutil.which("node")
    assert node, "needs node"
    pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = stack.enter_context(subprocess.Popen([node, SCRIPT, WEB.as_posix()], **pipes))
    assert process.stdin and process.stdout
    given, told = process.stdin, process.stdout
    stack.callback(given.close)

    def round_(shape: tuple[int, ...], steps: int) -> float:
        print(asked(shape, steps), file=given, flush=True)
        return float(told.readline())

    return round_


def in_browsers(stack: ExitStack) -> dict[str, Round]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "empty.html").write_text("<!doctype html>", encoding="utf-8")
    (folder / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
    (folder / "manako").symlink_to(WEB.parents[1])
    address = stack.enter_context(served(folder))
    playwright = stack.enter_context(sync_playwright())
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    stack.callback(browser.close)
    tab = browser.new_page()
    tab.goto(address)
    evaluated = {"chromium": tab.evaluate}
    if firefox.program() is not None:
        other = stack.enter_context(firefox.firefox(folder))
        other.open(address)
        evaluated["firefox"] = other.evaluate
    for evaluate in evaluated.values():
        evaluate(BENCH)

    def round_(evaluate: Callable[[str], Any], shape: tuple[int, ...], steps: int) -> float:
        return float(evaluate(f"String(globalThis.round({asked(shape, steps)}))"))

    return {name: functools.partial(round_, evaluate) for name, evaluate in evaluated.items()}


def main() -> None:
    start = calibration()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        sides: dict[str, Round] = {"torch": InTorch(time.process_time), "node": in_node(stack)}
        if "--browsers" in sys.argv:
            sides |= {"torch by the clock": InTorch(time.perf_counter), **in_browsers(stack)}
        for name, (shape, steps) in SHAPES.items():
            times: dict[str, list[float]] = {side: [] for side in sides}
            for n in range(ROUNDS + 1):
                for side, round_ in sides.items():
                    times[side] += [round_(shape, steps)][: n and 1]  # the first round is to warm up
            tokens = steps * BATCH * shape[3]
            clocks = {"node": "torch"} | dict.fromkeys(("chromium", "firefox"), "torch by the clock")
            results[name] = {
                "tokens_per_second": {side: tokens / sorted(each)[ROUNDS // 2] for side, each in times.items()},
                "beside_torch": {
                    side: ratio(times[other], times[side]) for side, other in clocks.items() if side in times
                },
            }
    target = ">= 0.5 at 2/4/64 with context 64, >= 0.4 at 4/4/128; Firefox within 2 of Chromium"
    report("page_training", target, start, torch=torch.__version__, **results)


if __name__ == "__main__":
    main()
