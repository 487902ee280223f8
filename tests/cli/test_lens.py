"""`manako lens`: of a model that runs now, of a saved record, past the context; and what has no lens."""

import json
import re
from pathlib import Path

import pytest
from commands import Run
from toy import write_toy

import manako


def test_json_is_what_the_model_says(run: Run, ref: str) -> None:
    words = ("lens", "あ", "-m", ref, "--seed", "4", "-n", "3", "--step", "2", "--json")
    found = run(*words)
    assert (found.code, found.err) == (0, "")
    document = json.loads(found.out)
    trace = manako.load(ref).trace("あ", seed=4, max_new_tokens=3, capture=["lens"])
    assert document["schema"] == "manako.lens/1" and document["step"]["index"] == 1
    layers = document["layers"]
    assert len(layers) == trace.header.model.config["n_layer"] + 1
    for row, ids, p in zip(layers, trace.lens.id[1].tolist(), trace.lens.p(1).tolist(), strict=True):
        assert [c["id"] for c in row["candidates"]] == ids and [c["p"] for c in row["candidates"]] == p
    assert layers[-1]["p"] == pytest.approx(document["step"]["chosen"]["p_model"], rel=1e-4)
    assert run(*words, "--lang", "ja").out == found.out


def test_from_a_file_as_from_the_model(run: Run, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    trace = manako.load(toy).trace("あ", seed=4, max_new_tokens=3, capture=["lens", "contributions"])
    trace.save(path)
    for more in ((), ("--json",), ("--plain",), ("--lang", "ja"), ("--step", "1")):
        live = run("lens", "あ", "-m", toy, "--seed", "4", "-n", "3", *more)
        saved = run("lens", path, *more)
        assert (live.code, saved.code) == (0, 0)
        if "--json" not in more:  # a live record holds the lens alone, so fewer self-checks
            assert live.out == saved.out
        else:
            left_out = {"self_checks", "capture"}
            assert {k: v for k, v in json.loads(live.out).items() if k not in left_out} == {
                k: v for k, v in json.loads(saved.out).items() if k not in left_out
            }


def test_the_last_step_without_being_told(run: Run, toy: str) -> None:
    assert "--- Step 3 ---" in run("lens", "あ", "-m", toy, "-n", "3").out
    assert "--- Step 2 ---" in run("lens", "あ", "-m", toy, "-n", "3", "--step", "2").out


def test_past_the_context(run: Run, toy: str) -> None:
    found = run("lens", "私は猫", "-m", toy, "-n", "30", "--seed", "1")
    assert found.code == 0 and "The context window starts at token" in found.out
    error = re.search(r"equals the logits: error ([\d.e+-]+), within", found.out)
    assert error and float(error[1]) <= 1e-5


def test_a_given_text(run: Run, toy: str) -> None:
    found = run("lens", "私は猫", "-m", toy, "--given")
    assert found.code == 0 and ">>> in the given text: '猫'" in found.out


@pytest.mark.parametrize(
    "changes", [{"attention": False}, {"residual": False}, {"norm": "post"}, {"tie_word_embeddings": False}]
)
def test_models_trained_with_an_ablation_are_named(run: Run, tmp_path: Path, changes: dict[str, object]) -> None:
    write_toy(tmp_path / "m", **changes)
    can = manako.load(tmp_path / "m").captures
    found = run("lens", "あ", "-m", tmp_path / "m", "-n", "2", "--seed", "1")
    assert found.code == (0 if "lens" in can else 4)
    if "lens" in can:
        assert ("model trained with ablations: " in found.out) == ("tie_word_embeddings" not in changes)
        assert "SELF-CHECK FAILED" not in found.out
    else:
        assert "E-CAPTURE-LACKING" in found.err


def test_a_part_switched_off(run: Run, toy: str) -> None:
    whole = json.loads(run("lens", "あ", "-m", toy, "-n", "1", "--seed", "1", "--json").out)
    without = json.loads(run("lens", "あ", "-m", toy, "-n", "1", "--seed", "1", "--json", "--ablate", "mlp:1").out)
    assert (whole["ablate"], without["ablate"]) == ([], ["mlp:1"])
    assert whole["layers"][1]["candidates"] == without["layers"][1]["candidates"]  # layer 0 knows nothing of mlp:1
    assert whole["layers"][2]["candidates"] != without["layers"][2]["candidates"]


def test_what_is_not_on_record(run: Run, saved: Path) -> None:
    found = run("lens", saved)
    assert (found.code, found.out) == (4, "") and "this trace has no lens" in found.err


def test_a_step_that_does_not_exist(run: Run, toy: str) -> None:
    for step in ("0", "4", "-1"):
        assert run("lens", "あ", "-m", toy, "-n", "3", "--step", step).code == 2


def test_one_layer_alone(run: Run, toy: str) -> None:
    words = ("lens", "あ", "-m", toy, "-n", "3", "--seed", "4", "--step", "2")
    document = json.loads(run(*words, "--json").out)
    for layer in (0, 1):
        first = document["layers"][layer + 1]["candidates"]
        for more in ((), ("--plain",), ("--top", "3")):
            found = run(*words, "--layer", layer, *more)
            assert found.code == 0 and f"after layer {layer}" in found.out
            listed = re.findall(r"^\W*(\d+)\.? ", found.out.partition("after layer")[2], re.M)
            count = 3 if "--top" in more else 10
            assert listed[:count] == [str(c["rank"]) for c in first[:count]]
    assert run(*words, "--layer", 2).code == 2


def test_as_many_candidates_as_asked_for(run: Run, toy: str) -> None:
    words = ("lens", "あ", "-m", toy, "-n", "1", "--seed", "4")
    rows = {n: run(*words, "--plain", "--top", n).out.count(" percent, rank") for n in (1, 10)}
    assert rows[1] == rows[10] == 3
    said = [run(*words, "--plain", "--top", n).out.partition("embedding: ")[2].split("\n")[0] for n in (1, 4)]
    assert (said[0].count(","), said[1].count(",")) == (1, 4)
    assert run(*words, "--top", 0).code == 2
