"""Power laws: known constants come back, the largest run is foretold, and too few runs get no line."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from manako.analysis import scaling as module
from manako.analysis.scaling import JOINT, Fit, Law, Refusal, curves, law, scaling
from manako.analysis.sweep import Outcome
from manako.errors import MissingExtraError


def needs_scipy(test: Any) -> Any:
    """A fit takes half a second."""
    return pytest.mark.slow(pytest.mark.usefixtures("scipy")(test))


TRUE = {"E": 1.7, "A": 20.0, "B": 60.0, "alpha": 0.34, "beta": 0.28}
ONE = Outcome(
    run="r", varied={}, parameters=1000, embeddings=300, block_size=64, corpus_characters=10**9, steps=100,
    characters=1e6, flops=1e9, seconds=60.0, bits_per_character=4.0, best_step=100, last_bits_per_character=4.0,
    characters_per_token=1.0, curve=[[100, 4.0]],
)  # fmt: skip


@pytest.fixture
def scipy() -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install 'manako[plot]'")


def true_loss(n: float, d: float) -> float:
    return TRUE["E"] + TRUE["A"] / n ** TRUE["alpha"] + TRUE["B"] / d ** TRUE["beta"]


def runs(sizes: Any, texts: Any, noise: float = 0.0, seed: int = 0, **varied: Any) -> list[Outcome]:
    chance = np.random.Generator(np.random.Philox(seed))
    return [
        replace(
            ONE, run=f"{n:.0f}-{d:.0f}", varied={"n_embd": n, "steps": d, **varied}, parameters=int(n), characters=d,
            flops=6.0 * n * d, bits_per_character=true_loss(n, d) * math.exp(chance.normal(0, noise)),
        )
        for n, d in product(sizes, texts)
    ]  # fmt: skip


SIZES, TEXTS = np.geomspace(1e4, 1e6, 5).round(), np.geomspace(1e5, 1e7, 5)


@needs_scipy
def test_without_noise_the_constants_come_back() -> None:
    found = law(runs(SIZES, TEXTS), JOINT)
    assert isinstance(found, Law)
    got = [found.irreducible, *found.factors, *found.exponents]
    assert [c.value for c in got] == pytest.approx(list(TRUE.values()), rel=0.02)
    assert found.left_out.run == "1000000-10000000" and abs(found.left_out.error) < 1e-3
    assert found((1e7, 1e8)) == pytest.approx(true_loss(1e7, 1e8), rel=1e-3)


@needs_scipy
def test_one_variable_takes_the_best_run_at_each_value() -> None:
    found = scaling(runs(SIZES, TEXTS))[0].laws
    by_size, by_text, by_flops, joint = found
    assert isinstance(by_size, Law) and isinstance(by_text, Law) and isinstance(by_flops, Law)
    assert [x for (x,), _ in by_size.points] == SIZES.tolist() and isinstance(joint, Law)
    assert [bits for _, bits in by_size.points] == [true_loss(n, TEXTS[-1]) for n in SIZES]
    assert by_size.exponents[0].value == pytest.approx(TRUE["alpha"], rel=0.02)
    assert by_text.exponents[0].value == pytest.approx(TRUE["beta"], rel=0.02)
    bits = [b for _, b in by_flops.points]
    assert bits == sorted(bits, reverse=True) and len(bits) < 25
    beaten = {o.flops: o.bits_per_character for o in runs(SIZES, TEXTS)}
    for (flops,), b in by_flops.points:
        assert not any(f <= flops and other < b for f, other in beaten.items())


@needs_scipy
def test_the_gradient_is_that_of_the_loss() -> None:
    chance = np.random.Generator(np.random.Philox(5))
    x = np.array([(n, d) for n in SIZES[:3] for d in TEXTS[:3]])
    fit = Fit(x, np.array([true_loss(n, d) for n, d in x]), chance)
    p, logs = np.array([0.5, 0.1, 0.4, 0.3, 0.2]), chance.normal(1, 0.1, 9)
    value, slope = fit._huber(p, logs)
    for n in range(5):
        step = np.zeros(5)
        step[n] = 1e-7
        assert (fit._huber(p + step, logs)[0] - value) / 1e-7 == pytest.approx(slope[n], rel=1e-3, abs=0.1)


@needs_scipy
def test_known_constants_lie_in_their_intervals_in_95_of_100_trials() -> None:
    hits = np.zeros((100, 5), dtype=bool)
    for trial in range(100):
        made = runs(SIZES, TEXTS, noise=0.005, seed=1000 + trial)
        x = np.array([(o.parameters, o.characters) for o in made])
        fit = Fit(x, np.array([o.bits_per_character for o in made]), np.random.Generator(np.random.Philox(trial)))
        found = module._constants(fit)
        hits[trial] = [c.low <= true <= c.high for c, true in zip(found, TRUE.values(), strict=True)]
    assert (hits.sum(axis=0) >= 95).all(), hits.sum(axis=0)
    assert 0 < sum(~hits.all(axis=1)), "intervals that always hold everything say nothing"


@needs_scipy
def test_the_same_runs_give_the_same_law() -> None:
    noisy = runs(SIZES[:3], TEXTS[:3], noise=0.01)
    assert law(noisy, JOINT) == law(noisy, JOINT) != law(noisy, JOINT, seed=1)


@needs_scipy
def test_runs_that_differ_in_more_than_size_have_laws_of_their_own() -> None:
    found = scaling(
        runs(SIZES[:3], TEXTS[:3], tokenizer="char", norm="pre")
        + runs(SIZES[:3], TEXTS[:3], tokenizer="bpe:300", norm="pre")
    )
    assert [each.group for each in found] == [
        (("tokenizer", "char"), ("norm", "pre")), (("tokenizer", "bpe:300"), ("norm", "pre")),
    ]  # fmt: skip
    assert all(len(each.outcomes) == 9 and isinstance(each.laws[3], Law) for each in found)


@pytest.mark.parametrize(("sizes", "texts", "form", "refusal"), [
    ([1e4, 2e4, 4e4, 8e4], [1e6], ("parameters",), Refusal(("parameters",), 4, 5, "parameters")),
    ([1e4], [1e6, 2e6], ("characters",), Refusal(("characters",), 2, 5, "characters")),
    ([1e4, 2e4], [1e6, 2e6], ("flops",), Refusal(("flops",), 3, 5, "flops")),
    ([1e4, 2e4], [1e5, 2e5, 4e5, 8e5], JOINT, Refusal(JOINT, 2, 3, "parameters")),
    ([1e4, 2e4, 4e4, 8e4], [1e5, 2e5], JOINT, Refusal(JOINT, 2, 3, "characters")),
])  # fmt: skip
def test_too_few_runs_get_no_line(sizes: Any, texts: Any, form: tuple[str, ...], refusal: Refusal) -> None:
    assert law(runs(sizes, texts), form) == refusal


@needs_scipy
def test_a_run_that_knows_its_text_by_heart_is_in_no_law() -> None:
    """The logarithm of its loss is no number."""
    known = replace(runs([1e7], [1e8])[0], bits_per_character=0.0)
    every = runs(SIZES[:3], TEXTS)
    assert law([*every, known], JOINT) == law(every, JOINT)
    assert law([known], JOINT) == Refusal(JOINT, 0, 3, "parameters")


def test_seven_runs_are_too_few_for_five_constants() -> None:
    assert law(runs([1e4, 2e4, 4e4], [1e5, 2e5, 4e5])[:7], JOINT) == Refusal(JOINT, 7, 8, "runs")


def test_without_scipy_the_line_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as refused:
        scaling(runs(SIZES, TEXTS))
    assert refused.value.key == "missing_scipy" and "manako[plot]" in str(refused.value)


@needs_scipy
def test_a_law_is_drawn_over_its_last_variable() -> None:
    found = law(runs(SIZES[:3], TEXTS[:4]), JOINT)
    assert isinstance(found, Law)
    drawn = curves(found, 10)
    assert [size for size, _, _ in drawn] == SIZES[:3].tolist() and all(len(p) == 4 for _, p, _ in drawn)
    assert drawn[1][2][0] == (pytest.approx(TEXTS[0]), pytest.approx(found((SIZES[1], TEXTS[0]))))
