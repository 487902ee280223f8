"""Pages of one file in Firefox, with no network: one that carries its model writes, forks, saves; the other trains."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from firefox import ENTER, Tab, firefox, program
from toy import write_toy

from manako.analysis.verification import verify
from manako.cli.import_ import command
from manako.model import for_page, load
from manako.trace.tree import Tree, open_tree
from manako.views.html import Carried, page, trainer_page

WITH_FIREFOX = pytest.mark.skipif(program() is None, reason="Firefox is not installed: apt-get install firefox-esr")
IDLE = "document.querySelector('manako-app:not([data-writing]) [data-act=go]:not([disabled])')"
BRANCH = "new URLSearchParams(location.hash.slice(1)).get('branch')"
HANDED = """new Promise((resolve) => {{  // what a click hands to the browser to save
    const give = URL.createObjectURL;
    URL.createObjectURL = (blob) => {{
        URL.createObjectURL = give;
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(blob);
        return "data:,";
    }};
    {click};
}})"""
NAMED = "[...document.querySelectorAll('{within} button')].find((each) => each.textContent.startsWith({name!r}))"


def moved(tab: Tab, before: str) -> str:
    """Wait until another branch than the one before is whole and shown; its name."""
    tab.until(f"![null, '{before}'].includes({BRANCH}) && {IDLE}")
    return tab.evaluate(BRANCH)


def press(tab: Tab, name: str, within: str = "body") -> None:
    """Click the button whose label begins so, once it may be clicked."""
    button = NAMED.format(within=within, name=name)
    tab.until(f"{button} && !{button}.disabled")
    tab.evaluate(f"{button}.click()")


def handed(tab: Tab, name: str, file: Path, within: str = "body") -> Path:
    """What a button hands to the browser to save, as a file."""
    click = f"{NAMED.format(within=within, name=name)}.click()"
    file.write_bytes(base64.b64decode(tab.evaluate(HANDED.format(click=click))))
    return file


def saved(tab: Tab, file: Path) -> Tree:
    tab.click("[popovertarget=sheet-share]")
    tab.click("[value=all]")
    handed(tab, "Trace (.manako)", file, within="#sheet-share")
    tab.click("[popovertarget=sheet-share]")
    return open_tree(file)


def put(tab: Tab, selector: str, text: str, event: str = "input") -> None:
    """Fill a field as somebody who types would."""
    tab.evaluate(f"""(() => {{
        const field = document.querySelector({selector!r});
        field.value = {text!r};
        field.dispatchEvent(new Event({event!r}, {{ bubbles: true }}));
    }})()""")


@WITH_FIREFOX
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
        first = moved(tab, "1")
        tab.click("manako-candidates tbody tr:nth-child(4) button.force")
        second = moved(tab, first)
        tab.click("[data-act=go]")
        third = moved(tab, second)
        tree = saved(tab, tmp_path / "saved.manako")
        assert [(branch.id, branch.parent) for branch in tree.branches] == [
            ("1", None), (first, None), (second, first), (third, second),
        ]  # fmt: skip
        ours = tree.branches[1].trace
        theirs = model.trace("猫は", seed=5, max_new_tokens=60)
        assert ours.header.model.engine == "page-wasm" and np.array_equal(ours.all_ids, theirs.all_ids)
        assert all(verify(branch.trace).ok for branch in tree.branches)
        tab.open((tmp_path / "page.html").as_uri() + f"#branch={third}")
        tab.until(IDLE)
        again = saved(tab, tmp_path / "again.manako")
        assert [b.trace.all_ids.tolist() for b in again.branches] == [b.trace.all_ids.tolist() for b in tree.branches]
        assert tab.complaints == []


@WITH_FIREFOX
def test_a_text_becomes_a_model_that_python_takes_on(tmp_path: Path) -> None:
    (tmp_path / "train.html").write_text(trainer_page("en"), encoding="utf-8")
    taken = "document.querySelector('progress')?.value"
    with firefox(tmp_path) as tab:
        tab.open((tmp_path / "train.html").as_uri())
        put(tab, "textarea", "It is a truth universally acknowledged, that a single man.\n" * 60)
        press(tab, "Train")
        tab.until(f"{taken} > 4")
        press(tab, "Pause")
        press(tab, "One step")
        put(tab, ".glass input", "a single")
        for answer, said in (("Take it back", "what it was"), ("Keep this step", "Kept.")):
            press(tab, "Read it once", within=".glass")
            tab.until("document.querySelectorAll('.glass-tokens li').length === 8")
            press(tab, answer, within=".glass")
            tab.until(f"document.querySelector('.glass [role=status]').textContent.includes('{said}')")
        tab.until("/Read once besides the text: a single/.test(document.querySelector('.learning-time').innerText)")
        for place, texts in (("0", 1), ("999", 2)):  # before the first step, and as far on as it goes
            put(tab, "input[type=range]", place)
            tab.until(f"document.querySelectorAll('.learning-written').length === {texts}")
        result = json.loads(handed(tab, "Save the result", tmp_path / "mine.manako-result").read_text(encoding="utf-8"))
        run = handed(tab, "Save the training", tmp_path / "mine.manako-run")
        whole = handed(tab, "Save as a page", tmp_path / "whole.html")
        step = tab.evaluate(taken)
        found = CliRunner().invoke(command, [str(run), "-o", str(tmp_path / "run"), "--lang", "en"])
        assert found.exit_code == 0 and f" {step} of " in found.output, found.output
        assert load(tmp_path / "run").trace("It is", max_new_tokens=2, seed=0).text and result["step"] == step
        tab.open(whole.as_uri())
        tab.until(IDLE)
        assert tab.complaints == []
