"""Whether a value out of JSON that anyone may have written is what it should be, in the words of JSON Schema.

Special here: type, enum, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minItems, maxItems, uniqueItems, items,
pattern, properties and additionalProperties, which is all that our formats need. Stricter than the standard: 1.0 is no
integer, no whole number takes more than 64 bits, True is no number, every property of `properties` must be there and no
other may.
"""

import contextlib
import numbers
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

Rule = Mapping[str, Any]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_LIMITS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
    "minItems": lambda value, least: len(value) >= least,
    "maxItems": lambda value, most: len(value) <= most,
    "uniqueItems": lambda value, unique: not unique or len(set(value)) == len(value),
    "enum": lambda value, known: value in known,
    "pattern": lambda value, pattern: re.fullmatch(pattern, value) is not None,
}


class Misfit(ValueError):
    """A value that is not what it should be: `name` of the field, as in "model.threads", and the `reason`."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # as they are: a copy is made of these
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def plain(value: Any) -> Any:
    """A value that comes from a program, as JSON has it: of numbers and arrays of NumPy, paths and tuples.

    For what stands in front of `check`, which is strict. All else stays as it is.

    >>> import fractions
    >>> plain((fractions.Fraction(1, 4), True, None))
    [0.25, True, None]
    """
    if callable(to_list := getattr(value, "tolist", None)):  # of arrays and scalars alike, without importing NumPy
        value = to_list()
    match value:
        case bool():
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            with contextlib.suppress(OverflowError):  # a fraction beyond the largest float
                return float(value)
        case str():
            return str.__str__(value)
        case os.PathLike():
            return os.fsdecode(cast("os.PathLike[str]", value))
        case list() | tuple():
            return [plain(each) for each in cast("Sequence[Any]", value)]
        case _:
            pass
    return value


def check(value: Any, rule: Rule, name: str) -> Any:
    """Raise Misfit for the first thing in `value` that does not fit `rule`; else return it.

    >>> check({"n": 3}, {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}, "header")
    {'n': 3}
    >>> check(True, {"type": "integer"}, "seed")
    Traceback (most recent call last):
    manako.checks.Misfit: seed: not of type integer
    """
    wanted = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    if not any(type(value) in _TYPES[each] for each in wanted):  # not isinstance: True is an int
        raise Misfit(name, f"not of type {' or '.join(wanted)}")
    if type(value) is int and value >= 2**64:
        raise Misfit(name, "more than 64 bits")
    if value is None:
        return value
    if type(value) is list and "items" in rule:
        for item in cast("Sequence[Any]", value):
            check(item, rule["items"], name)
    if type(value) is dict:
        _check_object(value, rule, name)
    for word, limit in rule.items():
        if word in _LIMITS and not _LIMITS[word](value, limit):
            raise Misfit(name, f"{word} is {limit}")
    return value


def fits(value: Any, rule: Rule) -> bool:
    """Whether `check` passes it."""
    try:
        check(value, rule, "")
    except Misfit:
        return False
    return True


def check_properties(values: Mapping[str, Any], properties: Mapping[str, Rule], name: str) -> None:
    """Raise Misfit unless `values` has exactly these properties, each as its rule says. name: of what has them."""
    if odd := sorted(values.keys() ^ properties.keys()):
        raise Misfit(_inner(name, ", ".join(odd)), "missing or unknown")
    for key, rule in properties.items():
        check(values[key], rule, _inner(name, key))


def _check_object(values: Mapping[str, Any], rule: Rule, name: str) -> None:
    if "properties" in rule:
        check_properties(values, rule["properties"], name)
    for key in values if "additionalProperties" in rule else ():
        check(values[key], rule["additionalProperties"], _inner(name, key))


def _inner(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
