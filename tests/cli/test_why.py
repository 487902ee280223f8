"""`manako why`: of a model that runs now, of a saved record, past the context; tokens by name; what has no parts."""

import json
import re
from pathlib import Path

import pytest
from commands import Run
from toy import write_toy

import manako
from manako.analysis.contributions import contributions


def test_json_is_what_the_model_says(run: Run, ref: str) -> None:
    words = ("why", "あ", "-m", ref, "--seed", "4", "-n", "3", "--step", "2", "--json")
    found = run(*words)
    assert (found.code, found.err) == (0, "")
    document = json.loads(found.out)
    trace = manako.load(ref).trace("あ", seed=4, max_new_tokens=3, capture=["contributions"])
    assert document["schema"] == "manako.why/1" and document["step"]["index"] == 1
    assert [part["value"] for part in document["parts"]] == trace.contributions.value[1, :, 0].tolist()
    assert [part["name"] for part in document["parts"]] == list(trace.header.parts)
    assert document["logit"] == trace.steps[1].chosen.logit and abs(document["remainder"]) < 1e-4
    assert run(*words, "--lang", "ja").out == found.out


def test_from_a_file_as_from_the_model(run: Run, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    trace = manako.load(toy).trace("あ", seed=4, max_new_tokens=3, capture=["contributions"])
    trace.save(path)
    rival = contributions(trace, 2).tokens[3]
    for more in ((), ("--plain",), ("--lang", "ja"), ("--rather-than", f"id:{rival.id}"), ("--json", "--step", "1")):
        live = run("why", "あ", "-m", toy, "--seed", "4", "-n", "3", *more)
        saved = run("why", path, *more)
        assert (live.code, saved.code) == (0, 0)
        read = json.loads if "--json" in more else str
        assert read(live.out) == read(saved.out)


def test_one_token_or_one_rather_than_another(run: Run, toy: str) -> None:
    words = ("why", "あ", "-m", toy, "--seed", "4", "-n", "3", "--json")
    trace = manako.load(toy).trace("あ", seed=4, max_new_tokens=3, capture=["contributions"])
    a, b = (contributions(trace, 2).tokens[n] for n in (1, 2))
    found = json.loads(run(*words, "--token", f"id:{a.id}", "--rather-than", f"id:{b.id}").out)
    assert (found["token"]["id"], found["rather_than"]["id"]) == (a.id, b.id)
    assert found["logit"] == pytest.approx(a.logit - b.logit)
    shown = run(*words[:-1], "--token", f"id:{a.id}", "--rather-than", f"id:{b.id}").out
    assert "what favours" in shown and "= difference" in shown and "Rather than" not in shown
    alone = json.loads(run(*words, "--token", a.text).out)
    assert alone["token"]["id"] == a.id and alone["rather_than"] is None


def test_a_token_that_is_not_on_record(run: Run, toy: str) -> None:
    trace = manako.load(toy).trace("あ", seed=4, max_new_tokens=1, capture=["contributions"])
    on_record = contributions(trace, 0)
    for option in ("--token", "--rather-than"):
        found = run("why", "あ", "-m", toy, "--seed", "4", "-n", "1", option, "無い")
        assert (found.code, found.out) == (2, "") and "E-WHY-TOKEN" in found.err
        assert on_record.spelling(on_record.tokens[0]) in found.err
    same = run("why", "あ", "-m", toy, "--seed", "4", "-n", "1", "--rather-than", f"id:{on_record.tokens[0].id}")
    assert same.code == 2 and "E-WHY-SAME-TOKEN" in same.err


def test_top(run: Run, toy: str) -> None:
    words = ("why", "あ", "-m", toy, "--seed", "4", "-n", "1")
    parts = len(manako.load(toy).trace("あ", max_new_tokens=1, capture=["contributions"]).header.parts)
    assert f"\nother {parts - 3} " in run(*words, "--top", "3").out
    assert "\nother" not in run(*words, "--top", parts).out
    assert run(*words, "--top", "0").code == 2


def test_past_the_context(run: Run, toy: str) -> None:
    found = run("why", "私は猫", "-m", toy, "-n", "30", "--seed", "1")
    assert found.code == 0 and "The context window starts at token" in found.out
    error = re.search(r"sum to the logit: error ([\d.e+-]+), within", found.out)
    assert error and float(error[1]) <= 1e-4


def test_a_given_text(run: Run, toy: str) -> None:
    found = run("why", "私は猫", "-m", toy, "--given")
    assert found.code == 0 and ">>> in the given text: '猫'" in found.out


@pytest.mark.parametrize("changes", [{"attention": False}, {"residual": False}, {"norm": "post"}])
def test_models_trained_with_an_ablation(run: Run, tmp_path: Path, changes: dict[str, object]) -> None:
    write_toy(tmp_path / "m", **changes)
    found = run("why", "あ", "-m", tmp_path / "m", "-n", "2", "--seed", "1")
    if "attention" in changes:
        assert found.code == 0 and "model trained with ablations: no_attention" in found.out
    else:
        assert (found.code, found.out) == (4, "") and "E-CAPTURE-LACKING" in found.err
        assert "what a part adds does not reach the logits unchanged" in found.err


def test_a_part_switched_off_adds_nothing(run: Run, toy: str) -> None:
    words = ("why", "あ", "-m", toy, "-n", "1", "--seed", "1", "--json", "--ablate", "head:1.0")
    document = json.loads(run(*words).out)
    assert document["ablate"] == ["head:1.0"]
    assert {p["name"]: p["value"] for p in document["parts"]}["head:1.0"] == 0
    assert abs(document["remainder"]) < 1e-4


def test_the_parts_of_one_layer_or_head_alone(run: Run, toy: str) -> None:
    words = ("why", "あ", "-m", toy, "-n", "1", "--seed", "1", "--top", "30")
    for layer in (0, 1):
        listed = re.findall(r"^((?:head|mlp|attn_bias):\S+) ", run(*words, "--layer", layer).out, re.M)
        assert sorted(listed) == [f"attn_bias:{layer}", f"head:{layer}.0", f"head:{layer}.1", f"mlp:{layer}"]
        said = run(*words, "--plain", "--layer", layer).out
        assert said.count(f" of layer {layer}: ") == 4 and f" of layer {1 - layer}: " not in said
    assert re.findall(r"^(head:\S+) ", run(*words, "--head", "1.0").out, re.M) == ["head:1.0"]
    for bad in (("--layer", 2), ("--head", "0.2"), ("--layer", 0, "--head", "0.0")):
        assert run(*words, *bad).code == 2


def test_what_is_not_on_record(run: Run, saved: Path) -> None:
    found = run("why", saved)
    assert (found.code, found.out) == (4, "") and "this trace has no contributions" in found.err


@pytest.mark.parametrize("command", ["why", "lens", "attention"])
def test_what_a_saved_trace_makes_void_is_refused(run: Run, toy: str, tmp_path: Path, command: str) -> None:
    path = tmp_path / "a.manako"
    captures = ["attention", "lens", "contributions"]
    manako.load(toy).trace("あ", seed=4, max_new_tokens=2, capture=captures).save(path)
    assert run(command, path).code == 0
    found = run(command, path, "-t", "1.2", "-m", toy, "--given", "--step", "1")
    assert found.code == 2 and "[E-OPTIONS-VOID]" in found.err
    assert all(name in found.err for name in ("--temperature", "--model", "--given")) and "--step" not in found.err


def test_a_word_that_looks_like_a_file_is_said_to_be_read_as_a_text(
    run: Run, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manako.load(toy).trace("あ", seed=4, max_new_tokens=1).save(tmp_path / "mine.manako")
    (tmp_path / "notes.txt").write_text("あ", encoding="utf-8")
    (tmp_path / "runs").mkdir()
    said = {
        "mine.manak": "no file of that name (mine.manako?)",
        "runs/mine": "no file of that name",
        "notes.text": "",
        "note.txt": "no file of that name",
        "notes.txt": "read as a text, not as that file",
        "and/or": "",
        "e.g.": "",
        "a note.txt": "",
    }
    for word, note in said.items():
        found = run("why", word, "-m", toy, "--seed", "1")
        assert found.code == 0 and (f'"{word}" is read as a text' in found.err) == bool(note) and note in found.err
        assert f'"{word}"' not in run("why", word, "-m", toy, "--seed", "1", "--text").err
