"""What an engine is: the members every one has, how a lack is told, and one text in it."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from toy import toy_model
from toy_llama import toy_llama_config, toy_llama_weights

from manako.engines.protocol import Editable, Engine, editable, lacking, need
from manako.engines.session import Session
from manako.errors import CapabilityError
from manako.families.llama import NumpyLlama
from manako.model import Model
from manako.trace import windows
from manako.trace.schema import CAPTURES


class Told:
    """Another engine that lacks more."""

    def __init__(self, engine: Engine, lacks: Mapping[str, str], captures: Sequence[str] = CAPTURES) -> None:
        self.engine, self.lacks, self.captures = engine, lacks, captures

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def members(protocol: type) -> set[str]:
    return {name for name in dir(protocol) if not name.startswith("_")}


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(start_id=None)


def test_the_numpy_models_have_every_member(model: Model) -> None:
    config = toy_llama_config()
    for engine in (model.engine, NumpyLlama(config, toy_llama_weights(config))):
        assert editable(engine) and members(Editable) <= set(dir(engine))
    assert {"forward", "lacks", "config"} <= members(Engine) < members(Editable)  # the comparison sees something


def test_an_engine_without_rows_is_asked_for_none(model: Model) -> None:
    engine = Told(model.engine, {"rows": "lacks.hf_blocks"})
    with pytest.raises(CapabilityError, match="rows: this model cannot provide it: no single residual stream"):
        Session(engine)
    other = copy.copy(model)
    other.engine = engine
    for use in (lambda: other.generate("私"), lambda: other.score("私は"), lambda: other.rows([1])):
        with pytest.raises(CapabilityError) as caught:
            use()
        assert caught.value.key == "capture_lacking" and caught.value.exit_code == 4


def test_a_capture_that_an_engine_was_not_written_for_is_lacking(model: Model) -> None:
    engine = Told(model.engine, {}, captures=("attention",))
    assert lacking(model.engine) == {} and lacking(engine).keys() == {"lens", "contributions", "residual"}
    need(engine, "attention")
    with pytest.raises(CapabilityError, match="lens: .*does not record it.*attention"):
        need(engine, "lens")


def test_what_is_there_needs_no_error(model: Model) -> None:
    for what in ("rows", "attention", "ablation"):
        need(model.engine, what)
    assert not editable(Told(model.engine, {"ablation": "lacks.hf_ablation"}))


@pytest.mark.parametrize("place", [0, 3, 4, 9])
def test_the_first_bad_layer_is_found_wherever_in_the_text(
    model: Model, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is read in pieces, so that no more rows of logits are held than a score holds."""
    monkeypatch.setattr(windows, "_SHORTEST", 4)
    monkeypatch.setattr(windows, "_LOGITS", 1)
    engine = copy.copy(model.engine)
    positions = engine.weights["wpe.weight"].copy()
    positions[place] = np.nan
    assert Session(engine).first_bad_layer(list(range(10))) == engine.config.n_layer + 1
    engine.weights = engine.weights | {"wpe.weight": positions}
    assert Session(engine).first_bad_layer(list(range(10))) == 0
