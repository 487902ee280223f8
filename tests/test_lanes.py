"""What the fast lane leaves out is there, what it shows is left out elsewhere, and tests/README.md names real tests."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from shown import left_out

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"


def test_every_place_that_needs_more_is_there() -> None:
    tree = ast.parse((ROOT / "conftest.py").read_text(encoding="utf-8"))
    named = next(ast.literal_eval(n.value) for n in tree.body if "NEEDS_MORE" in ast.unparse(n))
    first = next(ast.literal_eval(n.value) for n in tree.body if "LONGEST" in ast.unparse(n))
    assert [place for place in (*named, *first) if not (ROOT / place).exists()] == []


def test_the_table_names_tests_that_exist() -> None:
    rows = [line for line in (TESTS / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    named = [pair for row in rows for pair in re.findall(r"`([\w/]+\.py)`: ([^;|]+)", row)]
    assert len(named) > 150
    missing = []
    for file, titles in named:
        found = {f"test_{name}" for name in re.findall(r"def test_(\w+)\(", (TESTS / file).read_text(encoding="utf-8"))}
        missing += [f"{file}: {t}" for t in titles.split(", ") if f"test_{t.strip().replace(' ', '_')}" not in found]
    assert missing == []


def test_what_a_page_shows_is_counted_with_patience() -> None:
    """`count()` tells of one instant: what a task of the browser adds next, a busy machine adds after it."""
    hasty = re.compile(r"assert .*\.count\(\) ==|== .*\.count\(\)$", re.MULTILINE)
    assert hasty.search("    assert page.locator('tr').count() == 4\n")
    found = {file.name: hasty.findall(file.read_text(encoding="utf-8")) for file in (TESTS / "page").glob("*.py")}
    assert [name for name, lines in found.items() if lines] == [], "expect(locator).to_have_count(n) waits"


def test_what_could_differ_is_run_again() -> None:
    passed = ["tests/test_a.py::test_one", "tests/test_a.py::test_two[x::y]", "tests/test_b.py::test_three"]
    found = {"versions": {"numpy": version("numpy"), "pytest": "0"}, "missing": {}, "passed": passed}
    assert left_out(found) == {*passed}
    assert left_out(found | {"missing": {"tests/test_a.py": ["no_such", "numpy"]}}) == {passed[2]}
    assert left_out(found | {"versions": {"numpy": "0"}}) == set()


@pytest.mark.slow
def test_only_tests_that_nothing_else_could_change_are_written(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("""
import subprocess, sys, pytest
def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("x")
@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
def test_starts_a_process(): subprocess.run([sys.executable, "-c", ""])
def test_fails_in_the_end(request): request.addfinalizer(lambda: 1 / 0)
""")
    (tmp_path / "test_b.py").write_text("""
import importlib.util, importlib.metadata, pytest
def test_asks(): assert importlib.util.find_spec("no_such") is None
def test_asks_for_a_version():
    with pytest.raises(importlib.metadata.PackageNotFoundError): importlib.metadata.version("such-as-none")
""")
    words = ["-q", "-p", "no:cacheprovider", "-p", "tests.support.shown", "--show", "shown.json", "--rootdir", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "pytest", *words, tmp_path], cwd=tmp_path, env=environment, check=False)
    found = json.loads((tmp_path / "shown.json").read_text())
    assert found["passed"] == ["test_a.py::test_passes", "test_b.py::test_asks", "test_b.py::test_asks_for_a_version"]
    assert {"no_such", "such-as-none"} <= {*found["missing"]["test_b.py"]} and "numpy" in found["versions"]
