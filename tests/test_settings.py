"""The settings of a run: one default each, one meaning whatever way they come in."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from toy import toy_model

import manako
from manako.errors import UsageError
from manako.model import Model
from manako.sampling import Sampling
from manako.settings import COMPARED, SETTINGS, RunSettings


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model()


def test_a_setting_means_the_same_alone_and_in_a_sampling(model: Model) -> None:
    ways: list[dict[str, Any]] = [
        {"top_k": 5},
        {"sampling": Sampling(top_k=5)},
        {"settings": RunSettings(sampling=Sampling(top_k=5))},
        {"settings": RunSettings(), "top_k": 5},
        {"top_k": 5, "temperature": 0.8, "max_new_tokens": 15},
    ]
    traces = [model.trace("私は", seed=3, **way) for way in ways]
    assert {trace.header.sampling for trace in traces} == {Sampling(temperature=0.8, top_k=5)}
    assert len({tuple(trace.columns.token_id.tolist()) for trace in traces}) == 1
    assert {trace.header.max_new_tokens for trace in traces} == {15}


def test_none_leaves_a_setting_and_switches_off_a_stage() -> None:
    told = RunSettings(seed=4, stop=("。",), sampling=Sampling(temperature=0.5, top_k=9))
    nothing = dict.fromkeys(("seed", "stop", "capture", "ablate", "max_new_tokens", "temperature", "order", "sampling"))
    assert told.changed(**nothing) == told
    assert told.changed(top_k=None) == replace(told, sampling=Sampling(temperature=0.5))


def test_values_of_numpy_are_plain_ones() -> None:
    told = RunSettings(max_new_tokens=np.int64(3), seed=np.uint64(7), chat=np.bool_(True), system=np.str_("x"))
    assert told == RunSettings(max_new_tokens=3, seed=7, chat=True, system="x")
    assert [type(getattr(told, name)) for name in ("max_new_tokens", "seed", "chat", "system")] == [int, int, bool, str]


def test_a_seed_is_kept_or_fresh() -> None:
    assert RunSettings(seed=4).seeded().seed == 4
    assert len({RunSettings().seeded().seed for _ in range(5)}) > 1


def test_names_of_all_settings() -> None:
    own = {f.name for f in fields(RunSettings)} - {"sampling"}
    assert {*own, *(f.name for f in fields(Sampling))} == SETTINGS and not own & {f.name for f in fields(Sampling)}
    assert RunSettings().sampling.temperature in COMPARED


@pytest.mark.parametrize(("given", "key"), [
    ({"nonsense": 1}, "sampling_key"),
    ({"sampling": Sampling(), "top_k": 1}, "sampling_twice"),
    ({"sampling": Sampling(), "temperature": 1}, "sampling_twice"),
    ({"max_new_tokens": -1}, "max_new_tokens"),
    ({"seed": -1}, "seed"),
    ({"stop": "x"}, "stop"),
    ({"capture": ["dreams"]}, "capture_unknown"),
    ({"ablate": ["nose:1"]}, "ablate_form"),
    ({"temperature": -1}, "temperature"),
    ({"order": ["top_k"]}, "order_missing"),
    ({"order": "temperatur"}, "order_unknown"),
    ({"order": 5}, "order_unknown"),
    ({"sampling": {"temperature": 1}}, "setting_type"),
    ({"sampling": 0.8}, "setting_type"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(given: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError) as refused:
        RunSettings().changed(**given)
    assert refused.value.key == key


@pytest.mark.parametrize("given", [{"temperature": 1}, None, (), "greedy"], ids=str)
def test_a_sampling_is_a_sampling(given: Any) -> None:
    with pytest.raises(UsageError) as refused:
        RunSettings(sampling=given)
    assert refused.value.key == "setting_type" and str(given) in str(refused.value) + refused.value.text("ja")


def test_one_stage_alone_is_an_order_of_it() -> None:
    assert Sampling(order="temperature") == Sampling(order=("temperature",))  # type: ignore[arg-type]
    assert RunSettings().changed(order="temperature", temperature=1).sampling.order == ("temperature",)


def test_a_text_is_scored_at_temperature_1(model: Model) -> None:
    assert model.score("私は猫").header.sampling == Sampling(temperature=1)


def test_a_record_says_its_own_temperature() -> None:
    values = Sampling().to_dict()
    del values["temperature"]
    with pytest.raises(UsageError):
        Sampling.from_dict(values)


def test_a_comparison_takes_all_settings(model: Model) -> None:
    found = manako.compare(model, "私は", max_new_tokens=2, top_k=5)
    assert found.temperatures == COMPARED
    assert {trace.header.sampling.top_k for trace in found.traces} == {5}
