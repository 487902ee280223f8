"""Every stage, and the whole default chain, against the logits processors of `transformers` 5 on 10,000 float64 rows.

Row N13: the kept sets are equal and p lies within 1e-6 (it lies within 1e-12). Rows with ties are a kind of their own:
top-k, min-p and typical keep all tokens that tie with the last one, as there; top-p goes by id, where `transformers`
leaves the choice to an unstable sort.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, GenerationMixin
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from manako.sampling import DEFAULT_ORDER, Sampling, distribution

THEIRS: dict[str, Callable[[Any], Any]] = {
    "repetition_penalty": RepetitionPenaltyLogitsProcessor,
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical_p": TypicalLogitsWarper,
}


def setting_of(name: str, rng: np.random.Generator) -> float | int:
    match name:
        case "repetition_penalty":
            return float(rng.uniform(0.5, 2))
        case "temperature":
            return float(rng.choice([0.05, 0.3, 0.8, 1, 1.2, 3]))
        case "top_k":
            return int(rng.choice([1, 2, 5, 40, 400]))
        case "min_p":
            return float(rng.uniform(0, 0.6))
        case _:
            return float(rng.uniform(0.01, 0.999))


def rows_of(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n, V]: narrow and wide rows, with some tokens that the model itself rules out."""
    rows = rng.normal(0, rng.choice([0.2, 1, 4]), size=(n, int(rng.choice([3, 50, 300]))))
    if rng.random() < 0.3:
        rows[:, 1:][rng.random(rows[:, 1:].shape) < 0.2] = -np.inf
    return rows


def compare(rows: np.ndarray, chain: Sampling, theirs: Any, history: np.ndarray) -> float:
    """The largest difference in p; fails where a kept set differs. rows: [n, V], history: [n, T]."""
    after = theirs(torch.from_numpy(history), torch.from_numpy(rows.copy()))
    p = torch.softmax(after, dim=-1).numpy()
    worst = 0.0
    for row, want, want_p, ids in zip(rows, after.numpy(), p, history, strict=True):
        d = distribution(row, chain, ids)
        assert np.flatnonzero(d.row > -np.inf).tolist() == np.flatnonzero(want > -np.inf).tolist()
        worst = max(worst, float(np.abs(d.p - want_p).max()))
    assert worst <= 1e-12  # the gate is 1e-6; float64 on both sides does better
    return worst


@pytest.mark.parametrize("name", THEIRS)
def test_each_stage_on_1_200_rows(name: str) -> None:
    rng = np.random.default_rng(DEFAULT_ORDER.index(name))
    for _ in range(40):
        rows, setting = rows_of(rng, 30), setting_of(name, rng)
        history = rng.integers(0, rows.shape[1], size=(30, 8))
        compare(rows, Sampling(**{"temperature": 1, name: setting}), THEIRS[name](setting), history)


def default_chain(rng: np.random.Generator) -> dict[str, Any]:
    values = {name: setting_of(name, rng) for name in THEIRS}
    used = {name: value for name, value in values.items() if rng.random() < 0.7}
    return {"temperature": values["temperature"]} | used


def test_the_default_chain_on_2_800_rows() -> None:
    rng = np.random.default_rng(13)
    for _ in range(140):
        rows, values = rows_of(rng, 20), default_chain(rng)
        theirs = LogitsProcessorList([THEIRS[name](values[name]) for name in DEFAULT_ORDER if name in values])
        compare(rows, Sampling(**{"temperature": 1} | values), theirs, rng.integers(0, rows.shape[1], size=(20, 8)))


def test_our_default_order_is_the_one_that_transformers_builds() -> None:
    values: dict[str, Any] = {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.95}
    config = GenerationConfig(do_sample=True, repetition_penalty=1.1, **values)
    config._eos_token_tensor = None  # pyright: ignore[reportAttributeAccessIssue]  set by generate() itself
    model = type("Model", (GenerationMixin,), {"config": SimpleNamespace(is_encoder_decoder=False), "device": "cpu"})()
    built = model._get_logits_processor(config, input_ids_seq_length=3)
    assert [type(stage) for stage in built] == [THEIRS[name] for name in DEFAULT_ORDER if name in THEIRS]
    rows = np.random.default_rng(5).normal(0, 2, size=(200, 300))
    compare(rows, Sampling(**{"temperature": 1, "repetition_penalty": 1.1} | values), built, np.full((200, 3), 7))


def test_greedy_is_the_arg_max() -> None:
    rows = np.random.default_rng(6).normal(0, 1, size=(200, 50))
    best = torch.from_numpy(rows).argmax(dim=-1).tolist()
    assert [int(distribution(row, Sampling(temperature=0)).p.argmax()) for row in rows] == best


# Ties: a listed kind, with the sets that are expected


def kept(row: list[float], **settings: Any) -> list[int]:
    return np.flatnonzero(distribution(row, Sampling(**{"temperature": 1} | settings)).row > -np.inf).tolist()


def kept_there(row: list[float], stage: Any) -> list[int]:
    scores = torch.tensor([row], dtype=torch.float64)
    return np.flatnonzero(stage(torch.zeros((1, 1), dtype=torch.int64), scores).numpy()[0] > -np.inf).tolist()


@pytest.mark.parametrize(
    ("row", "settings", "expected"),
    [
        ([1.0, 3.0, 2.0, 2.0], {"top_k": 2}, [1, 2, 3]),
        ([2.0, 2.0, 2.0], {"top_k": 1}, [0, 1, 2]),
        ([2.0, -np.inf, -np.inf], {"top_k": 2}, [0]),
        ([1.0, 0.0, 1.0, 0.0], {"min_p": 1}, [0, 2]),
        ([0.0, 0.0, 0.0, 0.0], {"typical_p": 0.3}, [0, 1, 2, 3]),
        ([0.0, 0.0, 5.0, 5.0], {"typical_p": 0.3}, [2, 3]),
    ],
)
def test_all_tokens_tied_with_the_last_one_stay(
    row: list[float], settings: dict[str, Any], expected: list[int]
) -> None:
    ((name, value),) = settings.items()
    assert kept(row, **settings) == expected == kept_there(row, THEIRS[name](value))


@pytest.mark.parametrize(
    ("row", "threshold", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0], 0.5, [0, 1]),
        ([0.0, 0.0, 0.0, 0.0], 0.51, [0, 1, 2]),
        ([0.0, 1.0, 0.0, 1.0, 0.0], 1e-9, [1]),
        ([0.0, 1.0, 0.0, 1.0, 0.0], 0.7, [0, 1, 3]),
    ],
)
def test_top_p_goes_by_id_among_ties(row: list[float], threshold: float, expected: list[int]) -> None:
    assert kept(row, top_p=threshold) == expected
    there = kept_there(row, TopPLogitsWarper(threshold))
    assert sorted(row[i] for i in there) == sorted(row[i] for i in expected)  # as many, and of the same logits


def test_coarse_rows_full_of_ties() -> None:
    rng = np.random.default_rng(9)
    for _ in range(300):
        row = rng.integers(-3, 4, size=40).astype(float).tolist()
        k, share, mass = int(rng.integers(1, 45)), float(rng.uniform(0, 1)), float(rng.uniform(0.01, 0.99))
        assert kept(row, top_k=k) == kept_there(row, TopKLogitsWarper(k))
        assert kept(row, min_p=share) == kept_there(row, MinPLogitsWarper(share))
        assert kept(row, typical_p=mass) == kept_there(row, TypicalLogitsWarper(mass))
        ours, theirs = kept(row, top_p=mass), kept_there(row, TopPLogitsWarper(mass))
        assert sorted(row[i] for i in ours) == sorted(row[i] for i in theirs)
        last = min(row[i] for i in ours)
        tied = [i for i, x in enumerate(row) if x == last]
        assert [i for i in ours if row[i] == last] == tied[: sum(row[i] == last for i in ours)]
