"""The lessons: whole as data, and true of the model that ships, so that another one that breaks a lesson is noticed."""

import json
import re
import string
from functools import cache
from typing import Any

import pytest

import manako
from manako import messages
from manako.refs import example
from manako.trace.record import Step, Trace
from manako.views.html import WEB

DATA = json.loads((WEB / "lessons/lessons.json").read_text(encoding="utf-8"))
STEPS = [
    (lesson["id"], number, step) for lesson in DATA["lessons"] for number, step in enumerate(lesson["steps"], start=1)
]
COLD, USUAL, HOT = 0.3, DATA["temperature"], 1.2


@cache
def demo() -> manako.Model:
    return manako.load(DATA["model"])


@cache
def text(name: str, temperature: float = USUAL) -> Trace:
    """A text of the lessons, as the page writes it."""
    told = DATA["texts"][name]
    settings: dict[str, Any] = {"capture": ["attention", "lens"], "temperature": temperature}
    return demo().trace(told["prompt"], seed=told["seed"], max_new_tokens=told["count"], **settings)


def first(name: str) -> Step:
    return text(name).steps[0]


def names_of(module: str, table: str) -> set[str]:
    """The names in a table of a module of the page."""
    code = (
        (WEB / "lessons" / module).read_text(encoding="utf-8").split(f"export const {table} = {{")[1].split("\n};")[0]
    )
    return set(re.findall(r"^    (\w+):", code, re.MULTILINE))


def test_every_step_names_what_there_is() -> None:
    assert len(DATA["lessons"]) >= 7
    for _, _, step in STEPS:
        assert step["part"] in DATA["parts"] and step.get("text", "example") in DATA["texts"]
        assert {step["task"]} <= names_of("tasks.js", "TASKS") if "task" in step else True
        assert {step["picture"]} <= names_of("facts.js", "PICTURES") if "picture" in step else True
    assert {step["text"] for _, _, step in STEPS if "text" in step} == {*DATA["texts"]}
    assert all(
        lesson["steps"][-1]["task"] == "own" for lesson in DATA["lessons"]
    )  # each ends with the reader's own text


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_every_step_has_its_sentences_and_none_is_left_over(lang: str) -> None:
    words = messages.catalog(lang)
    wanted = {f"lesson.{name}_{number}" for name, number, _ in STEPS}
    wanted |= {f"lesson.{name}_{number}_done" for name, number, step in STEPS if "task" in step}
    assert {key for key in words if re.fullmatch(r"lesson\.[a-z]+_\d+\w*", key)} == wanted
    assert {f"lesson.{lesson['id']}" for lesson in DATA["lessons"]} <= words.keys()


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_sentences_name_only_numbers_that_are_read_from_the_page(lang: str) -> None:
    code = (
        (WEB / "lessons/facts.js").read_text(encoding="utf-8").split("export function lessonFacts")[1].split("\n}\n")[0]
    )
    facts = set(re.findall(r"^        (?:get )?(\w+)(?:\(\) \{|:)", code, re.MULTILINE))
    words = {key: said for key, said in messages.catalog(lang).items() if re.match(r"lesson\.[a-z]+_\d", key)}
    used = {name for said in words.values() for _, name, _, _ in string.Formatter().parse(said) if name}
    assert used == facts  # and no number is worked out for nobody


def test_the_example_that_ships_is_the_text_of_the_first_lessons() -> None:
    shipped = manako.open(example(DATA["model"]))
    assert isinstance(shipped, Trace)
    assert shipped.header.sampling == text("example").header.sampling
    assert shipped.text == text("example").text and shipped.header.seed == DATA["texts"]["example"]["seed"]


def test_lesson_every_probability_is_more_than_zero_and_far_from_even() -> None:
    step = first("example")
    assert min(c.p for c in step.candidates) > 0
    assert step.candidates[0].p_model > 100 / len(step.candidates)
    entropies = [step.entropy for step in text("example").steps]
    assert min(entropies) < 0.1 and max(entropies) > 5  # almost certain, and wide open


def test_lesson_number_begins_with_a_token_that_is_not_the_likeliest() -> None:
    assert first("example").chosen.rank > 1


def test_lesson_temperature_one_random_number_selects_three_tokens() -> None:
    traces = [text("example", temperature) for temperature in (COLD, USUAL, HOT)]
    assert len({trace.steps[0].u for trace in traces}) == 1
    cold, usual, hot = (trace.steps[0] for trace in traces)
    assert len({step.chosen.id for step in (cold, usual, hot)}) == 3
    assert cold.chosen.rank == 1 < usual.chosen.rank < hot.chosen.rank
    assert cold.candidates[0].p > 0.8 > usual.candidates[0].p > 2 * hot.candidates[0].p
    assert len({trace.text for trace in traces}) == 3


def test_lesson_grammar_the_particle_follows_from_the_text_before() -> None:
    assert (first("face").candidates[0].text, first("self").candidates[0].text) == ("を", "は")
    assert first("face").chosen.text == "を"
    assert first("face").candidates[0].p_model > 0.5 and first("self").candidates[0].p_model > 0.4


def watched(step: Step) -> Any:
    return next(c for c in step.candidates if c.text == DATA["watched"])


def test_lesson_looked_a_head_of_the_last_layer_copies_the_name() -> None:
    step, attention = first("story"), first("story").attention()
    place = next(key for key, found in enumerate(attention.keys) if found.text == DATA["watched"])
    assert attention.keys[place - 1].text == attention.keys[-1].text  # what came before it is what stands at the end
    shares = attention.per_head[..., place]
    assert shares[-1].max() == shares.max() > 0.5 > 5 / len(attention.keys)
    assert watched(step).rank == step.chosen.rank == 1 and watched(step).p_model > 0.5
    assert watched(first("alone")).p_model < 0.01 and watched(first("alone")).rank > 10


def test_lesson_layers_one_token_grows_and_one_appears_at_the_end() -> None:
    grown = [reading.p for reading in first("face").lens().tracked[0]]
    assert grown == sorted(grown) and grown[0] < 0.001 and grown[-2] > 0.1
    sudden = [reading.p for reading in first("story").lens().tracked[0]]
    assert max(sudden[:-1]) < 0.05 and sudden[-1] > 0.5


def test_lesson_pieces_cut_the_same_text_and_a_cat_is_four_bytes() -> None:
    tokens = DATA["pieces"]["tokens"]
    assert "".join(tokens) == text("example").text and len(tokens) < len("".join(tokens))
    assert "解" in tokens and "解決" in "".join(tokens)  # the word that is cut apart
    cat = text("cat")
    assert len(cat.columns.prompt_ids) == len(cat.header.prompt) - 1 + len("🐱".encode())
