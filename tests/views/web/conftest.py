"""How a test asks the page's modules: node runs answers.mjs, which imports them as they are."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Ask = Callable[..., Any]


def packed(values: Any) -> dict[str, str]:
    """An array, or bytes, as it travels."""
    array = np.frombuffer(values, dtype=np.uint8) if isinstance(values, bytes) else np.asarray(values)
    return {str(array.dtype): base64.b64encode(array.tobytes()).decode()}


def unpacked(answer: Any) -> Any:
    """The same with every array in it as one again."""
    if isinstance(answer, list):
        return [unpacked(each) for each in answer]
    if isinstance(answer, dict):
        if len(answer) == 1 and (dtype := next(iter(answer))) in ("float64", "float32", "int32", "int8", "uint8"):
            return np.frombuffer(base64.b64decode(answer[dtype]), dtype=dtype)
        return {name: unpacked(value) for name, value in answer.items()}
    return answer


@pytest.fixture(scope="session")
def node() -> Callable[..., str]:
    """Run node on some arguments; where there is none the test fails, since nothing else checks the page."""

    def run(*arguments: str, given: str = "") -> str:
        found = shutil.which("node")
        assert found, "the page's tests need node 20 or newer"
        done = subprocess.run([found, *arguments], input=given, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def ask(node: Callable[..., str]) -> Ask:
    """Call a function of answers.mjs: `ask("uniforms", [["7", 0]])`."""

    def asked(*question: Any) -> Any:
        script = Path(__file__).with_name("answers.mjs")
        return unpacked(json.loads(node(str(script), given=json.dumps(question, default=packed))))

    return asked
