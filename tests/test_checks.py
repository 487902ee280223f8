"""The one validator: what fits a rule and what does not, and which field the error names."""

from typing import Any

import pytest

from manako.checks import Misfit, check, check_properties, fits


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
