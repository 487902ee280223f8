"""What a model is called: the vectors that the page obeys too."""

import json
from pathlib import Path

import pytest

from manako.trace.model_name import model_name

VECTORS = Path(__file__).parents[1] / "vectors" / "model-names.json"


@pytest.mark.parametrize("ref, name", json.loads(VECTORS.read_text(encoding="utf-8")))
def test_a_name_has_no_folders_in_it(ref: str, name: str) -> None:
    assert model_name(ref) == name
    assert model_name(name) == name
