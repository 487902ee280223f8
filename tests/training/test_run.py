"""`manako.train`: the same run as by the command, from Python, and nothing left of one that makes no sense."""

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manako
from manako.errors import CapabilityError, LoadError, ManakoError, UsageError
from manako.formats import run_folder
from manako.training import run
from manako.training.config import PRESETS
from manako.training.run import DEFAULTS, resume, settings_of
from manako.training.signals import ASKING

TINY: dict[str, Any] = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8, "batch_size": 2, "warmup_steps": 0}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("私は猫である。名前はまだ無い。\n" * 40, encoding="utf-8")
    return tmp_path / "a.txt"


def test_a_run_is_made_opened_and_gone_on_with(text: Path, tmp_path: Path) -> None:
    told: list[str] = []
    seen: list[tuple[str, int]] = []
    out = manako.train(
        text,
        tmp_path / "m",
        steps=4,
        eval_interval=2,
        min_count=1,
        snapshots=0,
        report=lambda key, **_: told.append(key),
        watch=lambda folder, step: seen.append((folder.name, step)),
        also={"sample": "私"},
        **TINY,
    )
    assert out == tmp_path / "m" and run_folder.steps(out) == [0, 2, 4]
    assert seen == [("step-000002", 2), ("step-000004", 4)] and told[-1] == "train.done"
    kept = settings_of(out)
    assert kept["data"] == [str(text)] and kept["sample"] == "私"
    assert kept.keys() >= {name for name, value in DEFAULTS.items() if value is not None}
    model = manako.load(out)
    assert model.config.n_embd == 8 and len(model.trace("私", max_new_tokens=2, seed=0)) == 2
    trace = model.trace("私は", max_new_tokens=1, seed=0)
    assert manako.evidence(trace, 0, out / "corpus").step.index == 0
    resume(out, report=lambda key, **_: told.append(key))
    assert told[-2:] == ["train.resumed", "train.done"]


def test_numbers_of_numpy_and_paths_make_the_same_run(text: Path, tmp_path: Path) -> None:
    numpy = {name: np.int64(value) for name, value in TINY.items()} | {"learning_rate": np.float64(1e-3)}
    more = {"snapshots": np.int32(0), "no_residual": np.bool_(False), "authors": ()}
    one = manako.train(text, tmp_path / "a", steps=2, min_count=1, snapshots=0, learning_rate=1e-3, **TINY)
    two = manako.train(text, tmp_path / "b", steps=np.int64(2), min_count=np.int8(1), **more, **numpy)
    assert (one / "config.toml").read_bytes() == (two / "config.toml").read_bytes()
    resume(two, max_minutes=np.float64(0.5))  # type: ignore[arg-type]
    again = manako.train(text, tmp_path / "c", replay=one, tokenizer=one / "corpus", **TINY)
    with pytest.raises(UsageError, match="replay must be a text, got 5"):
        manako.train(text, tmp_path / "d", replay=5)
    assert settings_of(again)["tokenizer"] == str(one / "corpus") and settings_of(again)["replay"] == str(one)


def test_data_is_text_of_some_kind(text: Path, tmp_path: Path) -> None:
    for wrong in (None, 5, [None], [b"a.txt"]):
        with pytest.raises(UsageError, match="data must be a list of texts"):
            manako.train(wrong, tmp_path / "m")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no documents"):
        manako.train([], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    [entry] = os.scandir(tmp_path)
    made = manako.train(entry, tmp_path / "m", steps=1, **TINY)  # type: ignore[arg-type]
    assert settings_of(made)["data"] == [str(text)]


def test_a_preset_gives_way_to_settings_as_on_the_command_line(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY | {"steps": 2, "seed": 3, "min_count": 1})
    made = settings_of(manako.train(text, tmp_path / "a", preset="tiny", seed=4, n_embd=4))
    assert (made["n_embd"], made["seed"], made["steps"], made["min_count"], made["block_size"]) == (4, 4, 2, 1, 8)
    assert "preset" not in made
    for wrong in ("laptop", 5, ["tiny"]):
        with pytest.raises(UsageError, match="preset must be one of: laptop-5min, laptop-1h, gpu-30min, tiny"):
            manako.train(text, tmp_path / "b", preset=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r'no setting "presets" \(preset\?\)'):
        manako.train(text, tmp_path / "b", presets="tiny")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_is_raised_again_when_all_is_shown_and_said(text: Path, tmp_path: Path, number: int) -> None:
    told: list[object] = []

    @contextlib.contextmanager
    def show(trainer: Any) -> Iterator[None]:
        trainer.tick = lambda loss: signal.raise_signal(number) if trainer.progress.step == 3 else None
        yield
        told.append("the screen is as it was")

    before = signal.signal(number, lambda n, _: told.append(n))
    try:
        with contextlib.suppress(KeyboardInterrupt):
            manako.train(text, tmp_path / "m", steps=50, show=show, report=lambda key, **_: told.append(key), **TINY)
            told.append(None)
    finally:
        signal.signal(number, before)
    end = [] if number == signal.SIGINT else [number, None]  # what the caller's own handler leaves to be done
    assert told[told.index("train.stopping") + 2 :] == ["the screen is as it was", "train.interrupted", *end]


@pytest.mark.parametrize(("settings", "key"), [({"steps": 50}, "train.time_over"), ({}, "train.done")], ids=str)
def test_when_its_time_is_over_it_says_how_to_go_on_to_its_steps(
    text: Path, tmp_path: Path, settings: dict[str, int], key: str
) -> None:
    told: list[str] = []
    manako.train(text, tmp_path / "m", max_minutes=1e-9, report=lambda key, **_: told.append(key), **settings, **TINY)
    assert told[-1] == key and told.count(key) == 1


def test_a_second_trainer_leaves_the_folder_of_the_first(tmp_path: Path) -> None:
    """One that looked before the first had put anything there, and comes to the lock after it."""
    out = tmp_path / "m"
    with run._new_run(out, run.quiet):
        (out / "corpus").mkdir()
        with pytest.raises(ManakoError) as caught, run._new_run(out, run.quiet):
            pytest.fail("two trainers have it")
        assert caught.value.key == "run_in_use" and (out / "corpus").is_dir()
    assert not out.exists()  # it came to no checkpoint


def test_a_second_trainer_that_comes_when_the_first_has_ended_changes_nothing(text: Path, tmp_path: Path) -> None:
    """It looked at the folder while there was nothing in it."""
    out = manako.train(text, tmp_path / "m", steps=2, **TINY)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ManakoError) as caught, run._new_run(out, run.quiet):
        pytest.fail("it has the folder")
    assert caught.value.key == "target_exists_folder"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_without_a_lock_it_is_said_once(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    manako.train(text, tmp_path / "m", steps=2, report=lambda key, **_: told.append(key), **TINY)
    resume(tmp_path / "m", report=lambda key, **_: told.append(key))
    assert told.count("train.unlocked") == 2 and told.count("train.done") == 2


@pytest.mark.parametrize("minutes", [-5, 0, float("nan")])
def test_a_time_that_is_none_is_refused(tmp_path: Path, minutes: float) -> None:
    """Though a run that had ten minutes would have five left."""
    with pytest.raises(UsageError, match="max_minutes must be greater than 0"):
        resume(tmp_path / "m", max_minutes=minutes)


def test_a_packed_corpus_is_taken_as_it_is(text: Path, tmp_path: Path) -> None:
    corpus = manako.corpus.build(text, tmp_path / "c", min_count=1)
    out = manako.train(tmp_path / "c", tmp_path / "m", steps=1, **TINY)
    assert not (out / "corpus").exists() and manako.load(out).config.vocab_size == corpus.vocab_size
    settings = (out / "config.toml").read_text().splitlines()
    (out / "config.toml").write_text("\n".join(line for line in settings if not line.startswith("data = ")))
    with pytest.raises(CapabilityError, match="is not known; give its packed corpus"):
        resume(out, max_minutes=1)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"n_layers": 2}, 'no setting "n_layers" (n_layer?)'),
    ({"n_embd": 10, "n_head": 3}, "cannot be divided"),
    ({"n_layer": 0}, "n_layer must be at least 1"),
    ({"optimizer": "sgd"}, "muon, adamw"),
    ({"tokenizer": "words"}, "words"),
])  # fmt: skip
def test_a_wrong_setting_leaves_nothing(text: Path, tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        manako.train(text, tmp_path / "m", **TINY | {"steps": 1} | settings)
    assert sentence in str(refused.value) and not (tmp_path / "m").exists()


def test_only_a_run_can_be_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as refused:
        resume(tmp_path)
    assert refused.value.key == "run_none"
