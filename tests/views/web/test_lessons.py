"""The lessons: whole as data, and true of the models that ship, so that another one that breaks a lesson is noticed."""

import json
import re
import runpy
import string
from pathlib import Path
from typing import Any

import pytest

import manako
from manako import messages
from manako.refs import EMBEDDED, example
from manako.trace.record import Trace
from manako.views.html import WEB

TEXTS = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "lesson_texts.py"))
CLAIMS, Told, fault = TEXTS["CLAIMS"], TEXTS["Told"], TEXTS["fault"]
DATA = json.loads((WEB / "lessons/lessons.json").read_text(encoding="utf-8"))
STEPS = [
    (lesson["id"], number, step) for lesson in DATA["lessons"] for number, step in enumerate(lesson["steps"], start=1)
]


def names_of(module: str, table: str) -> set[str]:
    """The names in a table of a module of the page."""
    code = (
        (WEB / "lessons" / module).read_text(encoding="utf-8").split(f"export const {table} = {{")[1].split("\n};")[0]
    )
    return set(re.findall(r"^    (\w+):", code, re.MULTILINE))


def test_every_step_names_what_there_is() -> None:
    assert len(DATA["lessons"]) >= 7
    for _, _, step in STEPS:
        assert step["part"] in DATA["parts"] and step.get("text", "example") in DATA["models"]["demo"]["texts"]
        assert {step["task"]} <= names_of("tasks.js", "TASKS") if "task" in step else True
        assert {step["picture"]} <= names_of("facts.js", "PICTURES") if "picture" in step else True
    shown = {step["text"] for _, _, step in STEPS if "text" in step}
    assert DATA["models"].keys() == EMBEDDED.keys()
    assert all(shown == {*told["texts"]} for told in DATA["models"].values())
    assert all(
        lesson["steps"][-1]["task"] == "own" for lesson in DATA["lessons"]
    )  # each ends with the reader's own text


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_every_step_has_its_sentences_and_none_is_left_over(lang: str) -> None:
    words = messages.catalog(lang)
    differing = {lesson["id"] for lesson in DATA["lessons"] if lesson.get("by_language")}
    languages = [f"_{told['language']}" for told in DATA["models"].values()]
    wanted = {
        f"lesson.{name}{about}_{number}{end}"
        for name, number, step in STEPS
        for about in (languages if name in differing else [""])
        for end in (["", "_done"] if "task" in step else [""])
    }
    assert {key for key in words if re.fullmatch(r"lesson\.[a-z_]+_\d+\w*", key)} == wanted
    assert {f"lesson.{lesson['id']}" for lesson in DATA["lessons"]} <= words.keys()


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_sentences_name_only_numbers_that_are_read_from_the_page(lang: str) -> None:
    code = (
        (WEB / "lessons/facts.js").read_text(encoding="utf-8").split("export function lessonFacts")[1].split("\n}\n")[0]
    )
    facts = set(re.findall(r"^        (?:get )?(\w+)(?:\(\) \{|:)", code, re.MULTILINE))
    words = {key: said for key, said in messages.catalog(lang).items() if re.match(r"lesson\.[a-z_]+_\d", key)}
    used = {name for said in words.values() for _, name, _, _ in string.Formatter().parse(said) if name}
    assert used == facts  # and no number is worked out for nobody


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_example_that_ships_is_the_text_of_the_first_lessons(name: str) -> None:
    shipped, text = manako.open(example(name)), Told(name, DATA["models"][name]).whole("example")
    assert isinstance(shipped, Trace)
    assert shipped.header.sampling == text.header.sampling and shipped.header.seed == text.header.seed
    assert (shipped.header.prompt, shipped.text) == (text.header.prompt, text.text)
    assert text.header.sampling.temperature == DATA["temperature"]


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda claims: claims.__name__)
@pytest.mark.parametrize("name", EMBEDDED)
def test_what_the_lessons_say_is_so(name: str, claims: Any) -> None:
    """If a new model breaks one, `python scripts/lesson_texts.py` finds another text."""
    assert fault(Told(name, DATA["models"][name]), claims) is None


@pytest.mark.parametrize(
    ("text", "prompt", "broken"),
    [
        ("example", "He was sai", "example"),
        ("face", "I a", "grammar"),
        ("story", "Jubilok smiled.", "looked"),
        ("grown", "He", "grown"),
        ("cat", "I", "pieces"),
    ],
)
def test_another_text_breaks_what_a_lesson_says_and_one_that_does_not_is_found(
    text: str, prompt: str, broken: str
) -> None:
    told = DATA["models"]["demo-en"]
    other = Told("demo-en", {**told, "texts": {**told["texts"], text: {"prompt": prompt, "seed": 0, "count": 4}}})
    assert [claims.__name__ for claims in CLAIMS if fault(other, claims)] == [broken]
    if broken not in ("example", "pieces"):  # the one takes long, the other has nothing to choose from
        claims, options = next((claims, CLAIMS[claims]) for claims in CLAIMS if claims.__name__ == broken)
        found = next(each for each in options(other) if fault(Told("demo-en", each), claims) is None)
        assert found["texts"][text]["prompt"] == told["texts"][text]["prompt"]


def test_the_script_that_finds_texts_keeps_the_layout_of_the_file() -> None:
    assert TEXTS["layout"](DATA) + "\n" == (WEB / "lessons/lessons.json").read_text(encoding="utf-8")
