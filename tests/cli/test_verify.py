"""`manako verify` on a tree: a line for each branch, and the exit code of the worst. For a trace see test_view.py."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from commands import Run
from golden import INSIDE_MODEL, golden_inside
from toy import toy_model
from trees import toy_tree

from manako.analysis.compact import compact
from manako.engines.generation import Generation
from manako.engines.recomputing import recomputed
from manako.sampling import distribution
from manako.trace.record import SelfCheck, Trace
from manako.trace.tree import Tree, tree_bytes


def with_wrong(*wrong: str) -> Tree:
    """The tree with a recorded probability halved in some branches."""
    branches = list(toy_tree().branches)
    for n, branch in enumerate(branches):
        if branch.id in wrong:
            columns = replace(branch.trace.columns, p=branch.trace.columns.p / 2)
            branches[n] = replace(branch, trace=replace(branch.trace, columns=columns))
    return Tree(tuple(branches), "1")


def saved_tree(folder: Path, tree: Tree) -> Path:
    path = folder / "tree.manako"
    path.write_bytes(tree_bytes(tree))
    return path


def test_every_branch_is_verified(run: Run, tmp_path: Path) -> None:
    found = run("verify", saved_tree(tmp_path, toy_tree()))
    assert (found.code, found.err) == (0, "")
    starts = [line.partition(" from the trace")[0] for line in found.out.splitlines()[:-1]]
    assert starts == [
        "branch 1: 5 of 5 tokens re-derived",
        "branch 2: 3 of 3 tokens re-derived",
        "branch 3: 2 of 2 tokens re-derived",
        "branch 2-1: 2 of 2 tokens re-derived",
        "branch b: 1 of 1 tokens re-derived",
    ]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_branch_that_does_not_hold_is_named_and_the_others_are_told(run: Run, tmp_path: Path, lang: str) -> None:
    found = run("verify", saved_tree(tmp_path, with_wrong("2", "b")), "--lang", lang)
    word = {"en": "branch", "ja": "分岐"}[lang]
    assert found.code == 1
    assert [line.split(":")[0] for line in found.out.splitlines()] == [f"{word} {id}" for id in ("1", "3", "2-1")]
    errors = found.err.splitlines()
    assert len(errors) == 2 and all(line.endswith("[E-VERIFY]") for line in errors)
    assert errors[0].startswith(f"manako: {word} 2: ") and errors[1].startswith(f"manako: {word} b: ")


def test_a_failed_self_check_of_a_branch_counts(run: Run, tmp_path: Path) -> None:
    first, *others = toy_tree().branches
    header = replace(first.trace.header, self_checks=(SelfCheck("some_new_check\x1b[2J", 2.0, 1.0),))
    tree = Tree((replace(first, trace=replace(first.trace, header=header)), *others), "1")
    found = run("verify", saved_tree(tmp_path, tree))
    assert found.code == 1 and "branch 1: " in found.err and "some_new_check\\x1b[2J" in found.err
    told = json.loads(run("verify", "--json", saved_tree(tmp_path, tree)).out)["branches"][0]["recorded_checks"]
    assert [(check["name"], check["ok"]) for check in told] == [("some_new_check\x1b[2J", False)]


def test_a_program_reads_each_branch(run: Run, tmp_path: Path) -> None:
    found = run("verify", "--json", saved_tree(tmp_path, with_wrong("3")))
    document = json.loads(found.out)
    assert (found.code, document["schema"], document["ok"]) == (1, "manako.tree_verification/1", False)
    assert [(b["id"], b["ok"], b["steps"]) for b in document["branches"]] == [
        ("1", True, 5),
        ("2", True, 3),
        ("3", False, 2),
        ("2-1", True, 2),
        ("b", True, 1),
    ]
    good = run("verify", "--json", saved_tree(tmp_path, toy_tree()))
    assert good.code == 0 and json.loads(good.out)["ok"]


def test_a_tree_of_one_branch_is_told_as_a_trace(run: Run, tmp_path: Path) -> None:
    path = saved_tree(tmp_path, Tree(toy_tree().branches[:1], "1"))
    assert run("verify", path).out.startswith("5 of 5 tokens re-derived")
    assert json.loads(run("verify", "--json", path).out)["schema"] == "manako.verification/1"


def test_other_commands_say_where_a_tree_opens(run: Run, tmp_path: Path) -> None:
    found = run("view", saved_tree(tmp_path, toy_tree()))
    assert found.code == 3 and found.out == ""
    assert "tree.manako holds a tree (5 branches)" in found.err and found.err.endswith(" [E-TREE-NOT-TRACE]\n")


def with_logits(trace: Trace, logits: npt.NDArray[np.float32], **model: Any) -> Trace:
    """A score with these rows and all that follows from them."""
    d = [distribution(row, trace.header.sampling) for row in logits]
    p = np.array([each.p_model[i] for each, i in zip(d, trace.columns.token_id, strict=True)])
    rank = np.array([each.rank(int(i)) for each, i in zip(d, trace.columns.token_id, strict=True)], np.int32)
    columns = replace(trace.columns, logits=logits, p=p, p_model=p, rank=rank)
    return replace(
        trace, columns=columns, header=replace(trace.header, model=replace(trace.header.model, **model), self_checks=())
    )


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_type_in_the_header_does_not_widen_the_limit_of_the_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: str
) -> None:
    model, path = toy_model(), tmp_path / "a.manako"
    monkeypatch.setattr("manako.cli.verify.load", lambda ref: model)
    honest = model.score("私は猫である。")
    logits = honest.logits * np.float32(0.7)  # off by 30 % of the largest logit; in bfloat16 62 % would do
    with_logits(honest, logits, dtype="bfloat16").save(path)
    assert run("verify", path).code == 0
    found = run("verify", path, "-m", "toy", "--lang", lang)
    assert found.code == 1 and "float32" in found.err and "bfloat16" in found.err
    assert json.loads(run("verify", path, "-m", "toy", "--json").out)["model"]["limit"] == 1e-4


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_limits_that_a_type_has_widened_are_told(run: Run, tmp_path: Path, lang: str) -> None:
    for dtype in ("float32", "bfloat16"):
        trace = golden_inside(model=replace(INSIDE_MODEL, dtype=dtype))
        trace.save(tmp_path / dtype)
        assert ("bfloat16" in run("verify", tmp_path / dtype, "--lang", lang).out) is (dtype == "bfloat16")


def test_a_logit_far_below_the_others_widens_no_limit_but_its_own() -> None:
    class Masked:  # as models mask what pads their vocabulary
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def forward(self, *given: Any, **more: Any) -> Any:
            rows = self._engine.forward(*given, **more).copy()
            rows[..., -1] = -1e9
            return rows

    model = toy_model()
    honest, engine = model.score("私は猫である。"), Masked(model.engine)
    logits = honest.logits.copy()
    logits[:, -1] = -1e9 + 640  # its own last digits
    assert recomputed(engine, with_logits(honest, logits)).ok
    logits[2, 3] += 0.5
    assert not recomputed(engine, with_logits(honest, logits)).ok


def run_to_end(generation: Generation) -> Trace:
    while generation.advance():
        pass
    return generation.trace()


def test_the_model_itself_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two logits exchanged together with all that follows: only the model can tell."""
    model, path = toy_model(), tmp_path / "a.manako"
    monkeypatch.setattr("manako.cli.verify.load", lambda ref: model)
    for trace in (
        model.trace("私は", max_new_tokens=24, seed=2, ablate=["head:0.1=mean"]),
        model.score("私は" * 20, ablate=["mlp:0"]),
        compact(model.trace("私は", max_new_tokens=5, seed=3)),
        run_to_end(model.fork(model.trace("私は", max_new_tokens=5, seed=3), 2, max_new_tokens=4)),
    ):
        trace.save(path, force=True)
        found = run("verify", path, "-m", "toy")
        assert found.code == 0 and "All rows computed again with toy" in found.out.splitlines()[-1]
        assert json.loads(run("verify", path, "-m", "toy", "--json").out)["model"]["ok"]
        changed = trace.header.ablate and replace(trace, header=replace(trace.header, ablate=()))
        if changed:
            changed.save(path, force=True)
            assert run("verify", path).code == 0
            found = run("verify", path, "-m", "toy")
            assert found.code == 1 and "toy gives other rows" in found.err
            assert not json.loads(run("verify", path, "-m", "toy", "--json").out)["ok"]
    other = replace(trace.header, model=replace(trace.header.model, weights_sha256="f" * 64))
    replace(trace, header=other).save(path, force=True)
    found = run("verify", path, "-m", "other")
    assert found.code == 4 and "[E-VERIFY-OTHER-MODEL]" in found.err
