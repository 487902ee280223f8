"""The fast lane is what conftest.py says, and the table of tests/README.md names tests that exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
BLOCKED = """
import sys
import pytest
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "playwright", "schemathesis"):
            raise ImportError(f"blocked: {name}")
sys.meta_path.insert(0, Blocked())
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def collected(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_fast_lane_imports_neither_torch_nor_a_browser() -> None:
    done = collected()
    assert done.returncode == 0, done.stdout[-2000:]
    assert int(re.findall(r"(\d+)(?:/\d+)? tests collected", done.stdout)[0]) > 3000


@pytest.mark.slow
def test_negative_control_the_whole_needs_them() -> None:
    done = collected("-m", "", "tests/training")
    assert done.returncode != 0 and "blocked: torch" in done.stdout + done.stderr


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
