"""Settings that make no sense are refused with their name; TOML goes out and in; every field has its sentence."""

import math
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manako import messages
from manako.errors import LoadError, UsageError
from manako.training.config import TrainingConfig, read_toml, to_toml, training_settings


@pytest.mark.parametrize("settings", [
    {"steps": 0},
    {"batch_size": 0},
    {"batch_size": True},
    {"eval_interval": 1.5},
    {"keep": 0},
    {"seed": -1},
    {"seed": 2**64},
    {"micro_batch": 2**64},
    {"batch_size": None},
    {"warmup_steps": -1},
    {"learning_rate": 0.0},
    {"learning_rate": -1.0},
    {"learning_rate": math.nan},
    {"muon_rate": math.inf},
    {"weight_decay": -0.1},
    {"max_minutes": 0},
    {"max_minutes": "5"},
    {"steps": np.float64(6)},
    {"steps": np.bool_(True)},
    {"learning_rate": np.float64("nan")},
], ids=str)  # fmt: skip
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingConfig(**settings)
    assert caught.value.key == "training_range" and caught.value.values["name"] in settings


@pytest.mark.parametrize("settings", [{"optimizer": "sgd"}, {"schedule": "flat"}, {"dtype": "float16"}], ids=str)
def test_choices_are_listed(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingConfig(**settings)
    assert caught.value.key == "cli_choice" and caught.value.values["name"] in settings


def test_toml_goes_out_and_in(tmp_path: Path) -> None:
    config = TrainingConfig(steps=7, max_minutes=0.5, keep=2)
    text = to_toml(asdict(config) | {"data": ["猫 \"'\\\n", "b"], "traces": True})
    (tmp_path / "c.toml").write_bytes(text)
    settings = read_toml(tmp_path / "c.toml")
    assert training_settings(settings) == config
    assert settings["data"] == ["猫 \"'\\\n", "b"] and settings["traces"] is True


@pytest.mark.parametrize(
    "data",
    [b"a = ", b"\xff = 1", b"a = 1\na = 2", b"[" * 100_000, b"seed = " + b"9" * 5000],
    ids=["half", "bytes", "twice", "deep", "digits"],
)
def test_bad_toml_names_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(data)
    with pytest.raises(LoadError) as caught:
        read_toml(tmp_path / "c.toml")
    assert caught.value.key == "toml_invalid" and "c.toml" in str(caught.value)


def test_every_field_has_a_sentence_for_its_flag() -> None:
    keys = messages.catalog("en")
    assert [f.name for f in fields(TrainingConfig) if f"option.{f.name}" not in keys] == []


def test_whole_numbers_beyond_any_float_are_refused() -> None:
    with pytest.raises(UsageError):
        TrainingConfig(learning_rate=10**400)  # type: ignore[arg-type]


def test_a_text_with_delete_in_it_is_read_back() -> None:
    assert tomllib.loads(to_toml({"sample": "a\x7fb"}).decode()) == {"sample": "a\x7fb"}


def test_numbers_of_numpy_and_paths_are_plain_values() -> None:
    told = {"steps": np.int64(6), "learning_rate": np.float32(0.5), "seed": np.uint64(2**64 - 1), "replay": Path("a")}
    config = TrainingConfig(**told)
    assert config == TrainingConfig(steps=6, learning_rate=0.5, seed=2**64 - 1, replay="a")
    assert {type(value) for value in asdict(config).values()} <= {int, float, str, type(None)}


def test_what_else_is_kept_may_be_of_numpy() -> None:
    kept = {"probe": (np.str_("a=b"),), "n": np.int64(5), "on": np.bool_(True), "file": Path("a"), "left_out": None}
    said = {"probe": ["a=b"], "n": 5, "on": True, "file": "a"}
    assert tomllib.loads(to_toml(kept).decode()) == said


def test_a_run_to_follow_is_a_path() -> None:
    with pytest.raises(UsageError) as caught:
        TrainingConfig(replay=5)  # type: ignore[arg-type]
    assert caught.value.key == "setting_text" and caught.value.values["name"] == "replay"
