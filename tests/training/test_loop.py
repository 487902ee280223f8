"""Training end to end at toy size: it learns, stops cleanly, leaves folders that open, and goes on bit by bit."""

import hashlib
import json
import math
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from small_runs import SHAPE, TEXT, checkpoint_bytes, corpus_of, metrics, resume, timeless, train, trainer
from toy import worst

import manako
from manako.corpus.packed import header_digest
from manako.errors import LoadError, ManakoError, UsageError
from manako.files import megabytes
from manako.formats import run_folder
from manako.formats.model_folder import read_checkpoint
from manako.tokenizer import Tokenizer
from manako.training import loop
from manako.training.loop import End, Progress
from manako.training.model import GPT
from manako.training.processes import Processes
from manako.training.signals import ASKING
from manako.training.snapshots import all_due
from manako.training.state import keep_lines, read_state


def test_a_tiny_run_learns_and_every_checkpoint_opens(tmp_path: Path) -> None:
    lines, steps = train(tmp_path / "m"), metrics(tmp_path / "m")
    evaluated = [s for s in steps if "validation_loss" in s]
    assert f"{steps[-1]['loss']:.3f}" in lines[-1] and [s["step"] for s in evaluated] == [20, 40, 60]
    assert [s["step"] for s in steps] == [1, 10, 20, 30, 40, 50, 60]
    vocabulary = 257 + len(set(TEXT))
    assert steps[-1]["loss"] < 0.5 * math.log(vocabulary) < steps[0]["loss"]
    assert evaluated[-1]["validation_loss"] < evaluated[0]["validation_loss"] < math.log(vocabulary)
    assert run_folder.steps(tmp_path / "m") == [0, 20, 40, 60]

    model = manako.load(tmp_path / "m")
    assert model.notices == () and model.config.start_id == 0
    theirs = GPT(model.config)
    state = {
        n: torch.from_numpy(np.array(t))
        for n, t in read_checkpoint(run_folder.checkpoint(tmp_path / "m")).tensors.items()
    }
    theirs.load_state_dict(state, strict=True)
    ids = model.tokenizer.encode(TEXT)[:16]
    with torch.no_grad():
        assert worst(model.rows(ids), theirs(torch.tensor([ids]))[0].numpy()) <= 1e-5
    assert "猫" in model.trace("私は", max_new_tokens=8, temperature=0).text


def test_a_run_leaves_snapshots_and_they_are_spared(tmp_path: Path) -> None:
    """Dense at first, then even, at most as many as asked for; the plan says how many and how large."""
    lines = train(tmp_path / "m", snapshots=12, keep=1)
    assert run_folder.steps(tmp_path / "m") == [0, 1, 2, 7, 14, 20, 27, 34, 40, 47, 54, 60]
    folder = run_folder.step_folder(tmp_path / "m", 7)
    assert not (folder / run_folder.STATE).exists() and manako.load(f"run:{tmp_path / 'm'}@7").trace("私は")
    size = (folder / "model.safetensors").stat().st_size + (folder / "tokenizer.json").stat().st_size
    said = next(line for line in lines if "--snapshots" in line)
    assert "12" in said and megabytes(12 * size).split()[-1] in said
    assert not any("--snapshots" in line for line in train(tmp_path / "none"))
    assert checkpoint_bytes(tmp_path / "m", 60) == checkpoint_bytes(tmp_path / "none", 60)


def test_a_stopped_run_has_the_snapshots_of_the_whole_one(tmp_path: Path) -> None:
    """To the bit; what a killed trainer left behind its last checkpoint is made again."""
    corpus = corpus_of(tmp_path / "corpus")
    train(tmp_path / "whole", corpus, snapshots=12)
    made, _ = trainer(tmp_path / "m", corpus, snapshots=12)
    made.save()

    def stop(loss: float) -> None:
        if made.progress.step == 30:
            raise RuntimeError

    made.tick = stop
    with pytest.raises(RuntimeError):
        made.go()
    assert run_folder.steps(tmp_path / "m")[-1] == 27
    resume(tmp_path / "m", corpus, snapshots=12)
    weights = [
        [(run_folder.step_folder(run, n) / "model.safetensors").read_bytes() for n in run_folder.steps(run)]
        for run in (tmp_path / "whole", tmp_path / "m")
    ]
    assert weights[0] == weights[1] and len(weights[0]) == 12


def test_a_run_of_a_given_time_has_its_snapshots_evenly_over_the_time(tmp_path: Path) -> None:
    """Whatever its steps take: here those of the second half take three times as long."""
    shares = [*(n / 120 for n in range(60)), *(0.5 + 0.5 * n / 20 for n in range(20)), 1.0]
    steps = sorted(all_due(shares[:-1], shares[-1], 16))
    assert [shares[n] for n in steps if n not in (0, 1, 2, 4)] == pytest.approx(
        [n / 12 for n in range(1, 13)], abs=0.05
    )
    assert len(steps) == 16 and all_due(shares[:-1], 1.0, 0) == set()


def test_bits_are_those_of_the_characters_and_bytes_of_the_held_out_text(tmp_path: Path) -> None:
    """One character of three bytes a token, and start tokens, which stand for no character."""
    made, _ = trainer(tmp_path / "m", corpus_of(tmp_path / "c", "あい" * 400))
    result, scored = made.evaluate(), made.held_out.tokens
    assert scored == made.held_out.characters == len(made.corpus.validation) - 2  # both starts stand for no character
    assert result["perplexity"] == pytest.approx(math.exp(result["validation_loss"]))
    assert result["bits_per_character"] == pytest.approx(result["validation_loss"] / math.log(2))
    assert result["bits_per_byte"] == pytest.approx(result["bits_per_character"] / 3)


class OneOfMany(Processes):
    """A process that hears nothing of the others."""

    def total(self, *values: float) -> list[float]:
        return list(values)

    def share(self, weights: object) -> None: ...


def test_processes_share_an_evaluation_also_of_fewer_windows_than_there_are_of_them(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "c", "あい" * 140)
    losses = [trainer(tmp_path / "m", corpus, here=OneOfMany(n, 5))[0].evaluate() for n in range(5)]
    made, _ = trainer(tmp_path / "m", corpus)
    assert len(made.held_out.ids) == 3 and losses[3]["validation_loss"] == losses[4]["validation_loss"] == 0
    whole = made.evaluate()["validation_loss"]
    assert sum(each["validation_loss"] for each in losses) == pytest.approx(whole)


@pytest.mark.parametrize("switches", [{"residual": False}, {"norm": "post"}, {"attention": False}], ids=str)
def test_ablated_runs_open_as_what_they_are(tmp_path: Path, switches: dict[str, Any]) -> None:
    train(tmp_path / "m", steps=4, eval_interval=2, shape=switches)
    model = manako.load(tmp_path / "m")
    assert len(model.info.switches) == 1 and model.trace("私", max_new_tokens=2).header.model.switches


def test_two_runs_are_equal_bit_by_bit_and_another_seed_is_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / name, steps=12, eval_interval=6, seed=seed)
    files = {name: checkpoint_bytes(tmp_path / name, 12) for name in "abc"}
    assert files["a"] == files["b"] != files["c"]
    assert timeless(tmp_path / "a") == timeless(tmp_path / "b")


def test_watching_a_run_changes_no_weight(tmp_path: Path) -> None:
    def watch(folder: Path, step: int) -> None:
        torch.rand(3)
        manako.load(folder).trace("私", max_new_tokens=3, seed=0)

    train(tmp_path / "a", watch=watch, steps=12, eval_interval=4)
    train(tmp_path / "b", steps=12, eval_interval=4)
    assert (run_folder.step_folder(tmp_path / "a", 12) / "model.safetensors").read_bytes() == (
        run_folder.step_folder(tmp_path / "b", 12) / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_in_two_parts_equals_the_whole_one(tmp_path: Path, optimizer: str) -> None:
    """37 + 63 steps, with warm-up, clipping and evaluations in between; the text is gone through several times."""
    settings: dict[str, Any] = {"steps": 100, "eval_interval": 25, "optimizer": optimizer, "micro_batch": 3}
    train(tmp_path / "whole", **settings)
    made, _ = trainer(tmp_path / "parts", corpus_of(tmp_path / "corpus"), **settings)
    made.plan()
    made.save()
    stop_after(made, 37)
    assert made.go() == End("signal", signal.SIGINT)
    assert run_folder.pointed(tmp_path / "parts", "last") == run_folder.step_folder(tmp_path / "parts", 37)
    resume(tmp_path / "parts", **settings)
    for step in (75, 100):
        assert checkpoint_bytes(tmp_path / "whole", step) == checkpoint_bytes(tmp_path / "parts", step)
    parts = timeless(tmp_path / "parts")
    assert timeless(tmp_path / "whole") == [line for line in parts if line["step"] != 37]
    assert "validation_loss" in next(line for line in parts if line["step"] == 37)  # it was judged where it was stopped
    assert (tmp_path / "whole" / "best").read_text() == (tmp_path / "parts" / "best").read_text()


def stop_after(made: Any, step: int, number: int = signal.SIGINT) -> None:
    """Let a signal arrive while a step is computed."""
    update = made.update

    def counted() -> Any:
        if made.progress.step == step - 1:
            signal.raise_signal(number)
        return update()

    made.update = counted


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    made, lines = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"))
    made.plan()
    made.save()
    update = made.update

    def twice() -> Any:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        return update()

    made.update = twice
    with pytest.raises(KeyboardInterrupt):
        made.go()
    assert made.progress.step == 0 and run_folder.pointed(tmp_path / "m", "last").name == "step-000000"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", ASKING)
def test_an_ignored_signal_ends_no_training(tmp_path: Path, number: int) -> None:
    """As SIGHUP under `nohup`, and SIGINT in the background of a script."""
    made, lines = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), steps=12)
    made.save()
    stop_after(made, 5, number)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert made.go() == End("done")
    finally:
        signal.signal(number, before)
    assert run_folder.steps(tmp_path / "m") == [0, 12] and not any("stopping" in line for line in lines)


@dataclass(frozen=True)
class Beside(Processes):
    """A process with another one beside it, which a signal reaches in the fifth step; so it is one sum in each step."""

    asked: list[tuple[float, ...]] = field(default_factory=list)

    def total(self, *values: float) -> list[float]:
        if len(values) > 1:
            self.asked.append(values)
        reached = [len(values) > 1 and len(self.asked) == 5 and s == signal.SIGTERM for s in ASKING]
        return [value + there for value, there in zip(values, [*reached, 0], strict=False)]


def test_a_signal_to_another_process_is_no_end_of_the_time(tmp_path: Path) -> None:
    made, lines = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), here=Beside(), steps=100)
    made.save()
    assert made.go() == End("signal", signal.SIGTERM) and made.progress.step == 5
    assert "stopping after step 5" in " ".join(lines)


def test_a_signal_while_the_last_step_is_saved_is_known_and_the_run_is_done(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), steps=4, eval_interval=4)
    made.save()
    made.logged = lambda line: signal.raise_signal(signal.SIGTERM) if line["step"] == 4 else None
    assert made.go() == End("done", signal.SIGTERM)


def test_time_over_leaves_a_checkpoint(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), steps=50, max_minutes=1e-9)
    made.save()
    assert made.go() == End("time") and run_folder.steps(tmp_path / "m") == [0, 1]


def test_a_plan_moves_no_weight(tmp_path: Path) -> None:
    made, lines = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), steps=None, max_minutes=0.1)
    before = {n: p.clone() for n, p in made.model.named_parameters()}
    made.plan()
    assert made.training.steps is None and not made.shares
    assert made.progress == Progress(evaluation_seconds=made.progress.evaluation_seconds)
    assert all(torch.equal(p, before[n]) for n, p in made.model.named_parameters())
    assert "the learning rate follows the clock" in " ".join(lines)


class Clock:
    """A machine that is busy at first: each step takes 4 seconds, later half a one."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = staticmethod(time.perf_counter)

    def watch(self, made: Any) -> None:
        update = made.update

        def slow() -> Any:
            self.now += 4.0 if self.now < 24 else 0.5
            return update()

        made.update = slow


def timed(run: Path, monkeypatch: pytest.MonkeyPatch, until: int | None = None) -> Any:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    made, _ = trainer(run, corpus_of(run.parent / "corpus"), steps=None, max_minutes=1.0, eval_interval=7)
    made.plan()
    made.save()
    if until:
        stop_after(made, until)
    clock.watch(made)
    return made


def test_the_rate_follows_the_clock_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = timed(tmp_path / "m", monkeypatch)
    made.go()
    lines = metrics(tmp_path / "m")
    assert made.progress.seconds == pytest.approx(60, abs=1) and made.progress.done == lines[-1]["done"] == 1
    assert (
        made.shares == sorted(made.shares)
        and made.shares[0] == 0
        and made.shares[5] == pytest.approx(20 / 60, abs=0.01)
    )
    assert (
        lines[-1]["learning_rate"] < 0.02 * made.training.learning_rate < 0.5 * max(x["learning_rate"] for x in lines)
    )
    assert (
        "validation_loss" in lines[-1]
        and run_folder.pointed(tmp_path / "m", "last").name == f"step-{made.progress.step:06d}"
    )
    again, _ = trainer(tmp_path / "m", made.corpus, steps=None, max_minutes=1.0, eval_interval=7)
    folder = run_folder.pointed(tmp_path / "m", "last")
    again.restore(read_checkpoint(folder), folder)
    again.extend(None)
    again.go()
    assert again.progress == made.progress  # it is over, and stays so
    again.extend(1.0)
    assert again.progress.done == pytest.approx(0.5, abs=0.02)


def test_a_timed_run_that_was_resumed_can_be_replayed_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timed(tmp_path / "m", monkeypatch, until=9).go().why == "signal"
    resumed, _ = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), steps=None, max_minutes=1.0, eval_interval=7)
    folder = run_folder.pointed(tmp_path / "m", "last")
    resumed.restore(read_checkpoint(folder), folder)
    loop.time.watch(resumed)  # type: ignore[attr-defined]
    resumed.go()
    steps = resumed.progress.step
    assert steps > 20
    monkeypatch.undo()
    replay = {"steps": None, "max_minutes": None, "eval_interval": 7, "replay": str(tmp_path / "m")}
    train(tmp_path / "again", resumed.corpus, **replay)
    assert checkpoint_bytes(tmp_path / "again", steps) == checkpoint_bytes(tmp_path / "m", steps)
    assert run_folder.steps(tmp_path / "again")[-1] == steps
    train(tmp_path / "by steps", resumed.corpus, steps=steps, eval_interval=7)
    assert checkpoint_bytes(tmp_path / "by steps", steps) != checkpoint_bytes(tmp_path / "m", steps)


def back(run: Path, corpus: Any, **settings: Any) -> Any:
    """A trainer that has gone back to the last checkpoint."""
    made, _ = trainer(run, corpus, **settings)
    folder = run_folder.pointed(run, "last")
    made.restore(read_checkpoint(folder), folder)
    return made


def test_more_time_is_there_also_when_a_resumed_run_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = timed(tmp_path / "m", monkeypatch)
    made.go()
    told = {"steps": None, "max_minutes": 1.0, "eval_interval": 7}
    longer = back(tmp_path / "m", made.corpus, **told)
    longer.extend(1.0)
    loop.time.watch(longer)  # type: ignore[attr-defined]
    stop_after(longer, made.progress.step + 3)
    assert longer.go().why == "signal" and longer.progress.done < 0.6
    again = back(tmp_path / "m", made.corpus, **told)
    again.extend(None)
    loop.time.watch(again)  # type: ignore[attr-defined]
    again.go()
    assert again.progress.seconds == pytest.approx(120, abs=1)
    loop.time.now = 0.0  # type: ignore[attr-defined]
    sooner = back(tmp_path / "m", made.corpus, **told)
    sooner.extend(0.5)
    loop.time.watch(sooner)  # type: ignore[attr-defined]
    sooner.go()
    assert sooner.progress.seconds == pytest.approx(150, abs=4)  # at first its steps take four seconds again


def test_a_run_of_given_steps_goes_to_the_last_of_them_whatever_time_it_had(tmp_path: Path) -> None:
    corpus, told = corpus_of(tmp_path / "corpus"), {"steps": 9, "max_minutes": 1e-9}
    train(tmp_path / "m", corpus, **told)
    for minutes, step in ((1e-9, 2), (None, 9)):
        made = back(tmp_path / "m", corpus, **told)
        made.extend(minutes)
        made.go()
        assert made.progress.step == step


def test_more_time_of_a_replay_is_its_end_too(tmp_path: Path) -> None:
    """The time of the run itself is not: its settings are those of the run that it repeats."""
    corpus = corpus_of(tmp_path / "corpus")
    train(tmp_path / "m", corpus, steps=9)
    told = {"steps": None, "max_minutes": 1e-9, "replay": str(tmp_path / "m")}
    made, _ = trainer(tmp_path / "again", corpus, **told)
    made.save()
    stop_after(made, 4)
    assert made.go().why == "signal"
    for minutes, why, step in ((1e-9, "time", 5), (None, "done", 9)):
        made = back(tmp_path / "again", corpus, **told)
        made.extend(minutes)
        assert made.go().why == why and made.progress.step == step


def test_a_resumed_run_leaves_room_for_its_last_evaluation(tmp_path: Path) -> None:
    corpus, told = corpus_of(tmp_path / "corpus"), {"steps": None, "max_minutes": 1.0}
    made, _ = trainer(tmp_path / "m", corpus, **told)
    made.evaluate()
    made.progress.evaluation_seconds = 12.0
    made.save()
    made = back(tmp_path / "m", corpus, **told)
    made.progress.seconds = 47.9
    assert made.share() < 1
    made.progress.seconds = 48.0
    assert made.share() == 1
    for minutes, seconds in ((1.0, 48.0), (0.1, 3.0)):  # of a short time a half at least is trained
        made.extend(minutes)
        assert made.progress.ends_after == pytest.approx(48.0 + seconds)
    made.evaluate()
    assert 0 < made.progress.evaluation_seconds < 12


@pytest.mark.parametrize(("steps", "key"), [(2, "0.22"), (20, ""), (900, "96")])
def test_a_plan_far_from_one_epoch_says_so(tmp_path: Path, steps: int, key: str) -> None:
    made, lines = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), steps=steps)
    made.plan()
    warned = [line for line in lines if "this plan" in line]
    assert len(warned) == bool(key) and all(key in line for line in warned), lines


@pytest.mark.parametrize("block_size", [15, 16, 300, 5000])
def test_one_checkpoint_and_text_have_one_figure(tmp_path: Path, block_size: int) -> None:
    """The line of a training and `manako eval` on the text that was held out: odd contexts, one window, and less."""
    corpus = corpus_of(tmp_path / "c", TEXT + "龘\n")
    train(tmp_path / "m", corpus, steps=6, eval_interval=6, shape={"block_size": min(block_size, 800)})
    side = corpus.validation.windows([0], len(corpus.validation))[0]
    text = Tokenizer(corpus.tokenizer_source).decode(side[1:-1].tolist()).decode()
    said, model = metrics(tmp_path / "m")[-1], manako.load(tmp_path / "m")
    for found in (model.evaluate(text), model.evaluate_ids(side.tolist())):
        assert found.loss == pytest.approx(said["validation_loss"], abs=2e-6)
        assert found.bits_per_character == pytest.approx(said["bits_per_character"], abs=3e-6)
        assert found.bits_per_byte == pytest.approx(said["bits_per_byte"], abs=3e-6)


def test_best_follows_the_validation_loss_and_keep_thins(tmp_path: Path) -> None:
    """A rate that rises without end makes a run worse after its first evaluations."""
    train(tmp_path / "m", steps=60, eval_interval=10, keep=2)
    losses = {m["step"]: m["validation_loss"] for m in metrics(tmp_path / "m") if "validation_loss" in m}
    best = min(losses, key=lambda s: losses[s])
    assert run_folder.pointed(tmp_path / "m", "best") == run_folder.step_folder(tmp_path / "m", best)
    assert run_folder.steps(tmp_path / "m") == sorted({best, 50, 60})
    with_state = [
        s
        for s in run_folder.steps(tmp_path / "m")
        if (run_folder.step_folder(tmp_path / "m", s) / run_folder.STATE).exists()
    ]
    assert with_state == [50, 60]


def test_a_text_shorter_than_a_block_says_what_is_needed(tmp_path: Path) -> None:
    """A document of n characters is n + 2 tokens, with the start before and after it."""
    for characters, fits in ((14, False), (15, True)):
        corpus = corpus_of(tmp_path / f"c{characters}", "あ" * characters, validation=0.0)
        assert len(corpus.train) == characters + 2
        if fits:
            train(tmp_path / "fits", corpus, steps=2)
            continue
        with pytest.raises(UsageError) as caught:
            train(tmp_path / "short", corpus)
        assert caught.value.key == "text_too_short"
        assert caught.value.values == {"need": "17", "got": "16", "block_size": "16"}


def test_no_validation_text_is_said_and_never_nan(tmp_path: Path) -> None:
    lines = train(tmp_path / "m", corpus_of(tmp_path / "c", TEXT, validation=0.0), steps=4, eval_interval=2)
    assert all("validation_loss" not in m for m in metrics(tmp_path / "m")) and "too little text" in " ".join(lines)
    assert "NaN" not in (tmp_path / "m" / "metrics.jsonl").read_text() and not (tmp_path / "m" / "best").exists()
    assert manako.load(tmp_path / "m").trace("私", max_new_tokens=1)


def test_one_repeated_character_trains_to_a_loss_near_zero(tmp_path: Path) -> None:
    train(tmp_path / "m", corpus_of(tmp_path / "c", "あ" * 4000), steps=60)
    last = metrics(tmp_path / "m")[-1]
    assert math.isfinite(last["loss"]) and 0 <= last["loss"] < 0.2


def test_one_batch_is_learned_by_heart(tmp_path: Path) -> None:
    text = "私は猫である。名前はまだ無い。ど"
    train(tmp_path / "m", corpus_of(tmp_path / "c", text, validation=0.0), steps=150, batch_size=1)
    assert metrics(tmp_path / "m")[-1]["loss"] < 0.01


def test_a_loss_that_is_not_finite_stops_and_the_last_checkpoint_is_good(tmp_path: Path) -> None:
    with pytest.raises(ManakoError) as caught:
        train(tmp_path / "m", learning_rate=1e30, grad_clip=1e30, warmup_steps=1, optimizer="adamw", eval_interval=1)
    assert caught.value.key == "loss_not_finite" and caught.value.exit_code == 1
    assert "NaN" not in (tmp_path / "m" / "metrics.jsonl").read_text(encoding="utf-8")
    manako.load(f"run:{tmp_path / 'm'}@0").trace("私", max_new_tokens=2)


def test_micro_batches_change_rounding_alone(tmp_path: Path) -> None:
    for name, rows in (("whole", None), ("parts", 3)):
        train(tmp_path / name, steps=10, micro_batch=rows)
    a, b = (metrics(tmp_path / name)[-1]["loss"] for name in ("whole", "parts"))
    assert a == pytest.approx(b, abs=1e-5)


# --- what does not fit, on resume -------------------------------------------------------------------------------------


def test_another_corpus_is_refused_and_the_run_is_untouched(tmp_path: Path) -> None:
    train(tmp_path / "m", steps=4, eval_interval=2)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    other = corpus_of(tmp_path / "other", TEXT + "また。")
    with pytest.raises(UsageError) as caught:
        resume(tmp_path / "m", other, steps=8)
    assert caught.value.key == "resume_corpus" and caught.value.exit_code == 2
    assert other.digest[:12] in str(caught.value)
    assert [n for n in before if "other" not in n] == before


@pytest.mark.parametrize("name", [run_folder.STATE, run_folder.STATE_ARRAYS])
def test_a_damaged_or_missing_state_is_refused(tmp_path: Path, name: str) -> None:
    train(tmp_path / "m", steps=2, eval_interval=2)
    path = run_folder.step_folder(tmp_path / "m", 2) / name
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(LoadError):
            read_state(path.parent)
    path.write_bytes(data)
    assert read_state(path.parent)
    path.unlink()
    with pytest.raises(LoadError) as caught:
        resume(tmp_path / "m", steps=4)
    assert caught.value.key == "file_missing"


def test_the_state_names_everything(tmp_path: Path) -> None:
    train(tmp_path / "m", steps=2, eval_interval=2)
    recipe, state = read_state(run_folder.step_folder(tmp_path / "m", 2))
    assert recipe["step"] == 2 and recipe["position"] == 16 and recipe["best_step"] == 2
    assert {
        "torch_rng",
        "momentum/h.0.attn.c_attn.weight",
        "exp_avg/wte.weight",
        "exp_avg_sq/ln_f.bias",
    } <= state.keys()
    assert SHAPE["n_embd"] == state["exp_avg/ln_f.bias"].shape[0]


# --- a run is judged where it ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, None], ids=str)
def test_a_run_that_is_stopped_is_judged_where_it_ends(tmp_path: Path, number: int | None) -> None:
    """Between two evaluations, by a signal or when the time is over: `best` means the best of all that was trained."""
    settings: dict[str, Any] = {"steps": 1000, "eval_interval": 1000}
    if number is None:
        settings["max_minutes"] = 60.0
    made, lines = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), **settings)
    made.plan()
    made.save()
    if number is None:

        def tick(loss: float) -> None:
            made.progress.seconds = 1e6 if made.progress.step == 37 else 1.0

        made.tick = tick
        assert made.go() == End("time")
        bits = f"{metrics(tmp_path / 'm')[-1]['bits_per_character']:.3f}"
        assert any("37" in line and bits in line for line in lines)
    else:
        stop_after(made, 37, number)
        assert made.go() == End("signal", number)
    run = tmp_path / "m"
    assert run_folder.pointed(run, "last") == run_folder.pointed(run, "best") == run_folder.step_folder(run, 37)
    state, _ = read_state(run_folder.step_folder(run, 37))
    last = metrics(run)[-1]
    assert (last["step"], state["best_step"], state["best_loss"]) == (37, 37, last["validation_loss"])


def test_a_second_signal_while_it_is_judged_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = trainer(tmp_path / "m", corpus_of(tmp_path / "corpus"), steps=100, eval_interval=100)
    made.plan()
    made.save()
    stop_after(made, 7)

    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(made, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.go()
    run = tmp_path / "m"
    assert run_folder.pointed(run, "last") == run_folder.step_folder(run, 7)
    resume(run, steps=100, eval_interval=100)
    assert run_folder.steps(run)[-1] == 100


# --- settings on record are settings used -----------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [{"batch_size": 4}, {"seed": 7}, {"learning_rate": 0.5}, {"optimizer": "adamw"},
                                     {"warmup_steps": 3}, {"steps": 70}], ids=str)  # fmt: skip
def test_other_settings_than_those_of_the_state_are_named(tmp_path: Path, changed: dict[str, Any]) -> None:
    train(tmp_path / "m", steps=20)
    with pytest.raises(UsageError) as caught:
        resume(tmp_path / "m", **{"steps": 20} | changed)
    ((name, value),) = changed.items()
    assert caught.value.key == "resume_setting" and caught.value.values["name"] == name
    assert caught.value.values["now"] == str(value) != caught.value.values["was"]


def test_a_state_of_an_older_schema_is_believed(tmp_path: Path) -> None:
    train(tmp_path / "m", steps=20)
    path = run_folder.step_folder(tmp_path / "m", 20) / run_folder.STATE
    lacks = ["ends_after", "evaluation_seconds", "done", "threads", "settings"]
    for version, count in ((3, 2), (2, 3), (1, 5)):
        old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("digest", *lacks[:count])}
        old["schema"] = f"manako.training/{version}"
        path.write_text(json.dumps(old | {"digest": header_digest(old)}))
        assert resume(tmp_path / "m", steps=20).progress.step == 20


@pytest.mark.parametrize("change", [{"step": "20"}, {"step": -1}, {"position": True}, {"seconds": None},
                                    {"best_step": 1.5}, {"ends_after": 0}, {"evaluation_seconds": None},
                                    {"settings": []}, {"odd": 1}], ids=str)  # fmt: skip
def test_a_state_that_lies_is_a_load_error(tmp_path: Path, change: dict[str, Any]) -> None:
    train(tmp_path / "m", steps=20)
    path = run_folder.step_folder(tmp_path / "m", 20) / run_folder.STATE
    found = {k: v for k, v in json.loads(path.read_text()).items() if k != "digest"} | change
    path.write_text(json.dumps(found | {"digest": header_digest(found)}))
    with pytest.raises(LoadError):
        read_state(path.parent)


F8 = b'{"shares":{"dtype":"F8_E4M3","shape":[20],"data_offsets":[0,20]}}'


def test_arrays_that_fit_their_digest_and_nothing_else_are_a_load_error(tmp_path: Path) -> None:
    """A run from somebody else, who has computed every digest anew."""
    train(tmp_path / "m", steps=20)
    folder = run_folder.step_folder(tmp_path / "m", 20)
    other = {"shares": np.zeros(20, np.int64)}, {"torch_rng": np.zeros(3, np.uint8), "shares": np.arange(20) / 20}
    for data in (b"", b"garbage", len(F8).to_bytes(8, "little") + F8 + bytes(20), *map(safetensors.numpy.save, other)):
        (folder / run_folder.STATE_ARRAYS).write_bytes(data)
        found = json.loads((folder / run_folder.STATE).read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
        del found["digest"]
        (folder / run_folder.STATE).write_text(json.dumps(found | {"digest": header_digest(found)}))
        with pytest.raises(LoadError) as caught:
            resume(tmp_path / "m", steps=20)
        assert caught.value.key in ("safetensors_damaged", "training_state_other")


def test_damaged_lines_of_the_log_are_dropped(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"step": 1}\n\xff\xfe\n[1]\n{"a": 1}\n{"step": "2"}\n{"step": 3}\n{"step": 9}\n{"st')
    keep_lines(log, 5)
    assert log.read_bytes() == b'{"step": 1}\n{"step": 3}\n'
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(LoadError):
        keep_lines(log, 5)
