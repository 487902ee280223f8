"""What the fast lane leaves out is there, and the table of tests/README.md names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"


def test_every_place_that_needs_more_is_there() -> None:
    tree = ast.parse((ROOT / "conftest.py").read_text(encoding="utf-8"))
    named = next(ast.literal_eval(n.value) for n in tree.body if "NEEDS_MORE" in ast.unparse(n))
    assert [place for place in named if not (ROOT / place).exists()] == []


def test_the_table_names_tests_that_exist() -> None:
    rows = [line for line in (TESTS / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    named = [pair for row in rows for pair in re.findall(r"`([\w/]+\.py)`: ([^;|]+)", row)]
    assert len(named) > 150
    missing = []
    for file, titles in named:
        found = {f"test_{name}" for name in re.findall(r"def test_(\w+)\(", (TESTS / file).read_text(encoding="utf-8"))}
        missing += [f"{file}: {t}" for t in titles.split(", ") if f"test_{t.strip().replace(' ', '_')}" not in found]
    assert missing == []
