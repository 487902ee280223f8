"""Numbers as people read them: the rules, the vectors that the page obeys too, and that nobody formats past them."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sources import parsed

import manako
from manako.messages import numbers

SOURCE = Path(manako.__file__).parent
VECTORS = Path(__file__).parents[1] / "vectors" / "numbers.json"

_PROBABILITIES = [0, 1, 1.0000000000000002, 0.5, 0.125, 1 / 32, 1 / 64, 0.0005, 0.999, 0.9995, 0.99949, 0.1176, 0.09995]
_PROBABILITIES += [0.099949, 0.009995, 0.0099949, 0.0009995, 0.00099949, 0.0001, 0.000099999, 1.2e-7, 1e-300, 5e-324]
_VALUES = [0, 0.125, -0.125, 0.375, 0.625, 2.675, -2.675, 1.005, 0.001, -0.001, 0.005, -0.005, 0.0050000000000000001]
_VALUES += [1, -1, 2.088, 999.995, 999.994, 1000, 12345.6, -12345.6, 12345.625, 999999.995, 1e-300, -1e-300, 2**53]
_VALUES += [999999999.99, 1e9, -1e9, 1.25e9, 3.4e38, -3.4e38]
_SETTINGS = [0, 1, 5, 50, 0.8, 0.1, 1.2, 0.30000000000000004, 1e-5, 1.5e-6, 1e-6, 9.999999e-7, 1e-7, 1e-300, 0.7000001]
_SETTINGS += [-0.5, 1e15, 1e16, 123456789012345680000.0, 1e21, 1.5e300, 2**53, 1 / 3, 5e-324]
_ERRORS = [
    0,
    1,
    0.0625,
    0.125,
    1.25,
    0.001,
    0.00099,
    0.000999,
    999,
    994,
    1000,
    0.5,
    1e-4,
    1e-6,
    2e-6,
    1.2e-7,
    9.96e-7,
    1e-300,
    12,
    123456,
]
CASES: dict[str, list[list[Any]]] = {  # rule: its arguments
    "percent": [[p] for p in _PROBABILITIES],
    "fixed": [[value, 2] for value in _VALUES] + [[0.5, 0], [1.5, 0], [0.75, 1], [0.0625, 3], [0.45, 1], [1e-5, 4]],
    "signed": [[value] for value in _VALUES],
    "addends": [
        [[-0.034, 0.304, -1.804, 0.554], -0.98],
        [[0.304, 0.304, 0.304], 0.912],
        [[0.306, 0.306, 0.306], 0.918],
        [[-0.306, -0.306, 0.125], -0.487],
        [[0.001, -0.001, 0.0, 12345.678], 12345.678],
        [[1.0, 1.0], 5.0],
        [[1e300, 1.0], 1e300],
        [[], 0.0],
    ],
    "count": [[n] for n in (0, 1, 999, 1000, 3480, 12345, 10**6, 2**31, 2**53)],
    "perplexity": [[bits] for bits in (0, 0.01, 1, 1.5, 3.3, 5, 6.64, 6.65, 9.97, 11, 11.77, 14.25, 17.2)]
    + [[10.43567026093655]],  # 1385, which is an exact half
    "setting": [[value] for value in _SETTINGS],
    "small": [[error] for error in _ERRORS],
    "decimals": [[d] for d in (1, 0.02, 0.001, 0.00099, 0.00034, 1e-4, 1e-5, 1.2e-7, 1e-12, 1e-15, 1e-17, 0)],
}


def vectors() -> dict[str, list[list[Any]]]:
    """Rule -> its arguments and, last, what they read as."""
    return {
        rule: [[*arguments, getattr(numbers, rule)(*arguments)] for arguments in cases] for rule, cases in CASES.items()
    }


def test_the_vectors_are_what_the_rules_say(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update"):
        lines = [f' "{rule}": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]" for rule, rows in vectors().items()]
        VECTORS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    assert json.loads(VECTORS.read_text(encoding="utf-8")) == vectors()


@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_an_exact_half_goes_to_the_even_digit_and_its_neighbours_where_they_belong(digits: int) -> None:
    """The rule as the page has it: a half is a half exactly when value * 2 ** (digits + 1) is an odd whole number."""
    unit = 2.0 ** -(digits + 1)
    for n in range(1, 200):
        value, last = n * unit, numbers.fixed(n * unit, digits)[-1]
        assert (n % 2 == 0) or last in "02468"
        if n % 2:
            near = [numbers.fixed(value * (1 + d), digits) for d in (-2e-15, 2e-15)]
            assert near[0] != near[1] and numbers.fixed(value, digits) in near


@pytest.mark.parametrize("value", [c[0] for c in CASES["setting"]])
def test_a_setting_reads_back_as_the_very_number(value: float) -> None:
    assert float(numbers.setting(value)) == value


def test_the_sign_is_the_true_one() -> None:
    assert [numbers.signed(v) for v in (1e-9, -1e-9, 0.0, -0.0)] == ["+0.00", "-0.00", "0.00", "0.00"]


@pytest.mark.parametrize("rule", [numbers.small, numbers.setting])
def test_what_is_no_number_has_a_word(rule: Callable[[float], str]) -> None:
    assert [rule(float(name)) for name in ("inf", "nan")] == ["inf", "nan"]


def format_specs(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, specification) of every value in an f-string that is formatted as a number that may have a fraction."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            spec = ast.unparse(node.format_spec)[2:-1]
            if "," in spec or spec[-1:] in tuple("eEfFgGn%"):
                yield node.lineno, spec


def test_nothing_is_formatted_past_the_rules() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line} {spec}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, spec in format_specs(parsed(path.read_text(encoding="utf-8")))
        if path != Path(numbers.__file__)
    ]
    assert not found


def test_negative_control_each_kind_of_formatting_is_seen() -> None:
    text = 'f"{a:,}" + f"{a:.2f}" + f"{a:+.3g}" + f"{a:.{n}f}" + f"{a:.0%}"; f"{a:>8}{a:06d}{a:02X}{a!r}"'
    assert len(list(format_specs(parsed(text)))) == 5
