#!/usr/bin/env python3
"""Find the texts of the lessons: prompts and seeds of which everything is so that the lessons say.

    python scripts/lesson_texts.py

Run it whenever an embedded model changes, and scripts/make_example.py after it. Texts of which all still holds stay as
they are; others are looked for among the options below, in their order, and written into lessons.json. A claim without
any is named, and nothing is written. tests/views/web/test_lessons.py asks the same claims.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

import manako
from manako.refs import installed
from manako.sampling import uniform
from manako.trace.record import Step, Trace
from manako.views.html import WEB

FILE = WEB / "lessons/lessons.json"
COLD, USUAL, HOT = 0.3, 0.8, 1.2
SEEDS = 5000
APART = {"ja": 2, "en": 1.5}  # how much likelier the first token is at the usual temperature than at the high one
PROMPTS = {"ja": ("私は", "彼は", "吾輩は"), "en": ("The old man ",)}
OPEN_BITS = {"ja": 5, "en": 2}  # thousands of characters to choose from, or some dozens
LENGTHS = {"ja": (10, 20), "en": (20, 45)}  # of the first text, in tokens
SENTENCE_ENDS = "。！？.!?"
FOLLOWS = {"ja": ("を", "は"), "en": ("r", "m")}  # the particle; the rest of "are" and "am"
PAIRS = {
    "ja": (("私は私の顔", "私は私の顔を見た。私"), ("彼は私の手", "彼は私の手を取った。彼")),
    "en": (("I know that you a", "I know that I a"), ("You know that you a", "You know that I a")),
}
NAMES = {
    "ja": ("マナコ", "ミルカ", "ソラミ", "ハルナ", "ヨシボ", "カナエ", "テルモ", "ロミナ"),
    "en": ("Jubilok", "Manavok", "Wimbola", "Bipovef", "Gehujik", "Talovix"),
}
STORIES = {"ja": ("{name}は笑った。王は泣いた。{begun}", 1), "en": ("{name} smiled. The king wept. {begun}", 2)}
GROWN = {
    "ja": ("私は私の顔", "彼は彼女の手", "私は自分の顔", "私はその時", "吾輩は猫であ"),
    "en": ("He would h", "He w", "She w", "They h"),
}

Data = dict[str, Any]  # of one model, as in lessons.json


@cache
def _written(name: str, prompt: str, seed: int, count: int, temperature: float, inside: bool) -> Trace:
    """A text as the page writes it."""
    model = _model(name)
    capture = ["attention", "lens"] if inside else []
    return model.trace(prompt, seed=seed, max_new_tokens=count, temperature=temperature, capture=capture)


_model = cache(manako.load)


class Told:
    """The lessons' texts of one model. data: its part of lessons.json."""

    def __init__(self, name: str, data: Data) -> None:
        self.name, self.data, self.lang = name, data, data["language"]

    def whole(self, text: str, temperature: float = USUAL) -> Trace:
        told = self.data["texts"][text]
        return _written(self.name, told["prompt"], told["seed"], told["count"], temperature, False)

    def first(self, text: str, temperature: float = USUAL, inside: bool = False) -> Step:
        told = self.data["texts"][text]
        return _written(self.name, told["prompt"], told["seed"], 1, temperature, inside).steps[0]


Claims = Iterator[tuple[str, bool]]


def example(told: Told) -> Claims:
    """Lessons 1 to 3. What costs least comes first: thousands of seeds are asked."""
    usual = told.first("example")
    yield "the first token is among those that are shown, and not the likeliest", 1 < usual.chosen.rank <= 10
    hot = told.first("example", HOT)
    yield "a high temperature selects one of a higher rank", hot.chosen.rank > usual.chosen.rank
    cold = told.first("example", COLD)
    yield "a low temperature selects the likeliest", cold.chosen.rank == 1
    yield "all three have the same random number", len({step.u for step in (cold, usual, hot)}) == 1
    yield "the likeliest rises and falls", _rises_and_falls(told)
    yield "no probability is 0", min(c.p for c in usual.candidates) > 0
    yield "the likeliest is far from even", usual.candidates[0].p_model > 100 / len(usual.candidates)
    whole = told.whole("example")
    yield "the text ends where a sentence ends", whole.text[-1] in SENTENCE_ENDS
    entropies = [step.entropy for step in whole.steps]
    yield "one step is almost certain, one wide open", min(entropies) < 0.1 and max(entropies) > OPEN_BITS[told.lang]
    texts = {told.whole("example", temperature).text for temperature in (COLD, USUAL, HOT)}
    yield "three temperatures make three texts", len(texts) == 3


def _rises_and_falls(told: Told) -> bool:
    """Whether temperature moves the likeliest token of the example far, which no seed changes."""
    cold, usual, hot = (told.first("example", t).candidates[0].p for t in (COLD, USUAL, HOT))
    return cold > 0.8 > usual > APART[told.lang] * hot


def grammar(told: Told) -> Claims:
    """Lesson 4: what follows depends on the text before, and is guessed right."""
    face, self_ = told.first("face"), told.first("self")
    found = face.candidates[0], self_.candidates[0]
    yield "the grammatical tokens are the likeliest", tuple(c.text for c in found) == FOLLOWS[told.lang]
    yield "the one that is to be guessed is chosen", face.chosen.id == found[0].id
    yield "both are clearly likeliest", found[0].p_model > 0.5 and found[1].p_model > 0.4


def looked(told: Told) -> Claims:
    """Lesson 5, and step 3 of lesson 6: a head finds the name, and what it finds decides at its layer."""
    watched, name = told.data["watched"], told.data["name"]
    begun = told.data["texts"]["alone"]["prompt"]
    yield "the watched token follows what has begun", name.startswith(begun + watched)
    prompt = told.data["texts"]["story"]["prompt"]
    yield "it stands first in the name", prompt.startswith(name) and prompt.index(watched) == len(begun)
    step, alone = told.first("story", inside=True), told.first("alone")
    in_story, by_itself = (next(c for c in each.candidates if c.text == watched) for each in (step, alone))
    yield "it is likeliest after the story", in_story.rank == step.chosen.rank == 1 and in_story.p_model > 0.5
    yield "it is unlikely without it", by_itself.p_model < 0.01 and by_itself.rank > 10
    attention = step.attention()
    keys = [key.text for key in attention.keys]
    place = keys.index(watched)
    yield "what stands before it stands at the end", keys[place - 1] == keys[-1]
    shares = attention.per_head[..., place]
    layer = int(shares.max(axis=1).argmax())
    yield "a head takes half of its attention from it", shares.max() > 0.5 > 5 / len(keys)
    readings = [reading.p for reading in step.lens().tracked[0]]  # of the embedding first, then of each layer
    rise = readings[layer + 1] - readings[layer]
    rises = [after - before for before, after in zip(readings[:-1], readings[1:], strict=True)]
    yield (
        "it rises most at the layer of that head",
        rise == max(rises) and rise > 0.3 and max(readings[: layer + 1]) < 0.05,
    )


def grown(told: Told) -> Claims:
    """Lesson 6: one token grows from layer to layer."""
    readings = [reading.p for reading in told.first("grown", inside=True).lens().tracked[0]]
    yield "it grows from layer to layer", readings == sorted(readings)
    yield "from next to nothing, and not at once", readings[0] < 0.001 and readings[-2] > 0.1


def pieces(told: Told) -> Claims:
    """Lesson 7: a sentence that is cut two ways, a character that the vocabulary lacks."""
    cuts, cat = told.data["cuts"], told.whole("cat")
    whole = "".join(cuts["tokens"])
    yield "pieces are fewer than characters", len(cuts["tokens"]) < len(whole)
    yield "a word is cut apart", cuts["word"] in whole and not any(cuts["word"] in token for token in cuts["tokens"])
    yield "a cat is four bytes", len(cat.columns.prompt_ids) == len(cat.header.prompt) - 1 + len("🐱".encode())


def _examples(told: Told) -> Iterator[Data]:
    """Those of the prompts whose likeliest token moves far enough; of the others no seed would do."""
    for prompt in PROMPTS[told.lang]:
        begun = Told(told.name, _with(told, {"example": {"prompt": prompt}}))
        if _rises_and_falls(begun):
            yield from _seeds(begun)


def _seeds(told: Told) -> Iterator[Data]:
    """Those whose first random number selects three tokens, each up to where its first sentence ends."""
    lines = [np.cumsum([c.p for c in told.first("example", each).candidates]) for each in (COLD, USUAL, HOT)]
    for seed in range(SEEDS):
        cold, usual, hot = (int(np.searchsorted(line, uniform(seed, 0), side="right")) for line in lines)
        if 0 == cold < usual < hot:
            shortest, longest = LENGTHS[told.lang]
            tried = Told(told.name, _with(told, {"example": {"seed": seed, "count": longest}}))
            tokens = [step.chosen.text for step in tried.whole("example").steps]
            ends = [n for n, token in enumerate(tokens, start=1) if token in SENTENCE_ENDS and n >= shortest]
            if ends:
                yield _with(tried, {"example": {"count": ends[0]}})


def _pairs(told: Told) -> Iterator[Data]:
    for seed in range(20):
        for face, self_ in PAIRS[told.lang]:
            yield _with(told, {"face": {"prompt": face, "seed": seed}, "self": {"prompt": self_}})


def _names(told: Told) -> Iterator[Data]:
    story, ending = STORIES[told.lang]
    for name in NAMES[told.lang]:
        begun = name[:-ending]
        texts = {"story": {"prompt": story.format(name=name, begun=begun)}, "alone": {"prompt": begun}}
        yield {**_with(told, texts), "name": name, "watched": name[len(begun)]}


def _grown(told: Told) -> Iterator[Data]:
    return (_with(told, {"grown": {"prompt": prompt}}) for prompt in GROWN[told.lang])


def _none(_told: Told) -> Iterator[Data]:
    return iter(())


def _with(told: Told, texts: dict[str, Data]) -> Data:
    now = told.data["texts"]
    return {**told.data, "texts": {**now, **{name: now[name] | new for name, new in texts.items()}}}


CLAIMS = {example: _examples, grammar: _pairs, looked: _names, grown: _grown, pieces: _none}
"""Of one or some lessons -> the texts to try where one of them is not so."""


def fault(told: Told, claims: Callable[[Told], Claims]) -> str | None:
    """The first claim that is not so."""
    return next((claim for claim, holds in claims(told) if not holds), None)


def layout(value: Any, line: str = "\n") -> str:
    """JSON in which whatever holds no further list or object is on one line. line: how a line of it begins."""
    if not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    named = (
        [(f"{json.dumps(key)}: ", value[key]) for key in value]
        if isinstance(value, dict)
        else [("", each) for each in value]
    )
    start, end = "{}" if isinstance(value, dict) else "[]"
    if not any(isinstance(each, dict | list) for _, each in named):
        inside = ", ".join(name + layout(each) for name, each in named)
        return f"{start} {inside} {end}" if start == "{" else f"{start}{inside}{end}"
    deeper = f"{line}    "
    return start + ",".join(deeper + name + layout(each, deeper) for name, each in named) + line + end


def main() -> int:
    table = json.loads(FILE.read_text(encoding="utf-8"))
    missing = 0
    for name in installed():
        data = table["models"][name]
        for claims, options in CLAIMS.items():
            told = Told(name, data)
            if (wrong := fault(told, claims)) is None:
                continue
            found = next((each for each in options(told) if fault(Told(name, each), claims) is None), None)
            missing += found is None
            print(
                f"{name}, {claims.__name__}: not so that {wrong}; {'another text found' if found else 'NO OTHER TEXT'}"
            )
            data = found or data
        table["models"][name] = data
    if not missing:
        FILE.write_text(layout(table) + "\n", encoding="utf-8")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
