"""The expected values of tests/vectors/ are what Python computes; `pytest --update` writes them anew."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vectors import vectors

import manako

FOLDER = Path(__file__).parent / "vectors"


def same(a: Any, b: Any) -> bool:
    """Equal, numbers that are not whole within the last digits of exp and log, which differ between machines."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, rtol=1e-12, atol=1e-15))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("name", ["uniform.json", "chain.json", "trace-whole.json", "trace-part.json"])
def test_what_is_stored_is_what_python_computes(name: str, request: pytest.FixtureRequest) -> None:
    made = vectors()[name]
    if request.config.getoption("--update"):
        lines = ",\n".join(json.dumps(case, ensure_ascii=False, allow_nan=False) for case in made)
        text = (
            f"[\n{lines}\n]\n"
            if isinstance(made, list)
            else json.dumps(made, ensure_ascii=False, allow_nan=False) + "\n"
        )
        (FOLDER / name).write_text(text, encoding="utf-8")
    stored = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    if "file" in stored:  # its digests hang on the last digits that another machine may round otherwise
        stored, made = ({key: value for key, value in each.items() if key != "file"} for each in (stored, made))
        for each in (stored, made):
            each.pop("sha256"), each["header"].pop("columns_sha256")
    assert same(json.loads(json.dumps(made)), stored)


@pytest.mark.parametrize("name", ["trace-whole.json", "trace-part.json"])
def test_the_stored_file_opens_and_holds_what_is_said(name: str, tmp_path: Path) -> None:
    stored = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    (tmp_path / "a.manako").write_bytes(base64.b64decode(stored["file"]))
    trace = manako.open(tmp_path / "a.manako")
    assert trace.text == stored["text"] and manako.verify(trace).ok
    assert stored["columns"]["token_id"]["data"] == trace.columns.token_id.tolist()
    assert [step["token_id"] for step in stored["steps"]] == trace.columns.token_id.tolist()


def test_negative_control_another_number_is_seen() -> None:
    assert same({"a": [0.1, 1, None]}, {"a": [0.1 + 1e-17, 1, None]})
    assert not any(same({"a": [0.1, 1]}, {"a": other}) for other in ([0.1 + 1e-9, 1], [0.1, 1.0], [0.1, 2], [0.1]))
