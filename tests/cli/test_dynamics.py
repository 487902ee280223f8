"""`manako dynamics` end to end: the map, the file, what opens it, and errors of one line."""

import json
from pathlib import Path

import pytest
from commands import Run
from toy import write_toy

from manako.formats import run_folder


@pytest.fixture
def toy_run(tmp_path: Path) -> Path:
    """Three checkpoints of toy models, without corpus and log."""
    for step in (0, 10, 20):
        write_toy(run_folder.step_folder(tmp_path / "mine", step), seed=step)
    run_folder.point(tmp_path / "mine", run_folder.LAST, run_folder.step_folder(tmp_path / "mine", 20))
    return tmp_path / "mine"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_it_is_shown_saved_and_opened_again(run: Run, toy_run: Path, tmp_path: Path, lang: str) -> None:
    file = tmp_path / f"d-{lang}.manako"
    shown = run("dynamics", toy_run, "私は猫", "-n", "3", "--save", file, "--lang", lang)
    assert shown.code == 0 and "20" in shown.out and str(file) in shown.err, shown.err
    again = run("view", file, "--lang", lang)
    assert again.code == 0 and again.out == shown.out
    found = json.loads(run("view", file, "--json").out)
    assert found["steps"] == [0, 10, 20] and len(found["tokens"][0]["p_model"]) == 3
    assert run("verify", file, "--lang", lang).code == 0
    told = json.loads(run("verify", file, "--json").out)
    assert told["ok"] and [each["step"] for each in told["traces"]] == [0, 10, 20]
    assert run("dynamics", toy_run, "私は猫", "--save", file).code == 2  # not without --force


def test_verify_says_how_many_tokens_cannot_be_drawn_again(
    run: Run, toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manako.experiments.dynamics.TOP", 2)
    file = tmp_path / "d.manako"
    assert run("dynamics", toy_run, "私は猫", "-n", "3", "--save", file).code == 0
    traces = json.loads(run("verify", file, "--json").out)["traces"]
    outside = sum(each["unverifiable"] for each in traces)
    assert 0 < outside == 9 - sum(each["rederived"] for each in traces)
    assert f"which cannot be checked: {outside}" in run("verify", file, "--lang", "en").out


@pytest.mark.slow
def test_errors_are_one_line(run: Run, toy_run: Path, tmp_path: Path) -> None:
    def failed(*arguments: object) -> int:
        result = run("dynamics", *arguments)
        last = result.err.splitlines()[-1]
        assert "[E-" in last and "Traceback" not in result.err
        return result.code

    assert failed(tmp_path / "none", "私は") == 3
    assert failed(toy_run) == 3  # no corpus to take a text from
    assert failed(toy_run, "私" * 5000) == 2
    assert failed(toy_run, "私は", "--step", "9") == 2
    (run_folder.step_folder(toy_run, 10) / "model.safetensors").write_bytes(b"gone")
    damaged = run("dynamics", toy_run, "私は", "-n", "1")
    assert damaged.code == 0 and "10" in damaged.err
    file = tmp_path / "d.manako"
    assert run("dynamics", toy_run, "私は", "-n", "1", "--save", file).code == 0
    wrong = run("watch", "私は", "--save", file)
    assert wrong.code == 2
    assert run("attention", file).code == 3  # it is no single trace
