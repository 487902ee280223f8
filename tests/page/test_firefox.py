"""A page that carries its model, in Firefox: it writes, forks and saves from one file, with no network."""

import base64
from pathlib import Path

import numpy as np
import pytest
from firefox import ENTER, Tab, firefox, program
from toy import write_toy

from manako.analysis.verification import verify
from manako.model import for_page, load
from manako.trace.tree import Tree, open_tree
from manako.views.html import Carried, page

IDLE = "document.querySelector('manako-app:not([data-writing]) [data-act=go]:not([disabled])')"
BRANCH = "new URLSearchParams(location.hash.slice(1)).get('branch')"
SAVED = """new Promise((resolve) => {  // what a click hands to the browser to save
    const give = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
        URL.createObjectURL = give;
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(blob);
        return "data:,";
    };
    document.querySelector("[popovertarget=sheet-share]").click();
    document.querySelector("[value=all]").click();
    const buttons = [...document.querySelectorAll("#sheet-share button")];
    buttons.find((each) => each.textContent === "Trace (.manako)").click();
})"""


def moved(tab: Tab, branch: str) -> None:
    """Wait until a branch is whole and shown."""
    tab.until(f"{BRANCH} === '{branch}' && {IDLE}")


def saved(tab: Tab, file: Path) -> Tree:
    file.write_bytes(base64.b64decode(tab.evaluate(SAVED)))
    tab.click("[popovertarget=sheet-share]")
    return open_tree(file)


@pytest.mark.skipif(program() is None, reason="Firefox is not installed: apt-get install firefox-esr")
def test_a_file_with_its_model_writes_forks_keeps_and_saves(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy", block_size=40)
    model, data = load(tmp_path / "toy"), for_page(tmp_path / "toy")
    trace = model.trace("私は", seed=0, max_new_tokens=6, capture=["attention", "lens"])
    (tmp_path / "page.html").write_text(page(trace, "en", Carried("toy", len(data), data)), encoding="utf-8")
    with firefox(tmp_path) as tab:
        tab.open((tmp_path / "page.html").as_uri())
        tab.until(IDLE)
        tab.evaluate("""Object.entries({ count: 60, seed: 5 }).forEach(([name, value]) => {
            document.querySelector(`manako-act [name=${name}]`).value = value;
        })""")
        tab.evaluate("""(() => {
            const prompt = document.querySelector("[data-edit=prompt]");
            prompt.focus();
            prompt.dispatchEvent(new FocusEvent("focus"));  // a window that nobody sees tells of none
            document.execCommand("insertText", false, "猫は");
        })()""")
        tab.type(ENTER)
        moved(tab, "t1")
        tab.click("manako-candidates tbody tr:nth-child(4) button.force")
        moved(tab, "t2")
        tab.click("[data-act=go]")
        moved(tab, "t3")
        tree = saved(tab, tmp_path / "saved.manako")
        assert [(branch.id, branch.parent) for branch in tree.branches] == [
            ("1", None), ("t1", None), ("t2", "t1"), ("t3", "t2"),
        ]  # fmt: skip
        ours = tree.branches[1].trace
        theirs = model.trace("猫は", seed=5, max_new_tokens=60)
        assert ours.header.model.engine == "page-wasm" and np.array_equal(ours.all_ids, theirs.all_ids)
        assert all(verify(branch.trace).ok for branch in tree.branches)
        tab.open((tmp_path / "page.html").as_uri() + "#branch=t3")
        tab.until(IDLE)
        again = saved(tab, tmp_path / "again.manako")
        assert [b.trace.all_ids.tolist() for b in again.branches] == [b.trace.all_ids.tolist() for b in tree.branches]
        assert tab.complaints == []
