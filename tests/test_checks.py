"""The one validator: what fits a rule and what does not, and which field the error names."""

import array
import enum
import fractions
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manako.checks import Misfit, check, check_properties, fits, plain


@pytest.mark.parametrize(("rule", "good", "bad"), [
    ({"type": "integer"}, [0, -1, 2**64 - 1], [True, 1.0, "1", None, [1], 2**64]),
    ({"type": "number"}, [0, 1.5, 1e308], [False, "1", None, 10**400]),
    ({"type": "boolean"}, [True, False], [0, 1, None]),
    ({"type": "string"}, ["", "眼"], [b"", 1, None]),
    ({"type": ["integer", "null"], "minimum": 0}, [None, 0, 7], [-1, True, 0.0]),
    ({"type": "integer", "minimum": 1, "maximum": 3}, [1, 3], [0, 4]),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5, 5e-324], [0, 0.0, 1, 1.0, float("nan")]),
    ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c", "A"]),
    ({"type": "string", "pattern": "[a-z]+"}, ["abc"], ["", "ab1", "abc\n"]),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 2}, [[], ["a", "a"]], [["a", 1], ["a", "b", "c"]]),
    ({"type": "array", "uniqueItems": True, "minItems": 1}, [[1, 2]], [[], [1, 1]]),
    ({"type": "object"}, [{}, {"any": [1]}], [[], None]),
    ({"type": "object", "additionalProperties": {"type": "string"}}, [{}, {"a": "b"}], [{"a": 1}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, [{"a": 1}], [{}, {"a": "1"}, {"a": 1, "b": 2}]),
])  # fmt: skip
def test_what_fits_and_what_does_not(rule: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(value, rule)] == []
    assert [value for value in bad if fits(value, rule)] == []
    assert all(check(value, rule, "it") is value for value in good)


def test_the_error_names_the_field_and_the_reason() -> None:
    rule = {"type": "object", "properties": {"threads": {"type": "integer", "minimum": 0}}}
    for values, name, reason in (
        ({"threads": -1}, "model.threads", "minimum is 0"),
        ({"threads": True}, "model.threads", "not of type integer"),
        ({}, "model.threads", "missing or unknown"),
    ):
        with pytest.raises(Misfit) as caught:
            check(values, rule, "model")
        assert (caught.value.name, caught.value.reason) == (name, reason)
        assert str(caught.value) == f"{name}: {reason}"
    with pytest.raises(Misfit, match="^a, b: missing or unknown"):
        check_properties({"b": 1}, {"a": {"type": "integer"}}, "")


class Number(enum.IntEnum):
    ONE = 1


class Text(enum.StrEnum):
    BPE = "bpe"


@pytest.mark.parametrize(("given", "expected"), [
    (np.int64(6), 6),
    (np.uint8(255), 255),
    (np.float64(1e-3), 1e-3),
    (np.float32(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("bpe"), "bpe"),
    (np.array(3), 3),
    (np.array([1, 2]), [1, 2]),
    (array.array("i", [1]), [1]),
    (fractions.Fraction(1, 4), 0.25),
    (Number.ONE, 1),
    (Text.BPE, "bpe"),
    (Path("a") / "b", str(Path("a/b"))),
    ((np.str_("漱石"), np.int8(1), (True, None)), ["漱石", 1, [True, None]]),
    (True, True),
    (None, None),
    ("5", "5"),
    (2.0, 2.0),
])  # fmt: skip
def test_a_value_of_a_program_becomes_one_of_json(given: object, expected: object) -> None:
    found = plain(given)
    assert found == expected and type(found) is type(expected)
    if isinstance(found, list):
        assert [type(each) for each in found] == [type(each) for each in expected]  # type: ignore[attr-defined]


def test_what_json_has_no_form_for_stays_to_be_refused() -> None:
    for value in (10**400 * fractions.Fraction(1, 3), {"a": 1}, {1}, b"x", 1j):
        assert plain(value) is value and not fits(value, {"type": ["number", "string", "array", "boolean", "null"]})
