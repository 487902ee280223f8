"""Every pattern of the source takes time in proportion to the text, on long runs of each character that it mentions."""

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import manako

SOURCE = Path(manako.__file__).parent
LENGTH = 20_000
CALLS = {"compile", "sub", "subn", "findall", "finditer", "split", "search", "match", "fullmatch"}


def patterns() -> dict[str, tuple[re.Pattern[str], str]]:
    """Place -> (pattern, how it is used): what stands in a call of `re`, names of constants and f-strings filled in."""
    found: dict[str, tuple[re.Pattern[str], str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants: dict[str, Any] = {"re": re}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    constants[node.targets[0].id] = eval(ast.unparse(node.value), {"re": re}, constants)
                except Exception:
                    continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"re.{name}" for name in CALLS}:
                try:
                    text = eval(ast.unparse(node.args[0]), {}, constants)
                    flags = eval(ast.unparse(node.args[1]), {"re": re}) if "compile" in ast.unparse(node.func) and (
                        len(node.args) > 1) else 0  # fmt: skip
                except Exception:
                    text = None  # made from values that are known only when it runs
                if isinstance(text, str):
                    used = ast.unparse(node.func).removeprefix("re.")
                    found[f"{path.relative_to(SOURCE)}:{node.lineno}"] = re.compile(text, flags), used
    return found


def mentioned(tree: Any) -> Iterator[str]:
    """Characters that a parsed pattern mentions, one of each class."""
    for kind, value in tree:
        name = str(kind)
        if name in ("LITERAL", "NOT_LITERAL"):
            yield chr(value)
        elif name == "RANGE":
            yield chr(value[0])
        elif name == "CATEGORY":
            yield {"DIGIT": "1", "SPACE": " ", "WORD": "a"}.get(str(value).rpartition("_")[2], "-")
        elif name == "IN":
            yield from mentioned(value)
        elif name in ("BRANCH", "SUBPATTERN", "MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT", "ASSERT", "ASSERT_NOT"):
            parts = value[1] if name == "BRANCH" else [value[-1]]
            for part in parts:
                yield from mentioned(part)


def seconds(pattern: re.Pattern[str], used: str, text: str) -> float:
    taken = []
    for _ in range(2):
        start = time.process_time()
        if used in ("match", "fullmatch"):
            getattr(pattern, used)(text)
        else:
            pattern.sub("", text)
        taken.append(time.process_time() - start)
    return min(taken)


def slow_on(pattern: re.Pattern[str], used: str = "sub") -> list[str]:
    """Runs on which a text twice as long takes far more than twice the time."""
    characters = sorted({*mentioned(parser.parse(pattern.pattern, pattern.flags)), "a", "\n"})[:40]
    found = []
    for run in characters:
        half, whole = (seconds(pattern, used, run * n) for n in (LENGTH, 2 * LENGTH))
        if whole > 0.05 and whole > 3 * half:
            found.append(run)
    return found


@pytest.mark.slow
def test_no_pattern_takes_more_than_its_share() -> None:
    known = patterns()
    assert len(known) > 30
    assert {place: runs for place, each in known.items() if (runs := slow_on(*each))} == {}


@pytest.mark.slow
def test_negative_control_a_quadratic_pattern_is_seen() -> None:
    assert slow_on(re.compile(r"[ \t]+\n")) == ["\t", " "]
    assert slow_on(re.compile(r"(?<![ \t])[ \t]+\n")) == []
