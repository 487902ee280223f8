"""The tests of the page's modules in their own language: node runs each file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from manako.refs import EMBEDDED, for_text, reads

FILES = sorted(path.name for path in Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("file", FILES)
def test_node(node: Callable[..., str], file: str) -> None:
    assert "# fail 0" in node("--test", "--test-reporter=tap", str(Path(__file__).with_name(file)))


def test_negative_control_a_failing_test_is_seen(node: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bad.test.mjs").write_text('import { test } from "node:test"; test("a", () => { throw new Error(); });')
    with pytest.raises(AssertionError, match="not ok 1"):
        node("--test", "--test-reporter=tap", str(tmp_path / "bad.test.mjs"))


def test_the_page_gives_a_prompt_to_the_model_that_python_gives_it_to(node: Callable[..., str]) -> None:
    texts = [
        "",
        "a",
        "\u3042",
        "1, 2",
        "caf\u00e9\n",
        "the \u732b",
        "\u0434\u0430",
        "\n\u3001a",
        "\U00020000 b",
        "\uff21",
        "a" * 8000 + "\u3042",
    ]
    asked = [[reads(name), text] for name in EMBEDDED for text in texts]
    script = f"JSON.stringify({json.dumps(asked)}.map(([pattern, text]) => new RegExp(pattern, 'u').test(text)))"
    found = json.loads(node("-p", script))
    assert found == [for_text(text) == name for name in EMBEDDED for text in texts]
