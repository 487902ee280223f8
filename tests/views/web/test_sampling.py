"""N16: the page's sampler beside Python's, on random rows under every stage and order: the same sets and token."""

import math
from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from golden import golden_trace, large_inside

from manako.errors import UsageError
from manako.sampling import DEFAULT_ORDER, Distribution, Sampling, distribution, draw, softmax, uniform
from manako.trace.file import to_bytes
from manako.trace.record import derive

Ask = Callable[..., Any]
CASES = 1000


def random_settings(rng: np.random.Generator) -> Sampling:
    """Each stage in half of the cases, in any order; greedy, neutral and extreme settings among them."""
    some: dict[str, Any] = {
        "top_k": int(rng.integers(1, 300)),
        "top_p": float(rng.choice([1.0, rng.uniform(0.01, 1)])),
        "min_p": float(rng.choice([0.0, 1.0, rng.uniform(0, 0.3)])),
        "typical_p": float(rng.choice([1.0, rng.uniform(0.01, 1)])),
        "repetition_penalty": float(rng.choice([1.0, 1e300, rng.uniform(0.5, 2)])),
        "presence_penalty": float(rng.choice([0.0, -1e308, rng.normal()])),
        "frequency_penalty": float(rng.choice([0.0, 1e308, rng.normal()])),
    }
    kept = {name: value for name, value in some.items() if rng.random() < 0.5}
    t = float(rng.choice([0.0, 1.0, 1e-308, 1e308, rng.uniform(0.05, 5), rng.uniform(0.05, 5), rng.uniform(0.05, 5)]))
    return Sampling(temperature=t, order=tuple(map(str, rng.permutation(DEFAULT_ORDER))), **kept)


def random_case(rng: np.random.Generator) -> tuple[np.ndarray, Sampling, np.ndarray, float]:
    """A row of 12 to 4,000 logits; in some many are equal, in some most are -inf, in some all are far apart."""
    size = int(rng.choice([12, int(rng.integers(13, 300)), int(rng.integers(300, 4001))], p=[0.3, 0.5, 0.2]))
    row = rng.normal(0, float(rng.choice([0.0, 1.0, 4.0, 1e5])), size)
    match rng.integers(4):
        case 0:
            row = np.round(row)
        case 1:
            row[rng.random(size) < 0.7] = -np.inf
            row[rng.integers(size)] = 1.5
    history = rng.integers(-2, size + 5, size=int(rng.integers(0, 60)))
    return row, random_settings(rng), history.astype(np.int32), float(rng.choice([0.0, rng.random(), rng.random()]))


def assert_agree(found: Any, d: Distribution, u: float) -> None:
    np.testing.assert_allclose(found["p"], d.p, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["pModel"], d.p_model, rtol=0, atol=1e-9)
    assert found["cutBy"].tolist() == d.cut_by.tolist()
    assert [(s["name"], s["kept"]) for s in found["stages"]] == [(s.name, s.kept) for s in d.stages]
    removed = [s["removedMass"] for s in found["stages"]]
    np.testing.assert_allclose(removed, [s.removed_mass for s in d.stages], rtol=0, atol=1e-9)
    assert found["kept"] == d.kept and abs(found["entropy"] - d.entropy) < 1e-9
    assert found["order"].tolist() == d.top(len(d.p)).tolist()
    assert found["top"].tolist() == d.top(7).tolist()
    drawn = draw(d, u)
    assert found["drawn"]["tokenId"] == drawn.token_id and found["rank"] == d.rank(drawn.token_id)
    np.testing.assert_allclose([found["drawn"]["low"], found["drawn"]["high"]], [drawn.low, drawn.high], atol=1e-9)


def test_a_thousand_random_cases(ask: Ask) -> None:
    rng = np.random.default_rng(16)
    cases = [random_case(rng) for _ in range(CASES)]
    stages = {name for _, s, _, _ in cases for name in s.active}
    assert stages == set(DEFAULT_ORDER) and any(s.temperature == 0 for _, s, _, _ in cases)
    asked = [{"logits": row, "settings": asdict(s), "history": h, "u": u} for row, s, h, u in cases]
    for (row, settings, history, u), found in zip(cases, ask("distributions", asked), strict=True):
        assert_agree(found, distribution(row, settings, history), u)


def test_at_a_border_the_set_is_pythons(ask: Ask) -> None:
    """Every split of 1 into two to five tenths, every threshold; tests/test_sampling.py holds Python to fractions."""
    splits = [np.log(np.diff([0, *c, 10]) / 10) for n in (1, 2, 3, 4) for c in combinations(range(1, 10), n)]
    chains = [Sampling(1, **{name: n / 10}) for name in ("top_p", "min_p", "typical_p") for n in range(1, 10)]
    even = [(np.zeros(size), Sampling(1, top_p=n / 10)) for size in (10, 1000, 20_000) for n in range(1, 10)]
    cases = [*product(splits, chains), *even]
    asked = [
        {"logits": row, "settings": asdict(chain), "history": np.zeros(0, np.int32), "u": 0} for row, chain in cases
    ]
    for (row, chain), found in zip(cases, ask("keptSets", asked), strict=True):
        assert found == np.flatnonzero(distribution(row, chain).p).tolist(), (np.exp(row[:5]), chain)


@pytest.mark.parametrize("settings", [None, Sampling(temperature=0), Sampling(temperature=1.7, top_p=0.9, min_p=0.05)])
def test_the_golden_record_under_its_settings_and_others(ask: Ask, settings: Sampling | None) -> None:
    trace = golden_trace()
    found = ask("derived", to_bytes(trace), settings and asdict(settings))
    for i, answer in enumerate(found):
        before = trace.all_ids[: 1 + i]
        d = distribution(trace.logits[i], settings, before) if settings else derive(trace, i)
        np.testing.assert_allclose(answer["p"], d.p, rtol=0, atol=1e-9)
        drawn = draw(d, float(trace.columns.u[i]))
        assert answer["drawn"]["tokenId"] == drawn.token_id
        assert abs(answer["drawn"]["low"] - drawn.low) < 1e-9 and abs(answer["drawn"]["high"] - drawn.high) < 1e-9
    if settings is None:
        assert [answer["drawn"]["tokenId"] for answer in found] == trace.columns.token_id.tolist()


def test_a_partial_record_has_no_distribution(ask: Ask) -> None:
    assert ask("derived", to_bytes(large_inside(16_400, 2)), None) == [None, None]


def test_uniform_has_every_bit_of_pythons(ask: Ask) -> None:
    rng = np.random.default_rng(5)
    seeds = [0, 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1, *map(int, rng.integers(0, 2**64, 300, dtype=np.uint64))]
    pairs = [(seed, int(step)) for seed in seeds for step in (0, 1, rng.integers(2, 10**6))]
    assert ask("uniforms", [(str(seed), step) for seed, step in pairs]) == [uniform(*pair) for pair in pairs]


def test_softmax_survives_what_python_survives(ask: Ask) -> None:
    given = ([0.0, math.log(3), -math.inf], [1e308, -1e308], [-1e308] * 3, [0.0] * 4000)
    rows = [np.array(row, dtype=np.float64) for row in given]
    for row, found in zip(rows, ask("softmaxes", rows), strict=True):
        np.testing.assert_allclose(found, softmax(row), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "values"), [
    ("temperature", [0, 0.5, 5, -0.1, None]),
    ("top_k", [1, 5000, 2**70, 0, 1.5, -3, None]),
    ("top_p", [0.1, 1, 0, 1.01, None]),
    ("min_p", [0, 0.5, 1, -0.1, 1.1, None]),
    ("typical_p", [1, 0.2, 0, 2, None]),
    ("repetition_penalty", [1, 0.1, 0, -1, None]),
    ("presence_penalty", [0, -2, 1e308, None]),
    ("frequency_penalty", [0, -2, 3.5, None]),
    ("order", [DEFAULT_ORDER, DEFAULT_ORDER[::-1], ["temperature"], ["top_k"], ["temperature"] * 2, ["top_p", "x"]]),
])  # fmt: skip
def test_the_same_settings_are_refused(ask: Ask, name: str, values: list[Any]) -> None:
    found = ask("faults", [asdict(Sampling()) | {name: value} for value in values])
    for value, fault in zip(values, found, strict=True):
        if fault is None:
            Sampling(**{name: value})
            continue
        with pytest.raises(UsageError) as refused:
            Sampling(**{name: value})
        assert refused.value.key.startswith(fault)
