"""All lessons walked to their end by keyboard, in both languages; what a page without a model makes of them."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from golden import golden_inside
from pages import close, looks, violations, watch
from playwright.sync_api import Browser, Page, expect

import manako
from manako import messages
from manako.model import for_page
from manako.refs import EMBEDDED, example, for_language
from manako.trace.record import Trace
from manako.views.html import WEB, Carried
from manako.views.html import page as page_of

DATA = json.loads((WEB / "lessons/lessons.json").read_text(encoding="utf-8"))
IDLE = "manako-app:not([data-writing])"
READY = "manako-lesson[aria-busy=false]"  # the page shows what the step is about
DONE = "manako-lesson .note"
OWN = {"ja": "犬は🐕", "en": "A dog 🐕"}  # with four bytes among its characters
MODEL = {lang: for_language(lang) for lang in messages.LANGUAGES}  # what a class that reads a language gets


def shipped(lang: str) -> Trace:
    trace = manako.open(example(MODEL[lang]))
    assert isinstance(trace, Trace)
    return trace


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each language the page that holds the example and the model, as a class gets it."""
    folder = tmp_path_factory.mktemp("lessons")
    for lang, name in MODEL.items():
        data = for_page(EMBEDDED[name])
        text = page_of(shipped(lang), lang, Carried(name, len(data), data))
        (folder / f"{lang}.html").write_text(text, encoding="utf-8")
    return {lang: folder / f"{lang}.html" for lang in MODEL}


@pytest.fixture
def open_lesson(browser: Browser, files: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    complaints: list[str] = []
    contexts = []

    def open_(lang: str, fragment: str = "", **settings: object) -> Page:
        context = browser.new_context(offline=True, **settings)  # pyright: ignore[reportArgumentType]
        contexts.append(context)
        page = context.new_page()
        watch(page, complaints)
        page.goto(f"{files[lang].as_uri()}#lang={lang}&{fragment}")
        page.wait_for_selector("[data-edit=prompt][contenteditable]")
        return page

    yield open_
    close(contexts, complaints)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Walk there as somebody without a mouse does."""
    for _ in range(200):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press(key)
    raise AssertionError(f"the keyboard does not lead to {selector}")


def go_there(page: Page) -> None:
    tab_to(page, "[data-act=lesson-there]")
    press(page, "Enter")
    assert page.evaluate("document.activeElement.closest('.lit') !== null")


def nothing(page: Page) -> None:
    expect(page.locator("[data-act=lesson-there]")).to_have_count(0)


def more(page: Page) -> None:
    go_there(page)
    tab_to(page, "[data-toggle=top]")
    press(page, "Enter")


def move(page: Page) -> None:
    tab_to(page, "manako-ribbon [role=listbox]")
    press(page, "ArrowRight")


def act(page: Page) -> None:
    go_there(page)
    tab_to(page, "[data-act=luck], [data-act=settings]")
    press(page, "Enter")


def warmer(key: str) -> Callable[[Page], None]:
    def change(page: Page) -> None:
        go_there(page)
        tab_to(page, "manako-what-if input[type=range]")
        for _ in range(60):
            if page.locator(DONE).count() == 0:
                press(page, key)

    return change


def guess(page: Page) -> None:
    go_there(page)
    press(page, "Space", "Enter")


def look(page: Page) -> None:
    go_there(page)
    hint = re.findall(r"\d+", page.inner_text("manako-lesson [role=status] p"))[-1]
    tab_to(page, "manako-attention select")
    press(page, hint, "Tab")  # the layer of that number
    for _ in range(4):
        if page.locator(DONE).count() == 0:
            press(page, "ArrowDown")


def own(page: Page) -> None:
    go_there(page)
    press(page, "Control+a")
    page.keyboard.insert_text(OWN[page.evaluate("document.documentElement.lang")])
    press(page, "Enter")


TASKS = {
    None: nothing, "more": more, "move": move, "reseed": act, "reheat": act, "colder": warmer("ArrowLeft"),
    "hotter": warmer("ArrowRight"), "guess": guess, "look": look, "own": own,
}  # fmt: skip


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_all_lessons_are_walked_to_their_end_by_keyboard(lang: str, open_lesson: Callable[..., Page]) -> None:
    page, words = open_lesson(lang), messages.catalog(lang)
    texts = DATA["models"][MODEL[lang]]["texts"]
    tab_to(page, "manako-lesson summary")
    press(page, "Enter")
    tab_to(page, "manako-lesson li button")
    press(page, "Enter")
    for lesson in DATA["lessons"]:
        for number, step in enumerate(lesson["steps"], start=1):
            where = f"{lesson['id']}.{number}"
            page.wait_for_selector(f"manako-lesson h2:has-text('{words['lesson.' + lesson['id']]}')")
            about = f"_{lang}" if lesson.get("by_language") else ""
            opening = words[f"lesson.{lesson['id']}{about}_{number}"].split("{")[0]
            page.locator(f"{READY} [role=status] p", has_text=opening).first.wait_for()
            page.wait_for_url(f"**lesson={where}*")
            expect(page.locator(".lit"), where).to_have_count(1)
            if "text" in step:
                prompt = page.evaluate("document.querySelector('manako-lesson').view.path.chain[0].trace.header.prompt")
                assert prompt == texts[step["text"]]["prompt"], where
            tab_to(page, "[data-act=lesson-next]")
            TASKS[step.get("task")](page)
            if "task" in step:
                page.wait_for_selector(DONE)
                page.wait_for_selector(IDLE)
                press(page, "Escape")
                name = (
                    words["lesson.next"] if number < len(lesson["steps"]) else words["lesson.next_lesson"].split("{")[0]
                )
                assert page.inner_text(":focus").startswith((name, words["lesson.end"])), where
            press(page, "Enter")
    page.wait_for_selector("manako-lesson:not([data-open])")
    expect(page.locator(".lit")).to_have_count(0)
    page.wait_for_url(lambda url: "lesson=" not in url)


def test_a_lesson_can_be_skipped_left_and_taken_up_again(open_lesson: Callable[..., Page]) -> None:
    page = open_lesson("en", "lesson=number.2")
    assert page.inner_text("manako-lesson h2") == "2. " + messages.catalog("en")["lesson.number"]
    for number in (3, 4):
        page.click("[data-act=lesson-next]")  # nothing was done
        page.wait_for_url(f"**lesson=number.{number}*")
    page.click("[data-act=lesson-previous]")
    page.wait_for_url("**lesson=number.3*")
    page.reload()
    page.wait_for_selector("manako-lesson [role=status] p:has-text('change nothing but that number')")
    page.get_by_role("button", name="日本語").click()
    page.wait_for_selector("manako-lesson [role=status] p:has-text('この数だけを変えて')")
    page.click("[data-act=lesson-close]")
    assert page.locator("manako-lesson summary").evaluate("e => e === document.activeElement")
    for made_up in ("number.9", "number.0", "nothing", "number.1.2x"):
        page.goto(page.url.split("#")[0] + f"#lesson={made_up}")
        if made_up != "number.1.2x":
            expect(page.locator("manako-lesson[data-open]")).to_have_count(0)


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_axe_has_nothing_to_say_of_a_lesson(lang: str, open_lesson: Callable[..., Page]) -> None:
    for where, scheme in (("layers.2", "light"), ("pieces.1", "dark")):
        page = open_lesson(lang, f"lesson={where}")
        page.wait_for_selector("manako-lesson dl")
        for _ in looks(page, [scheme]):
            assert violations(page) == []


def test_without_a_model_lessons_about_the_text_are_there_and_the_others_say_why(
    open_page: Callable[..., Page],
) -> None:
    page, words = open_page(shipped("en"), "en"), messages.catalog("en")
    page.click("manako-lesson summary")
    named = {id_: page.locator(f"[data-lesson={id_}]").is_enabled() for id_ in (each["id"] for each in DATA["lessons"])}
    assert [id_ for id_, enabled in named.items() if enabled] == ["every", "number", "temperature", "pieces"]
    assert words["lesson.lacks_text"] in page.inner_text("manako-lesson details")
    page.click("[data-lesson=number]")
    for _ in range(2):
        page.click("[data-act=lesson-next]")
    assert words["lesson.lacks_model"] in page.inner_text("manako-lesson")
    page.goto(page.url.split("#")[0] + "#lesson=looked.1")
    page.locator("manako-lesson [role=status]", has_text=words["lesson.lacks_text"]).wait_for()


def test_a_record_of_another_model_has_no_lessons_that_are_about_the_embedded_ones(
    open_page: Callable[..., Page],
) -> None:
    page = open_page(golden_inside(), "ja")
    page.click("manako-lesson summary")
    expect(page.locator("[data-lesson]:enabled")).to_have_count(0)
