"""The page that trains: from a pasted text to a model that writes, in one process, offline, narrow and wide."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import close, look, violations, watch
from playwright.sync_api import Browser, BrowserContext, Page, expect
from serving import until

import manako
from manako.cli.import_ import command
from manako.messages import text
from manako.views.html import trainer_page

TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune.\n" * 40
WAIT = 60_000  # ms, where a machine trains while others work


def say(page: Page, text: str) -> None:
    page.get_by_text(text).first.wait_for()


def steps_taken(page: Page) -> int:
    return int(page.locator("progress").evaluate("bar => bar.value"))


def saved(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as found:
        page.get_by_role("button", name=button).click()
    file = folder / found.value.suggested_filename
    found.value.save_as(file)
    return file


def test_from_a_pasted_text_to_a_model_that_writes(browser: Browser, tmp_path: Path) -> None:
    complaints: list[str] = []
    file = tmp_path / "train.html"
    file.write_text(trainer_page("en"), encoding="utf-8")
    with contextlib.closing(browser.new_context(offline=True, viewport={"width": 360, "height": 740})) as context:
        context.set_default_timeout(WAIT)

        def watch(page: Page) -> None:
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))

        context.on("page", watch)
        page = context.new_page()
        page.goto(file.as_uri())
        refusals(page, tmp_path)
        page.locator("textarea").fill(TEXT)
        say(page, f"3,640 characters; {len(set(TEXT))} different ones have a token of their own")
        expect(page.get_by_role("button", name="Train")).to_be_enabled(timeout=WAIT)
        page.get_by_label("your prompt").fill("It is a ")
        assert violations(page) == []
        training(page)
        one_step(page)
        looking_back(page)
        results(page, tmp_path)
        pictures(page)
        run, trace, whole = (
            saved(page, f"Save {what}", tmp_path) for what in ("the training", "the newest", "as a page")
        )
        in_python(run, trace, tmp_path / "runs", steps_taken(page))
        with context.expect_page() as opened:
            page.get_by_role("button", name="Write with it").click()
        for tab in (opened.value, context.new_page()):
            if tab is not opened.value:
                tab.goto(whole.as_uri())
            tab.get_by_text("re-derived on this page").first.wait_for()
            expect(tab.get_by_role("button", name="Continue")).to_be_enabled(timeout=WAIT)
        kept(page, context, file, steps_taken(page))
    assert complaints == []


def refusals(page: Page, folder: Path) -> None:
    page.locator("textarea").fill("a" * 50)
    say(page, "The text has 50 characters; training needs at least 1,000.")
    assert page.locator("textarea:focus").input_value() == "a" * 50  # who types goes on typing
    (folder / "photo.png").write_bytes(bytes(range(256)) * 9)
    page.locator("input[type=file]").first.set_input_files(folder / "photo.png")
    say(page, "photo.png is not text in UTF-8")
    (folder / "mine.manako-run").write_bytes(b"{}")
    page.locator("input[type=file]").first.set_input_files(folder / "mine.manako-run")
    say(page, "mine.manako-run is damaged or was changed")


def training(page: Page) -> None:
    page.get_by_role("button", name="Train").click()
    expect(page.locator(".learning-now")).to_contain_text(re.compile(r"Step ([5-9]|\d\d+) of"), timeout=WAIT)
    assert page.evaluate("[scrollY, document.activeElement.textContent]") == [0, "Pause"]
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="One step")).to_be_enabled(timeout=WAIT)
    before = steps_taken(page)
    page.get_by_role("button", name="One step").press("Enter")
    expect(page.locator("progress")).to_have_js_property("value", before + 1, timeout=WAIT)
    page.get_by_label("your prompt").fill("good ")
    page.get_by_label("your prompt").press("Enter")
    expect(page.locator(".learning-written")).to_have_count(2, timeout=WAIT)
    expect(page.locator(".learning-written").first).to_contain_text("good ", timeout=WAIT)
    shown = [float(p.strip("<%")) for p in page.locator(".learning-bars .number").all_inner_texts()]
    assert len(shown) == 11 and 99 < sum(shown) < 101


def one_step(page: Page) -> None:
    """One sentence is read once, seen, and taken back; then read again, and kept."""
    card, now = page.locator(".glass"), page.locator(".learning-time")
    card.get_by_label("the sentence", exact=True).fill("a good")
    for answer, said in (("Take it back", "the model is what it was"), ("Keep this step", "Kept.")):
        card.get_by_role("button", name="Read it once").click()
        expect(card.locator(".glass-tokens li")).to_have_count(6, timeout=WAIT)
        card.get_by_role("button", name=answer).click()
        expect(card.get_by_role("status")).to_contain_text(said, timeout=WAIT)
    expect(now).to_contain_text("Read once besides the text: a good", timeout=WAIT)


def looking_back(page: Page) -> None:
    """By the keyboard: what was written before the first step, and the newest again."""
    slider, written = page.get_by_label("time: snapshots of the training"), page.locator(".learning-written")
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "at step 0")
    expect(written).to_have_count(1)
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "now")
    expect(written).to_have_count(2)


def results(page: Page, folder: Path) -> None:
    """A class's results on one page: the best first, and what is none named."""
    for name in ("Ai", "Ken"):
        page.get_by_label("your name, or").fill(name)
        found = saved(page, "Save the result", folder)
        assert found.name == f"{name}.manako-result"
    better = json.loads((folder / "Ken.manako-result").read_text(encoding="utf-8")) | {"name": "<b>Ken"}
    better["evaluation"] = {"step": 1, "bits": 0}  # no other comes below
    (folder / "Ken.manako-result").write_text(json.dumps(better), encoding="utf-8")
    (folder / "photo.manako-result").write_bytes(bytes(range(256)))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open results").click()
    chooser.value.set_files([folder / f"{name}.manako-result" for name in ("Ai", "photo", "Ken")])
    expect(page.locator(".results tbody th")).to_have_text(["<b>Ken", "Ai"])
    assert page.locator(".results tbody .number").first.inner_text() == "0.00"
    say(page, "photo.manako-result is not a result")


def pictures(page: Page) -> None:
    for scheme, lang, width in (("dark", "ja", 360), ("light", "en", 1280)):
        look(page, width, 800, scheme)
        page.locator(f"[data-choice={lang}]").click()
        expect(page.locator("svg[role=img] polyline")).not_to_have_count(0, timeout=WAIT)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def in_python(run: Path, trace: Path, out: Path, step: int) -> None:
    found = CliRunner().invoke(command, [str(run), "-o", str(out), "--lang", "en"])
    assert found.exit_code == 0 and f" {step} of " in found.output, found.output
    model, text = manako.load(out), manako.open(trace)
    assert manako.verify(text).ok and text.header.prompt == "good "
    assert model.trace("It is", max_new_tokens=2, seed=0).text and text.header.model.ref == "my-model"
    assert text.header.model.weights_sha256 == model.info.weights_sha256


def kept(page: Page, context: BrowserContext, file: Path, step: int) -> None:
    page.reload()
    say(page, f"This browser kept this training: it continues from step {step}.")
    other = context.new_page()
    other.goto(file.as_uri())
    say(other, "This page is open in another tab")
    page.get_by_role("button", name="New training").click()  # and not confirmed
    assert steps_taken(page) == step
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="New training").click()
    expect(page.locator("textarea")).to_be_visible(timeout=WAIT)
    page.reload()
    expect(page.locator("textarea")).to_be_visible(timeout=WAIT)


@pytest.fixture
def trainer(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page with a text on it that can be trained on."""
    complaints: list[str] = []
    (tmp_path / "train.html").write_text(trainer_page("en"), encoding="utf-8")
    context = browser.new_context(offline=True)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    watch(page, complaints)
    page.goto((tmp_path / "train.html").as_uri())
    page.locator("textarea").fill(TEXT)
    expect(page.get_by_role("button", name="Train")).to_be_enabled(timeout=WAIT)
    yield page
    close([context], complaints)


def test_a_training_is_of_the_text_prompt_and_seed_that_stand_there(trainer: Page) -> None:
    train = trainer.get_by_role("button", name="Train")
    for seed in ("-5", "1.7", "99999999999", ""):
        trainer.get_by_label("seed").fill(seed)
        train.click()
        assert not trainer.get_by_label("seed").evaluate("input => input.validity.valid")
        expect(train).to_be_enabled()
    trainer.get_by_label("seed").fill("7")
    trainer.evaluate("""() => {
        const [area, train] = [document.querySelector("textarea"), document.querySelector("button.primary")];
        area.value = "ZZ " + area.value;
        area.dispatchEvent(new Event("input", { bubbles: true }));
        train.click();
    }""")
    say(trainer, f"3,643 characters; {len({*TEXT, 'Z'})} different ones have a token of their own")
    trainer.get_by_label("your prompt").fill("It is ")
    expect(train).to_be_enabled(timeout=WAIT)
    train.click()
    expect(trainer.locator(".learning-written").first).to_contain_text("It is ", timeout=WAIT)


def test_a_step_tells_both_rates_and_its_messages_follow_the_language_which_a_reload_keeps(trainer: Page) -> None:
    trainer.locator("[data-choice=m1]").press("Enter")  # the small size
    expect(trainer.get_by_role("button", name="Train")).to_be_enabled(timeout=WAIT)
    trainer.get_by_role("button", name="Train").press("Enter")
    card = trainer.locator(".glass")
    card.get_by_label("the sentence", exact=True).fill("a" * 1000)
    card.get_by_role("button", name="Read it once").click()
    expect(card.get_by_role("status")).to_contain_text("1000 tokens", timeout=WAIT)
    trainer.locator("[data-choice=ja]").click()
    expect(card.get_by_role("status")).to_contain_text("1000 トークン")
    trainer.locator("[data-choice=en]").click()
    card.get_by_label("the sentence", exact=True).fill("a good")
    card.get_by_role("button", name="Read it once").click()
    rates = re.compile(r"rate: AdamW ([\d.e-]+), Muon ([\d.e-]+), ", re.IGNORECASE)
    expect(card).to_contain_text(rates, timeout=WAIT)
    found = rates.search(card.inner_text())
    assert found and 0 < float(found[1]) < float(found[2])
    card.get_by_role("button", name="Take it back").click()
    expect(card.get_by_role("status")).to_have_text(text("glass.back_is", "en"))
    trainer.locator("[data-choice=ja]").click()
    expect(card.get_by_role("status")).to_have_text(text("glass.back_is", "ja"))
    trainer.reload()
    expect(trainer.locator("h1")).to_have_text(text("training.title", "ja"))


def test_a_long_text_that_is_pasted_stands_behind_what_was_typed(trainer: Page) -> None:
    trainer.evaluate("""(pasted) => {
        const [area, clipboardData] = [document.querySelector("textarea"), new DataTransfer()];
        clipboardData.setData("text/plain", pasted);
        area.setSelectionRange(2, area.value.length);
        area.dispatchEvent(new ClipboardEvent("paste", { clipboardData, cancelable: true }));
    }""", "yz" * 10_001)  # fmt: skip
    say(trainer, "20,004 characters; ")


def test_a_text_given_before_the_last_was_read_is_measured_once(trainer: Page) -> None:
    trainer.evaluate(
        """name => {
        const post = Worker.prototype.postMessage;
        globalThis.measured = 0;
        Worker.prototype.postMessage = function (asked, handed) {
            measured += Number(asked.kind === "measure");
            post.call(this, asked, handed);
        };
        const own = [...document.querySelectorAll("button")].find((button) => button.textContent === name);
        for (const _ of [1, 2]) own.click();
    }""",
        "Use the sentences of this page",
    )
    expect(trainer.get_by_role("button", name="Train")).to_be_enabled(timeout=WAIT)
    assert trainer.evaluate("measured") == 1


def test_saves_at_once_each_give_a_file_and_one_that_fails_says_so(trainer: Page) -> None:
    train = trainer.get_by_role("button", name="Train")
    trainer.locator("[data-choice=m1]").press("Enter")  # the small size
    expect(train).to_be_enabled(timeout=WAIT)
    train.press("Enter")
    trainer.get_by_role("button", name="Save the result").wait_for()
    downloads: list[str] = []
    trainer.on("download", lambda download: downloads.append(download.suggested_filename))
    press = """names => {
        for (const name of names) [...document.querySelectorAll("button")].find((b) => b.textContent === name).click();
    }"""
    trainer.evaluate("""() => {
        const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (asked, handed) {
            if (asked.kind === "save") Worker.prototype.postMessage = post;
            asked = { ...asked };
                if (asked.kind === "save") asked.versions = asked; // no JSON
                post.call(this, asked, handed);
        };
    }""")
    trainer.evaluate(press, ["Save as a page", "Save the training", "Save the newest text", "Save the result"])
    wanted = {"my-model.manako", "my-model.manako-result", "my-model.manako-run"}
    until(lambda: trainer.evaluate("0") == 0 and {*downloads} == wanted)
    say(trainer, "The trainer in the page failed: RangeError")
    assert len(downloads) == 3


def test_files_that_are_none_or_cannot_be_read_are_said_and_others_opened(trainer: Page, tmp_path: Path) -> None:
    (tmp_path / "a.manako-run").write_bytes(b"no training at all")
    trainer.locator("input[type=file]").first.set_input_files(tmp_path / "a.manako-run")
    say(trainer, "a.manako-run is not a training that was saved by this page.")
    trainer.evaluate("""() => {
        const read = File.prototype.text;
        const refused = () => Promise.reject(new DOMException("gone", "NotReadableError"));
        File.prototype.text = function () { return this.name === "gone" ? refused() : read.call(this); };
        File.prototype.arrayBuffer = refused;
    }""")
    for name in ("gone", "other"):
        (tmp_path / name).write_text("{}")
    trainer.locator("input[type=file]").first.set_input_files(tmp_path / "other")
    say(trainer, "other cannot be read: NotReadableError: gone")
    trainer.locator("input[type=file]").last.set_input_files([tmp_path / "gone", tmp_path / "other"])
    say(trainer, "gone cannot be read: NotReadableError: gone")
    say(trainer, "other is not a result that was saved in this page")
