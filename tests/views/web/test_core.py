"""The tests of the page's modules in their own language: node runs each file."""

from collections.abc import Callable
from pathlib import Path

import pytest

FILES = sorted(path.name for path in Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("file", FILES)
def test_node(node: Callable[..., str], file: str) -> None:
    assert "# fail 0" in node("--test", "--test-reporter=tap", str(Path(__file__).with_name(file)))


def test_negative_control_a_failing_test_is_seen(node: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bad.test.mjs").write_text('import { test } from "node:test"; test("a", () => { throw new Error(); });')
    with pytest.raises(AssertionError, match="not ok 1"):
        node("--test", "--test-reporter=tap", str(tmp_path / "bad.test.mjs"))
