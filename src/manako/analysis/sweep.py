"""What the runs of a sweep came to, and how vocabularies compare at the same number of steps and the same compute.

Special here: a run is judged by its best evaluation, the checkpoint that its folder names `best`. What a run had
reached before its end was measured at a learning rate that had not come down yet, so each such figure says that it is
one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from manako.checks import Misfit, Rule, check
from manako.errors import LoadError
from manako.files import read_regular, strict_json

RESULTS = "results.jsonl"
SAME_FLOPS = 1.01  # a budget of FLOPs ends with a whole step
_COUNT: Rule = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_SOME: Rule = _COUNT | {"minimum": 1}
_AMOUNT: Rule = {"type": ["number", "integer"], "minimum": 0, "maximum": 1e60}  # some way from what a float holds
_POSITIVE: Rule = _AMOUNT | {"exclusiveMinimum": 0}
_NAME: Rule = {"type": "string"}
_VARIED: Rule = {"type": "object", "additionalProperties": {"type": ["string", "integer", "number", "boolean"]}}
_POINT: Rule = {"type": "array", "minItems": 2, "maxItems": 2, "items": _AMOUNT}


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    run: str
    """The name of its folder."""
    varied: Mapping[str, Any]
    """Name -> value of what the sweep varies."""
    parameters: int
    """All numbers that were trained; the output matrix is the token embedding and counts once."""
    embeddings: int
    """Those of them in the embeddings of tokens and positions."""
    block_size: int
    corpus_characters: int
    """Of the training text that it had."""
    steps: int
    characters: float
    """That it was trained on, those read again counted again."""
    flops: float
    """Of the training: forward and backward, without evaluations."""
    seconds: float
    bits_per_character: float
    """Of the held-out text, at its best evaluation."""
    best_step: int
    last_bits_per_character: float
    """At the last evaluation: more than the best where it began to learn its text by heart."""
    characters_per_token: float
    """Of the held-out text."""
    curve: Sequence[Sequence[float]]
    """(step, bits a character) of each evaluation."""

    @property
    def epochs(self) -> float:
        """How often it read its text."""
        return self.characters / self.corpus_characters

    @property
    def different_characters(self) -> float:
        """Of the training text that it read, those read again counted once."""
        return min(self.characters, self.corpus_characters)

    @property
    def context(self) -> float:
        """Characters of the held-out text that its context holds."""
        return self.block_size * self.characters_per_token


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error."""

    run: str
    varied: Mapping[str, Any]
    error: str
    """What it said, in English."""


_RULES: dict[type, Mapping[str, Rule]] = {
    Outcome: {
        **dict.fromkeys((f.name for f in fields(Outcome)), _AMOUNT),
        **dict.fromkeys(("embeddings", "best_step"), _COUNT),
        **dict.fromkeys(("parameters", "block_size", "corpus_characters", "steps"), _SOME),
        **dict.fromkeys(("characters", "flops", "characters_per_token"), _POSITIVE),
        "run": _NAME,
        "varied": _VARIED,
        "curve": {"type": "array", "minItems": 1, "items": _POINT},
    },
    Failure: {"run": _NAME, "varied": _VARIED, "error": _NAME},
}


def read_results(sweep: Path) -> list[Outcome | Failure]:
    """The runs of a sweep that have ended. Raises LoadError for a folder without any, and for a line that is none."""
    path = sweep / RESULTS
    found: list[Outcome | Failure] = []
    for number, line in enumerate(read_regular(path, limit=1 << 28).splitlines(), 1):
        raw = strict_json(line, f"{path}:{number}")
        kind = Failure if "error" in raw else Outcome
        try:
            found.append(kind(**check(raw, {"type": "object", "properties": _RULES[kind]}, "")))
        except Misfit as error:
            raise LoadError("json_invalid", file=f"{path}:{number}", reason=error) from None
    return found


def results_lines(results: Sequence[Outcome | Failure]) -> bytes:
    """The same as the file."""
    return "".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in results).encode("utf-8")


@dataclass(frozen=True)
class Reached:
    """The best that a run had come to within a budget."""

    bits_per_character: float | None
    """None where it was not evaluated within it."""
    step: int
    """Of the last evaluation within it."""
    early: bool
    """Whether that is before its end, where its learning rate had not come down yet."""


def within(outcome: Outcome, steps: float) -> Reached:
    """What a run had come to at its last evaluation within so many steps."""
    passed = [(int(step), bits) for step, bits in outcome.curve if step <= steps]
    if not passed:
        return Reached(None, 0, True)
    return Reached(min(bits for _, bits in passed), passed[-1][0], passed[-1][0] < outcome.steps)


@dataclass(frozen=True)
class Compared:
    """Runs at the same number of steps, and at the same compute: the least that one of them had."""

    outcomes: Sequence[Outcome]
    steps: int
    flops: float
    at_steps: Sequence[Reached]
    at_flops: Sequence[Reached]


def compare_runs(outcomes: Sequence[Outcome]) -> Compared:
    """Some finished runs, at least one."""
    steps, flops = min(o.steps for o in outcomes), min(o.flops for o in outcomes)
    return Compared(
        tuple(outcomes),
        steps,
        flops,
        tuple(within(o, steps) for o in outcomes),
        tuple(within(o, o.steps * min(1.0, SAME_FLOPS * flops / o.flops)) for o in outcomes),
    )
