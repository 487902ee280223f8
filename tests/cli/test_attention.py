"""`manako attention`: of a model that runs now, of a saved record, past the context, and what cannot be had."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run
from toy import write_toy

import manako
from manako.analysis.attention import attention
from manako.cli import console
from manako.families.gpt2 import NumpyGPT2


@pytest.fixture
def recorded(toy: str, tmp_path: Path) -> Path:
    """A record of twenty steps, the last ones past the context of 16, with attention in it."""
    path = tmp_path / "inside.manako"
    manako.load(toy).trace("あい", max_new_tokens=20, seed=3, temperature=0.8, capture=("attention",)).save(path)
    return path


@pytest.mark.slow
def test_json_is_what_the_record_says(run: Run, ref: str) -> None:
    words = ("attention", "あい", "-m", ref, "--seed", 4, "-n", 3, "--json")
    found = run(*words)
    assert (found.code, found.err) == (0, "")
    document = json.loads(found.out)
    assert document["schema"] == "manako.attention/1"
    trace = manako.load(ref).trace("あい", seed=4, max_new_tokens=3, temperature=0.8, capture=("attention",))
    expected = attention(trace, 2)  # the last step, where none is named
    assert document["step"]["index"] == 2 and document["step"]["chosen"]["id"] == trace.columns.token_id[2]
    assert document["per_head"] == expected.per_head.tolist() and document["mean"] == expected.mean.tolist()
    assert expected.rollout is not None and document["rollout"] == expected.rollout.tolist()
    assert [k["id"] for k in document["keys"]] == trace.all_ids[:-1].tolist()
    assert run(*words, "--lang", "ja").out == found.out
    first = json.loads(run(*words, "--step", 1).out)
    assert first["step"]["index"] == 0 and first["per_head"] == attention(trace, 0).per_head.tolist()


def test_a_saved_record_needs_no_model(run: Run, recorded: Path, toy: str) -> None:
    live = run("attention", "あい", "-m", toy, "--seed", 3, "-n", 20, "--step", 2, "--json")
    saved = run("attention", recorded, "--step", 2, "--json")
    assert (saved.code, saved.err) == (0, "")
    one, other = json.loads(live.out), json.loads(saved.out)
    same = ("step", "keys", "per_head", "rollout", "sinks")
    assert {name: one[name] for name in same} == {name: other[name] for name in same}
    shown = run("attention", recorded, "--step", 2)
    assert "Attention received by each token, mean of all 4 heads:" in shown.out and "--- Step 2 ---" in shown.out
    assert "self-check when generated, attention rows sum to 1" in shown.out


def test_past_the_context(run: Run, recorded: Path) -> None:
    found = run("attention", recorded)
    assert found.code == 0 and "--- Step 20 ---" in found.out
    assert (
        "The context window starts at token 6." in found.out and "No rollout: the context window has moved" in found.out
    )
    document = json.loads(run("attention", recorded, "--json").out)
    assert (document["rollout"], document["rollout_lacks"]) == (None, "window")
    assert [k["position"] for k in document["keys"]] == list(range(5, 21))


def test_a_given_text(run: Run, toy: str) -> None:
    document = json.loads(run("attention", "あいうえお", "-m", toy, "--given", "--step", 3, "--json").out)
    assert document["kind"] == "score" and document["step"]["chosen"]["text"] == "う"
    assert [k["text"] for k in document["keys"]][-2:] == ["あ", "い"]


@pytest.mark.parametrize("command", ["attention", "lens", "why"])
def test_of_a_given_text_only_the_step_asked_for_is_computed(
    run: Run, toy: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, passes = "吾輩は猫である。" * 9, list[int]()
    whole = manako.load(toy).score(text, capture=["attention"])
    forward = NumpyGPT2.forward

    def counted(model: Any, ids: Any, *more: Any, **named: Any) -> Any:
        passes.append(len(ids))
        return forward(model, ids, *more, **named)

    monkeypatch.setattr(NumpyGPT2, "forward", counted)
    for asked in ([], ["--step", "3"], ["--step", "40"]):
        step = whole.steps[int(asked[1]) - 1 if asked else -1]
        found = run(command, text, "-m", toy, "--given", *asked, "--json")
        document = json.loads(found.out)["step"]
        assert document["index"] == step.index and document["chosen"]["id"] == step.token_id
        assert document["window_start"] == step.window_start and document["text_before"] == step.text_before
        assert document["chosen"]["p"] == pytest.approx(step.chosen.p, rel=1e-5)
        assert passes == [len(whole.columns.prompt_ids) + step.index - step.window_start]
        passes.clear()
        shown = run(command, text, "-m", toy, "--given", *asked).out
        assert re.search(rf"\b{step.index + 1}\b", shown)
        assert "manako watch" not in shown and (command == "lens" or f"'{text}'" in shown or text in shown)
        passes.clear()
    for wrong in ("0", "-1", str(len(whole) + 1)):
        found = run(command, text, "-m", toy, "--given", "--step", wrong)
        assert found.code == 2 and wrong in found.err


def test_the_attention_of_one_given_step_is_that_of_the_whole_text(run: Run, toy: str) -> None:
    text, model = "吾輩は猫である。" * 9, manako.load(toy)
    whole = model.score(text, capture=["attention"])
    for index in (2, 39, -1):
        alone = model.score(text, capture=["attention"], step=index)
        assert (len(alone), alone.steps[0].number) == (1, range(len(whole))[index] + 1)
        np.testing.assert_allclose(alone.attention[0], whole.attention[index], rtol=1e-5, atol=1e-6)
        assert alone.attention.start(0) == whole.attention.start(index)
        assert manako.verify(alone).ok


def test_one_layer_and_one_head(run: Run, recorded: Path) -> None:
    layer = run("attention", recorded, "--layer", 1).out
    assert "Attention received by each token in layer 1, mean of its 2 heads:" in layer and "\n  1.1 " in layer
    head = run("attention", recorded, "--head", "1.0").out
    assert "Attention received by each token from head 1.0 alone:" in head and "By head" not in head


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--layer", "2"), "E-ATTENTION-RANGE"),
        (("--layer", "-1"), "E-ATTENTION-RANGE"),
        (("--layer", "one"), "E-ATTENTION-LAYER"),
        (("--layer", "１"), "E-NUMBER-FORM"),
        (("--head", "0.2"), "E-ATTENTION-RANGE"),
        (("--head", "2.0"), "E-ATTENTION-RANGE"),
        (("--head", "1"), "E-ATTENTION-HEAD"),
        (("--head", "１.0"), "E-ATTENTION-HEAD"),
        (("--head", "99999.0"), "E-ATTENTION-HEAD"),
        (("--layer", "0", "--head", "0.0"), "E-ATTENTION-BOTH"),
        (("--step", "21"), "E-VIEW-STEP"),
    ],
)
def test_what_makes_no_sense(run: Run, recorded: Path, words: tuple[str, ...], code: str) -> None:
    for more in ((), ("--json",)):
        found = run("attention", recorded, *words, *more)
        assert (found.code, found.out) == (2, "") and f"[{code}]" in found.err and found.err.count("\n") == 1


def test_what_has_no_attention(run: Run, saved: Path, tmp_path: Path) -> None:
    found = run("attention", saved)
    assert (found.code, found.out) == (4, "") and "[E-TRACE-WITHOUT-CAPTURE]" in found.err
    write_toy(tmp_path / "bare", attention=False)
    found = run("attention", "あ", "-m", tmp_path / "bare")
    assert (found.code, found.out) == (4, "") and "it was trained without attention" in found.err
    assert found.err.count("\n") == 1


def test_an_ablated_run(run: Run, toy: str) -> None:
    words = ("attention", "あいう", "-m", toy, "--seed", 4, "--ablate", "head:0.1", "--json")
    document = json.loads(run(*words).out)
    assert document["ablate"] == ["head:0.1"]
    plain = json.loads(run(*words[:6], "--json").out)
    assert document["per_head"][0] == plain["per_head"][0] and document["per_head"][1] != plain["per_head"][1]


def test_looks(run: Run, recorded: Path) -> None:
    words = ("attention", recorded)
    coloured, bare = run(*words, "--color", "always").out, run(*words).out
    assert "\x1b[" in coloured and "\x1b[" not in bare
    plain = run(*words, "--plain").out
    assert "Token " in plain and "░" not in plain and "Digit:" not in plain
    assert run(*words, env={"TERM": "dumb"}).out == plain
    assert "░ 2% 以上" in run(*words, "--lang", "ja").out
    narrow = run(*words, encoding="cp932").out
    assert ". 2% or more, : 10%, * 25%, # 50%." in narrow


def test_a_long_text_shows_how_far_it_is(run: Run, toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing where it is quick; otherwise one line, which a terminal rewrites until the last token."""
    text = "吾輩は猫である。".encode() * 30
    command = ("watch", "--given", "-", "-m", toy)
    assert "tokens read" not in run(*command, stdin=text).err
    monkeypatch.setattr("manako.cli.console._SILENT", -1.0)
    assert run(*command, stdin=text).err.count("tokens read") == 1


def test_a_log_has_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr("manako.cli.console.time.monotonic", lambda: now[0])
    progress = console.Progress()
    for now[0] in (1.0, 3.0, 30.0, 64.0, 65.0, 125.0):
        progress(int(now[0]), 1000)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["3", "64", "125"]


def test_a_terminal_rewrites_the_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 3.0, 3.0, 3.1, 9.0, 9.0, 9.1, 9.1])
    monkeypatch.setattr("manako.cli.console.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = console.Progress()
    for done in (10, 20, 30, 40, 1000):
        progress(done, 1000)
    told = capsys.readouterr().err
    assert [part.split()[1] for part in re.split("[\r\n]", told) if part] == ["20", "40", "1,000"]
    assert told.endswith("\n") and told.count("\r") == 2
