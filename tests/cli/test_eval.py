"""`manako eval`: the library's figures, for one model or for several on the same text."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from toy import toy_checkpoint

from manako.formats.model_folder import write_checkpoint
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


def scaled(folder: Path, name: str, factor: float) -> Path:
    """A model folder with one tensor of the toy model larger than it was."""
    made = toy_checkpoint()
    tensors = made.tensors | {name: made.tensors[name] * np.float32(factor)}
    write_checkpoint(folder, made.config, tensors, made.tokenizer)
    return folder


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_model_that_overflows_scores_nothing_and_says_where(run: Run, tmp_path: Path, form: list[str]) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    model = scaled(tmp_path / "big", "h.1.mlp.c_proj.weight", 1e38)
    found = run("eval", "-m", model, "--data", tmp_path / "a.txt", *form)
    assert (found.code, found.out) == (1, "")
    assert "E-SCORE-NOT-FINITE" in found.err and "after token 1" in found.err and "layer 3" in found.err


def test_a_perplexity_beyond_all_floats_is_null_in_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    model = scaled(tmp_path / "sharp", "ln_f.weight", 1e5)
    told = json.loads(run("eval", "-m", model, "--data", tmp_path / "a.txt", "--json").out)
    assert told["perplexity"] is None and told["loss"] > 709 and told["bits_per_character"] > 0
    assert "inf" in run("eval", "-m", model, "--data", tmp_path / "a.txt").out
