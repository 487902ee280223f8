"""`manako eval`: the library's figures, for one model or for several on the same text."""

import json
from pathlib import Path

import pytest
from commands import Run

from manako.model import load

TEXT = "私は猫である。私は犬ではない。"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_several_models_stand_beside_each_other(run: Run, toy: str, tmp_path: Path, lang: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    demo, small = (load(ref).evaluate(TEXT).bits_per_character or 0 for ref in ("demo", toy))
    found = run("eval", "-m", "demo", "-m", toy, "--data", path, "--lang", lang)
    assert found.code == 0 and f"+{small - demo:.4f}" in found.out
    assert (
        found.out.index("demo")
        < found.out.index(f"{demo:.4f}")
        < found.out.index(toy)
        < found.out.index(f"{small:.4f}")
    )
    told = json.loads(run("eval", "-m", "demo", "-m", toy, "--data", path, "--json").out)["models"]
    assert [(each["ref"], each["bits_per_character"]) for each in told] == [("demo", demo), (toy, small)]


def test_one_model_is_told_without_its_name(run: Run, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    assert json.loads(run("eval", "-m", toy, "--data", path, "--json").out)["tokens"] == load(toy).evaluate(TEXT).tokens
    assert toy not in run("eval", "-m", toy, "--data", path).out
