"""`manako view` and `manako verify`: a record opens without its model, one step or all, and a changed one is found."""

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from golden import golden_inside, golden_score, golden_trace, large_generation, large_inside

import manako
from manako import messages
from manako.trace.file import to_bytes
from manako.trace.record import SelfCheck


def test_one_step(run: Run, saved: Path) -> None:
    whole, second = run("view", saved, "--view", "steps"), run("view", saved, "--step", "2")
    assert second.code == 0 and second.out.count("--- Step") == 1 and "--- Step 2 ---" in second.out
    legend = f"{messages.text('step.strip', 'en')}\n"  # once, whatever is shown
    assert whole.out.count(legend) == second.out.count(legend) == 1
    block = second.out.split("--- Step 2 ---")[1].replace(legend, "")
    assert block in whole.out and "The whole text" not in block
    document = json.loads(run("view", saved, "--step", "2", "--json").out)
    assert [s["index"] for s in document["steps"]] == [1]
    assert document["text"] == json.loads(run("view", saved, "--json").out)["text"]


@pytest.mark.parametrize("name", [b"a.manako", "猫 'b\x1b\u202e.manako".encode(), b"a\x94b.manako"])
def test_the_command_for_one_step_can_be_pasted(run: Run, tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(to_bytes(golden_trace()))
    start = messages.text("overview.one", "en", command="")
    [line] = [line for line in run("view", path).out.splitlines() if line.startswith(start)]
    assert line.isprintable()
    shell = ["bash", "-c", f"printf '%s\\0' {line.removeprefix(start)}"]
    words = subprocess.run(shell, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout.split(b"\0")[:-1]
    assert words[:3] == [b"manako", b"view", path]
    assert run(*words[1:]).out.count("--- Step") == 1


@pytest.mark.parametrize("step", ["0", "5", "-1", "99999999999999999999"])
def test_step_outside(run: Run, saved: Path, step: str) -> None:
    found = run("view", saved, "--step", step)
    assert (found.code, found.out) == (2, "")
    assert found.err == f"manako: --step must lie between 1 and 4, got {step} [E-VIEW-STEP]\n"


def test_step_that_is_no_number(run: Run, saved: Path) -> None:
    assert (
        run("view", saved, "--step", "1.5").err
        == "manako: --step must be a whole number from 1 on, got 1.5 [E-VIEW-STEP-NUMBER]\n"
    )
    assert "write 2" in run("view", saved, "--step", "２").err


def test_a_record_of_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.manako"
    golden_trace(0).save(path)
    found = run("view", path)
    assert found.code == 0 and "Nothing was generated." in found.out
    step = run("view", path, "--step", "1")
    assert (step.code, step.out) == (2, "")
    assert step.err == "manako: this trace has no steps, so there is no step 1; omit --step [E-VIEW-NO-STEPS]\n"


def test_the_model_is_not_needed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    golden_trace().save(path)  # its model never existed
    assert run("view", path).code == 0


def test_a_score_opens(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "score.manako"
    golden_score().save(path)
    assert "tinted by p" in run("view", path).out
    found = run("view", path, "--view", "steps")
    assert found.code == 0 and ">>> in the given text:" in found.out and "random number u" not in found.out
    assert run("verify", path).out.startswith("5 of 5 tokens scored again")


def test_self_checks_of_a_stranger_are_shown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    golden_trace(1, self_checks=(SelfCheck("some_new_check\x1b[2J", 2.0, 1.0),)).save(path)
    found = run("view", path)
    assert found.code == 0 and "SELF-CHECK FAILED some_new_check\\x1b[2J: error 2, limit 1" in found.out
    verified = run("verify", path)
    assert verified.code == 1 and "some_new_check\\x1b[2J" in verified.err


def test_verify_says_what_it_did(run: Run, saved: Path) -> None:
    found = run("verify", saved)
    assert found.code == 0 and found.err == ""
    assert found.out.startswith("4 of 4 tokens re-derived from the trace, all identical (largest probability error ")
    document = json.loads(run("verify", saved, "--json").out)
    assert document == {
        "schema": "manako.verification/1",
        "ok": True,
        "steps": 4,
        "rederived": 4,
        "unverifiable": 0,
        "failure": None,
        "contradictions": [],
        "largest_error": document["largest_error"],
        "checks": [],
        "recorded_checks": document["recorded_checks"],
    }
    assert document["recorded_checks"] and all(check["ok"] for check in document["recorded_checks"])


def test_verify_checks_what_was_captured(run: Run, tmp_path: Path) -> None:
    trace, path = golden_inside(), tmp_path / "inside.manako"
    trace.save(path)
    assert [re.sub("error 1.\\de-7", "error 0", line) for line in run("verify", path).out.splitlines()[1:-1]] == [
        "self-check attention rows sum to 1: error 4.5e-8, within 1e-6",
        "self-check the lens at the last layer equals the logits: error 0, within 1e-5",
        "self-check the lists of the lens agree with each other: error 0, within 0",
        "self-check contributions sum to the logit: error 0, within 1e-4",
    ]
    names = ["attention_rows_sum_to_1", "lens_last_equals_logits", "lens_lists_fit", "contributions_sum_to_logit"]
    document = json.loads(run("verify", path, "--json").out)
    assert [c["name"] for c in document["checks"]] == names and all(c["ok"] for c in document["checks"])


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_verify_shows_a_captured_number_that_does_not_fit(run: Run, tmp_path: Path, lang: str) -> None:
    trace, path = golden_inside(), tmp_path / "inside.manako"
    captured = dict(trace.columns.captured)
    captured["contribution"] = captured["contribution"].copy()
    captured["contribution"][3, 0, 0] += 0.01
    replace(trace, columns=replace(trace.columns, captured=captured)).save(path, force=True)
    found = run("verify", path, "--lang", lang)
    failed = {"en": "SELF-CHECK FAILED contributions sum", "ja": "自己検査に失敗 寄与の合計"}[lang]
    said = {"en": "do not fit the trace: contributions sum", "ja": "内部の値がトレースと合いません: 寄与の合計"}[lang]
    assert found.code == 1 and failed in found.out and said in found.err and "[E-VERIFY]" in found.err
    document = run("verify", path, "--json")
    assert document.code == 1 and not json.loads(document.out)["ok"]
    trace = large_inside(steps=2)
    captured = dict(trace.columns.captured)
    captured["contribution_id"] = captured["contribution_id"].copy()
    part = trace.columns.part or {}
    captured["contribution_id"][0, 4] = next(i for i in range(300) if i not in part["part_id"][0])
    replace(trace, columns=replace(trace.columns, captured=captured)).save(
        path, force=True
    )  # an error that no number tells
    document = run("verify", path, "--json")
    assert document.code == 1 and json.loads(document.out)["checks"][-1]["error"] is None


def test_verify_finds_the_first_changed_step(run: Run, tmp_path: Path) -> None:
    trace = golden_trace()
    drawn = trace.steps[4].chosen
    other = trace.steps[4].candidates[2 if drawn.rank == 1 else 0]  # as if luck had chosen another one
    columns = {name: getattr(trace.columns, name).copy() for name in ("token_id", "rank", "p", "p_model")}
    for name, value in zip(columns, (other.id, other.rank, other.p, other.p_model), strict=True):
        columns[name][4] = value
    path = tmp_path / "changed.manako"
    replace(trace, columns=replace(trace.columns, **columns)).save(path, force=True)
    found = run("verify", path)
    assert (found.code, found.out) == (1, "")
    assert found.err == (
        f"manako: step 5 does not follow from the trace: stored is token {other.id}, "
        f"re-derived is {drawn.id} [E-VERIFY]\n"
    )
    document = run("verify", path, "--json")
    assert document.code == 1 and json.loads(document.out)["failure"] == [4, other.id, drawn.id]
    assert run("view", path).code == 0  # it shows what the file says


@pytest.mark.parametrize("name", ["rank", "p", "p_model", "u"])
def test_verify_finds_a_number_that_does_not_follow(run: Run, tmp_path: Path, name: str) -> None:
    trace = golden_trace()
    column = getattr(trace.columns, name).copy()
    column[4] = column[4] % 12 + 1 if name == "rank" else column[4] * 0.999
    path = tmp_path / "changed.manako"
    replace(trace, columns=replace(trace.columns, **{name: column})).save(path, force=True)
    found = run("verify", path)
    assert (found.code, found.out) == (1, "")
    assert found.err == f"manako: step 5: its stored {name} does not follow from the rest of the trace [E-VERIFY]\n"


def test_verify_a_record_of_parts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "part.manako"
    generation = large_generation()
    list(generation)
    trace = generation.trace()
    trace.save(path)
    outside = int((trace.columns.rank > 256).sum())
    assert outside
    found = run("verify", path)
    assert found.code == 0
    assert f"draws outside the stored candidates, which cannot be checked: {outside}" in found.out
    assert run("view", path).code == 0


def test_a_damaged_file_is_refused(run: Run, saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-7] ^= 1
    saved.write_bytes(data)
    for command in ("view", "verify"):
        found = run(command, saved)
        assert (found.code, found.out) == (3, "") and found.err.endswith("[E-TRACE-DAMAGED]\n")
        assert found.err.count("\n") == 1


def test_numbers_survive_the_file(run: Run, saved: Path) -> None:
    document, trace = json.loads(run("view", saved, "--json").out), manako.open(saved)
    for record, step in zip(document["steps"], trace, strict=True):
        shown = {c["id"]: c["p"] for c in record["candidates"]}
        assert all(shown[c.id] == c.p for c in step.candidates[:10])
        assert np.float32(record["candidates"][0]["logit"]) == trace.logits[step.index, record["candidates"][0]["id"]]
