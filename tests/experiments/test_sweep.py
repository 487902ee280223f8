"""A sweep: ordinary runs on one held-out text, nothing lost when it is killed, and one that fails stops no other."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from commands import MANAKO, environment

import manako
from manako.analysis.sweep import RESULTS, Failure, Outcome, read_results
from manako.corpus.packed import open_packed
from manako.errors import UsageError
from manako.experiments.grid import Grid
from manako.experiments.sweep import sweep
from manako.formats import run_folder
from manako.tokenizer import Tokenizer
from manako.training import loop
from manako.training.run import settings_of

pytestmark = pytest.mark.usefixtures("small_probe")
BASE: dict[str, Any] = {
    "n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8, "batch_size": 2, "steps": 6, "eval_interval": 2,
    "validation": 0.2, "device": "cpu", "dtype": "float32",
}  # fmt: skip
WORDS = [f"--set={name}={value}" for name, value in BASE.items()]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("私は猫である。名前はまだ無い。\n" * 80, encoding="utf-8")
    return tmp_path / "a.txt"


def done(results: list[Outcome | Failure]) -> list[Outcome]:
    assert all(isinstance(each, Outcome) for each in results), results
    return [each for each in results if isinstance(each, Outcome)]


def without_clock(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    return [{k: v for k, v in vars(o).items() if k != "seconds"} for o in outcomes]


def test_each_run_is_an_ordinary_one_on_the_same_held_out_text(text: Path, tmp_path: Path) -> None:
    told: list[str] = []
    vary = {"tokenizer": ["char", "bpe:280"], "data": [0.5, 1], "no_attention": [False, True]}
    found = done(sweep(Grid([str(text)], BASE, vary), tmp_path / "s", report=lambda key, **_: told.append(key)))
    assert [o.varied for o in found[:2]] == [
        {"tokenizer": "char", "data": 0.5, "no_attention": False},
        {"tokenizer": "char", "data": 0.5, "no_attention": True},
    ]
    assert len(found) == 8 and read_results(tmp_path / "s") == found and told.count("sweep.done") == 8
    held_out = set[str]()
    for outcome in found:
        run = tmp_path / "s" / "runs" / outcome.run
        model = manako.load(run)
        assert model.config.attention is not outcome.varied["no_attention"]
        corpus = open_packed(Path(settings_of(run)["data"][0]))
        tokenizer = Tokenizer(corpus.tokenizer_source)
        held_out.add("".join(tokenizer.decode(ids.tolist()).decode() for ids in corpus.validation.documents(0)))
        said = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        curve = [(line["step"], line["bits_per_character"]) for line in said if "bits_per_character" in line]
        assert [tuple(p) for p in outcome.curve] == curve and outcome.bits_per_character == min(b for _, b in curve)
    assert len(held_out) == 1
    assert {o.corpus_characters for o in found[:2]} == {round(0.5 * found[2].corpus_characters)}
    table = pyarrow.parquet.read_table(tmp_path / "s" / "results.parquet").to_pylist()
    assert [row["bits_per_character"] for row in table] == [o.bits_per_character for o in found]
    assert [row["tokenizer"] for row in table] == ["char"] * 4 + ["bpe:280"] * 4 and table[0]["data"] == 0.5


def test_a_run_of_a_sweep_has_the_bits_of_the_same_training(text: Path, tmp_path: Path) -> None:
    base = {name: value for name, value in BASE.items() if name != "n_embd"}
    [found] = done(sweep(Grid([str(text)], base, {"n_embd": [8]}), tmp_path / "s"))
    corpus = settings_of(tmp_path / "s" / "runs" / found.run)["data"][0]
    alone = manako.train(corpus, tmp_path / "m", **{k: v for k, v in BASE.items() if k != "validation"})
    weights = [run_folder.step_folder(run, 6) / "model.safetensors" for run in (alone, tmp_path / "s/runs" / found.run)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_flops_become_steps(text: Path, tmp_path: Path) -> None:
    base = {name: value for name, value in BASE.items() if name not in ("steps", "n_embd")}
    found = done(sweep(Grid([str(text)], base | {"flops": 2e6}, {"n_embd": [8, 16]}), tmp_path / "s"))
    assert found[0].steps > found[1].steps and all(abs(o.flops - 2e6) < o.flops / o.steps for o in found)


def test_a_run_that_fails_is_named_and_tried_again(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid([str(text)], {n: v for n, v in BASE.items() if n != "n_embd"}, {"n_embd": [8, 16, 24]})
    update = loop.Trainer.update

    def broken(self: loop.Trainer, still: bool = False) -> tuple[float, float]:
        if self.config.n_embd == 16 and self.progress.step == 3:
            raise RuntimeError("a device was lost\nand more")
        return update(self, still)

    told: list[tuple[str, dict[str, object]]] = []
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "update", broken)
        found = sweep(grid, tmp_path / "s", report=lambda key, **values: told.append((key, values)))
    assert [type(each) for each in found] == [Outcome, Failure, Outcome]
    assert found[1] == Failure("2_n_embd=16", {"n_embd": 16}, "RuntimeError: a device was lost")
    assert [values["run"] for key, values in told if key == "sweep.failed"] == ["2_n_embd=16"]
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "s" / "runs").glob("*/metrics.jsonl"))]
    again = done(sweep(grid, tmp_path / "s"))
    assert again[0] == found[0] and again[2] == found[2]
    after = [path.stat().st_mtime_ns for path in sorted((tmp_path / "s" / "runs").glob("*/metrics.jsonl"))]
    assert [a == b for a, b in zip(times, after, strict=True)] == [True, False, True]
    assert without_clock(again) == without_clock(done(sweep(grid, tmp_path / "whole")))


def test_a_run_that_a_signal_stopped_is_gone_on_with(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the signal does not end the process: a handler of the caller's has it."""
    grid = Grid([str(text)], {n: v for n, v in BASE.items() if n != "n_embd"}, {"n_embd": [8, 16]})
    update = loop.Trainer.update

    def stopped(self: loop.Trainer, still: bool = False) -> tuple[float, float]:
        if self.config.n_embd == 8 and self.progress.step == 2 and not still:
            signal.raise_signal(signal.SIGTERM)
        return update(self, still)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(loop.Trainer, "update", stopped)
            found = sweep(grid, tmp_path / "s")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [type(each) for each in found] == [Failure, Outcome]
    assert isinstance(found[0], Failure) and "step 3 of 6" in found[0].error
    again, whole = done(sweep(grid, tmp_path / "s")), done(sweep(grid, tmp_path / "whole"))
    assert [p for p in again[0].curve if p in whole[0].curve] == whole[0].curve  # where it stopped it is measured, too
    assert [replace(o, seconds=0.0, curve=[]) for o in again] == [replace(o, seconds=0.0, curve=[]) for o in whole]


def test_a_run_without_its_last_evaluation_is_no_outcome(text: Path, tmp_path: Path) -> None:
    """Of a log that could not be written to its end."""
    grid = Grid([str(text)], BASE, {"seed": [0]})
    [found] = done(sweep(grid, tmp_path / "s"))
    (tmp_path / "s" / RESULTS).unlink()
    log = tmp_path / "s" / "runs" / found.run / "metrics.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    [again] = sweep(grid, tmp_path / "s")
    assert isinstance(again, Failure) and "metrics.jsonl" in again.error and "6" in again.error


def test_another_grid_in_the_same_folder_is_refused(text: Path, tmp_path: Path) -> None:
    grid = Grid([str(text)], BASE, {"seed": [0]})
    first = sweep(grid, tmp_path / "s")
    before = (tmp_path / "s" / RESULTS).read_bytes()
    for changed, name in (
        (Grid([str(text)], BASE | {"batch_size": 3}, {"seed": [0]}), "batch_size"),
        (Grid([str(text)], BASE, {"seed": [0, 1]}), "seed"),
        (Grid([str(text), str(text)], BASE, {"seed": [0]}), "data"),
    ):
        with pytest.raises(UsageError) as refused:
            sweep(changed, tmp_path / "s")
        assert refused.value.key == "sweep_changed" and refused.value.values["name"] == name
    assert (tmp_path / "s" / RESULTS).read_bytes() == before and sweep(grid, tmp_path / "s") == first


def test_a_packed_corpus_keeps_its_vocabulary(text: Path, tmp_path: Path) -> None:
    manako.corpus.build(text, tmp_path / "c", validation=0.2, min_count=1)
    base = {name: value for name, value in BASE.items() if name != "validation"}
    assert len(done(sweep(Grid([str(tmp_path / "c")], base, {"data": [0.5, 1]}), tmp_path / "s"))) == 2
    with pytest.raises(UsageError) as refused:
        sweep(Grid([str(tmp_path / "c")], base, {"tokenizer": ["char", "bpe:300"]}), tmp_path / "t")
    assert refused.value.key == "sweep_packed"


@pytest.mark.parametrize(("base", "vary", "key"), [
    ({"validation": 0}, {"seed": [1]}, "sweep_nothing_held_out"),
    ({}, {"data": [0.001, 1]}, "sweep_short"),
])  # fmt: skip
def test_text_that_is_not_enough(
    text: Path, tmp_path: Path, base: dict[str, Any], vary: dict[str, list[Any]], key: str
) -> None:
    with pytest.raises(UsageError) as refused:
        sweep(Grid([str(text)], BASE | base, vary), tmp_path / "s")
    assert refused.value.key == key and not (tmp_path / "s" / RESULTS).exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(text: Path, tmp_path: Path) -> None:
    steps = [word for word in WORDS if "steps" not in word]
    words = ["sweep", "--data", str(text), *steps, "--steps", "40", "--vary", "seed=0,1,2", "--lang", "en"]
    env = environment()
    whole = subprocess.run([*MANAKO, *words, "--out", str(tmp_path / "whole")], env=env, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "s"
    kills = 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen([*MANAKO, *words, "--out", str(out)], env=env, stderr=subprocess.DEVNULL)
        runs = out / "runs"
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            begun = list(runs.glob("*/checkpoints/step-*")) if runs.is_dir() else []
            if len(begun) >= 8 * (kills + 1):
                break
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, number)
            kills += 1
        process.wait()
    again = subprocess.run([*MANAKO, "sweep", "--out", str(out), "--lang", "en"], env=env, capture_output=True)
    assert kills >= 2 and again.returncode == 0, again.stderr
    for one, other in zip(done(read_results(out)), done(read_results(tmp_path / "whole")), strict=True):
        assert [p for p in one.curve if p in other.curve] == other.curve  # a stopped run is measured there too
        assert replace(one, seconds=0.0, curve=[]) == replace(other, seconds=0.0, curve=[])
    assert not list(out.rglob(".*.tmp"))
