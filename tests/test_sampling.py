"""The chain and the draw: probabilities are exact, cut tokens stay cut, each token comes as often as `p` says, and a
setting that makes no sense is refused by name.

Rows N11, N12, N14, N15 and P1 to P11 of the reliability notes; N13 is in parity/test_sampling_transformers.py.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from golden import golden_generation
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.errors import ManakoError, UsageError
from manako.sampling import (
    DEFAULT_ORDER,
    LOWEST,
    STAGES,
    Distribution,
    Row,
    Sampling,
    Stage,
    check_seed,
    distribution,
    draw,
    entropy,
    softmax,
    temperature,
    uniform,
)
from manako.settings import check_count

LAST_U = 1 - 2.0**-53

finite = st.floats(-1e4, 1e4)
rows = st.lists(finite, min_size=1, max_size=40).map(np.array)
# Few values, so that ties and cut tokens are the rule: where places and ranks go wrong.
coarse_rows = (
    st.lists(st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=200)
    .filter(lambda row: max(row) > -np.inf)
    .map(np.array)
)
chains = st.builds(
    Sampling,
    temperature=st.sampled_from([0, 5e-324, 1e-40, 0.3, 1, 1.7, 1e30]),
    top_k=st.none() | st.integers(1, 60),
    top_p=st.none() | st.sampled_from([1e-300, 0.2, 0.5, 0.9, 1 - 2**-53, 1]),
    min_p=st.none() | st.sampled_from([0, 0.05, 0.5, 1]),
    typical_p=st.none() | st.sampled_from([1e-9, 0.3, 0.9, 1 - 2**-53, 1]),
    repetition_penalty=st.none() | st.sampled_from([1e-300, 0.5, 1, 1.3, 1e300]),
    presence_penalty=st.none() | st.sampled_from([-1e308, -1, 0, 0.7, 1e308]),
    frequency_penalty=st.none() | st.sampled_from([-1e308, -1, 0, 0.3, 1e308]),
    order=st.permutations(DEFAULT_ORDER).map(tuple),
)


def bits(row: Row) -> list[int]:
    return np.ascontiguousarray(row).view(np.int64).tolist()


# N11: softmax against 50 digits


def exact_softmax(row: Sequence[float]) -> list[mpmath.mpf]:
    with mpmath.workdps(50):
        top = mpmath.mpf(max(row))
        weights = [mpmath.exp(mpmath.mpf(x) - top) if x > -np.inf else mpmath.mpf(0) for x in row]
        total = mpmath.fsum(weights)
        return [w / total for w in weights]


def assert_n11(row: Sequence[float]) -> None:
    p = softmax(np.array(row, dtype=np.float64))
    smallest = 5e-324  # a probability among the denormals has few digits: two units in its last place are allowed
    with mpmath.workdps(50):
        for got, want in zip(p.tolist(), exact_softmax(row), strict=True):
            assert abs(got - want) <= 1e-12 * want + 2 * smallest, (got, want)
    assert abs(math.fsum(p.tolist()) - 1) <= 1e-12


@pytest.mark.parametrize(
    "row",
    [
        [3.25],
        [LOWEST],
        [1e4, -1e4, 0.0],
        [-1e4, -1e4 + 1, -1e4 - 700],
        [0.0, -np.inf, -1.0],
        [-np.inf, -np.inf, 7.0],
        [5e-324, 0.0, -5e-324, 1e-310],
        [0.0, -708.0, -720.0, -740.0, -744.0, -745.2, -746.0],
        [LOWEST, -LOWEST, 0.0],
        [-LOWEST, -LOWEST],
        [0.1] * 1000,
    ],
)
def test_softmax_of_special_rows_equals_50_digits(row: list[float]) -> None:
    assert_n11(row)


@settings(max_examples=60)
@given(st.lists(st.one_of(finite, st.floats(-30, 30), st.just(-np.inf)), min_size=1, max_size=30))
def test_softmax_equals_50_digits(row: list[float]) -> None:
    if max(row) > -np.inf:
        assert_n11(row)


def test_softmax_of_200_000_values() -> None:
    # A thousand distinct values, so that the exact sum needs a thousand exponentials and not 200,000.
    row = np.random.default_rng(0).integers(-640, 320, 200_000) / 32
    values, place, count = np.unique(row, return_inverse=True, return_counts=True)
    with mpmath.workdps(50):
        weights = [mpmath.exp(mpmath.mpf(v)) for v in values.tolist()]
        total = mpmath.fsum(w * int(n) for w, n in zip(weights, count, strict=True))
        want = np.array([float(w / total) for w in weights])[place]
    p = softmax(row)
    assert np.abs(p / want - 1).max() <= 1e-12
    assert abs(math.fsum(p.tolist()) - 1) <= 1e-12


@given(st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=30), st.integers(-(2**30), 2**30))
def test_a_shift_changes_nothing(multiples: list[int], shift: int) -> None:
    row = np.array(multiples) / 1024  # with these every sum is exact, so equal means bitwise
    assert bits(softmax(row)) == bits(softmax(row + shift))


@pytest.mark.parametrize(
    "row",
    [
        [0.0, np.nan],
        [np.nan],
        [np.inf, 0.0],
        [np.inf, np.nan],
        [np.inf, -np.inf],
        [-np.inf, -np.inf],
        [-np.inf, np.nan],
    ],
)
@pytest.mark.parametrize("chain", [Sampling(temperature=1), Sampling(temperature=0, top_k=2)])
def test_rows_that_are_no_logits_are_refused_by_name(row: list[float], chain: Sampling) -> None:
    with pytest.raises(ManakoError) as caught:
        distribution(row, chain)
    assert (caught.value.code, caught.value.exit_code) == ("E-LOGITS-NOT-FINITE", 1)


@pytest.mark.parametrize("logits", [[], 1.0, [[1.0, 2.0]]])
def test_anything_but_one_row_is_refused_by_name(logits: Any) -> None:
    with pytest.raises(ManakoError) as caught:
        distribution(logits, Sampling(temperature=1))
    assert caught.value.code == "E-LOGITS-SHAPE"


# N12: temperature


def assert_n12(row: Row, low: float, high: float) -> None:
    plain = distribution(row, Sampling(temperature=1))
    assert bits(plain.row) == bits(row) and bits(plain.p) == bits(plain.p_model)
    cool, warm = (distribution(row, Sampling(temperature=t)).entropy for t in sorted([low, high]))
    assert cool <= warm + 1e-12


def assert_n12_limit(row: Row) -> None:
    best = row == row.max()
    mass = [float(distribution(row, Sampling(temperature=t)).p[best].sum()) for t in (10, 1, 0.1, 1e-3, 5e-324)]
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(mass))
    p = distribution(row, Sampling(temperature=5e-324)).p
    assert p.tolist() == (best / best.sum()).tolist()


temperatures = st.floats(1e-3, 1e3)
ordinary_rows = st.lists(st.integers(-5000, 5000).map(lambda n: n / 100), min_size=1, max_size=40).map(np.array)


@settings(max_examples=300)
@given(rows, temperatures, temperatures)
@pytest.mark.slow
def test_one_is_the_identity_and_entropy_never_falls(row: Row, low: float, high: float) -> None:
    assert_n12(row, low, high)


@settings(max_examples=100)
@given(ordinary_rows)
def test_towards_zero_only_the_likeliest_stay(row: Row) -> None:
    assert_n12_limit(row)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(rows, temperatures, temperatures, ordinary_rows)
def test_ten_thousand_cases(row: Row, low: float, high: float, ordinary: Row) -> None:
    assert_n12(row, low, high)
    assert_n12_limit(ordinary)


# What holds for any chain


@settings(max_examples=250)
@given(coarse_rows | rows, chains, st.lists(st.integers(0, 250), max_size=12))
@pytest.mark.slow
def test_any_chain_says_of_every_token_what_became_of_it(row: Row, chain: Sampling, history: list[int]) -> None:
    given_row = row.copy()
    d = distribution(row, chain, history)
    assert bits(row) == bits(given_row) == bits(d.logits)
    there = row > -np.inf
    cut = d.cut_by >= 0
    assert ((d.row > -np.inf) == (there & ~cut)).all() and np.isfinite(d.row[there & ~cut]).all()
    assert (d.p[~there | cut] == 0).all() and abs(d.p.sum() - 1) <= 1e-12 and not np.isnan(d.p).any()
    assert bits(d.p_model) == bits(softmax(row))
    assert d.kept == int((there & ~cut).sum()) >= 1
    assert [s.name for s in d.stages] == list(chain.active)
    left = int(there.sum())
    for index, stage in enumerate(d.stages):
        left -= int((d.cut_by == index).sum())
        assert stage.kept == left and 0 <= stage.removed_mass < 1
        assert (stage.removed_mass > 0) <= bool((d.cut_by == index).any())
    assert 0 <= d.entropy <= np.log2(len(row)) + 1e-12


@settings(max_examples=200)
@given(coarse_rows | rows, chains, st.integers(0, 250))
@pytest.mark.slow
def test_top_and_rank_are_one_order(row: Row, chain: Sampling, n: int) -> None:
    d = distribution(row, chain)
    everything = d.top(len(row)).tolist()
    # The definition, in plain Python: by row, then by the model's logit, then by id.
    assert everything == sorted(range(len(row)), key=lambda i: (-d.row[i], -d.logits[i], i))
    assert [d.rank(i) for i in everything] == list(range(1, len(row) + 1))
    assert d.top(min(n, len(row))).tolist() == everything[:n]


@settings(max_examples=200)
@given(coarse_rows, st.integers(0, 2**20))
def test_equal_logits_have_equal_probability_wherever_they_stand(row: Row, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(len(row))
    p = softmax(row)
    for value in np.unique(row):
        assert len(set(bits(p[row == value]))) == 1
    assert np.abs(softmax(row[shuffled]) - p[shuffled]).max() <= 1e-15


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "list"])
def test_any_number_type_is_taken(dtype: str) -> None:
    row = [1.0, -2.0, 3.0]
    d = distribution(row if dtype == "list" else np.array(row, dtype=dtype), Sampling(temperature=1))
    assert d.logits.dtype == np.float64 and d.logits.tolist() == row


def test_logits_further_apart_than_the_largest_float() -> None:
    assert distribution([1e308, -1e308, 0.0], Sampling(temperature=1)).p.tolist() == [1, 0, 0]
    d = distribution(
        [-np.inf, 0.0], Sampling(temperature=1, presence_penalty=-1e308, frequency_penalty=-1e308), [0, 0, 0]
    )
    assert d.row.tolist() == [-np.inf, 0] and d.p.tolist() == [0, 1]


# Penalties, by hand


def test_penalties_by_hand() -> None:
    history = [0, 1, 1, 3]
    row = np.array([2.0, -1.0, 4.0, 0.0])
    assert distribution(row, Sampling(temperature=1, repetition_penalty=2), history).row.tolist() == [1, -2, 4, 0]
    assert distribution(row, Sampling(temperature=1, presence_penalty=0.5), history).row.tolist() == [
        1.5,
        -1.5,
        4,
        -0.5,
    ]
    assert distribution(row, Sampling(temperature=1, frequency_penalty=0.5), history).row.tolist() == [1.5, -2, 4, -0.5]


@pytest.mark.parametrize("penalty", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_ids_without_a_logit_are_no_penalty_to_another(penalty: str) -> None:
    chain = Sampling(temperature=1, **{penalty: 1.5})
    assert (
        distribution([1.0, 2.0], chain, [0, 2, 7, -1]).row.tolist() == distribution([1.0, 2.0], chain, [0]).row.tolist()
    )


@settings(max_examples=100)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=20), st.lists(st.integers(0, 19), max_size=40), st.data())
def test_presence_and_frequency_follow_the_formula_of_openai(
    row: list[float], history: list[int], data: st.DataObject
) -> None:
    presence, frequency = data.draw(st.floats(-2, 2)), data.draw(st.floats(-2, 2))
    got = distribution(row, Sampling(temperature=1, presence_penalty=presence, frequency_penalty=frequency), history)
    for j, mu in enumerate(row):  # mu[j] -> mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence
        c = history.count(j)
        assert abs(got.row[j] - (mu - c * frequency - float(c > 0) * presence)) <= 1e-12


# N14: tokens come as often as p says


def chi_square_p(observed: np.ndarray, p: np.ndarray) -> float:
    """The chance of a chi-square at least this large. observed, p: [K]; rare tokens are pooled to expect 5 at least."""
    n = int(observed.sum())
    rare = n * p < 5
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        p = np.append(p[~rare], p[rare].sum())
        if n * p[-1] < 5:  # the pool is still too small: it joins its neighbour
            observed, p = np.append(observed[:-2], observed[-2:].sum()), np.append(p[:-2], p[-2:].sum())
    statistic = float(((observed - n * p) ** 2 / (n * p)).sum())
    return float(mpmath.gammainc((len(p) - 1) / 2, statistic / 2, mpmath.inf, regularized=True))


def kolmogorov_p(values: Sequence[float]) -> float:
    """The chance that uniform numbers lie at least this far from uniform. Source: Stephens 1970."""
    x, n = np.sort(values), len(values)
    distance = max((np.arange(1, n + 1) / n - x).max(), (x - np.arange(n) / n).max())
    scaled = distance * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))
    return min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)))


def draw_settings(count: int) -> list[tuple[int, Distribution]]:
    """(seed, distribution): rows of 2 to 3,000 logits through chains of every stage, at least two tokens to choose."""
    rng = np.random.default_rng(14)
    found: list[tuple[int, Distribution]] = []
    while len(found) < count:
        size = int(rng.choice([2, 3, 12, 100, 700, 3000]))
        chain = Sampling(
            temperature=float(rng.choice([0.3, 0.8, 1, 1.2, 2])),
            top_k=[None, 5, 100][rng.integers(3)],
            top_p=[None, 0.5, 0.95][rng.integers(3)],
            min_p=[None, 0.02][rng.integers(2)],
            typical_p=[None, 0.9][rng.integers(2)],
            repetition_penalty=[None, 1.3][rng.integers(2)],
            frequency_penalty=[None, 0.2][rng.integers(2)],
        )
        row = rng.normal(0, rng.choice([0.3, 1, 3]), size)
        d = distribution(row, chain, rng.integers(0, size, 20).tolist())
        if d.p.max() < 0.99:  # otherwise all but the favourite are too rare for a chi-square
            found.append((len(found), d))
    return found


def uniforms(seed: int, n: int) -> np.ndarray:
    """[n] what `uniform(seed, 0)`, `uniform(seed, 1)` ... give, all at once: every fourth word of one stream."""
    raw = np.random.Philox(key=seed, counter=0).random_raw(4 * n)[::4]
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def drawn_ids(d: Distribution, u: np.ndarray) -> np.ndarray:
    """[n] what `draw` takes for each u, all at once."""
    order = d.top(d.kept)
    line = np.cumsum(d.p[order])
    last = np.count_nonzero(d.p[order]) - 1
    return order[np.minimum(np.searchsorted(line, u, side="right"), last)]


def judge_n14(count: int, n: int, sampler: Callable[[Distribution, np.ndarray], np.ndarray]) -> list[str]:
    """What is wrong with a sampler; nothing when its tokens come as often as p says."""
    wrong, chances = [], []
    for seed, d in draw_settings(count):
        observed = np.bincount(sampler(d, uniforms(seed, n)), minlength=len(d.p))
        kept = d.p > 0
        if observed[~kept].any():
            wrong.append(f"{seed}: a token of probability 0")
        chances.append(chi_square_p(observed[kept], d.p[kept]))
        variation = float(np.abs(observed / n - d.p).sum() / 2)
        # The bound is 1.5 times what is expected of K tokens at most; of a few tokens it is passed one time in ten.
        if kept.sum() >= 20 and variation > 1.5 * math.sqrt(int(kept.sum()) / (2 * math.pi * n)):
            wrong.append(f"{seed}: total variation {variation}")
    assert all(0 <= chance <= 1 for chance in chances)  # a NaN would pass every comparison below
    if min(chances) * count <= 1e-4:
        wrong.append(f"chi-square {min(chances)}")
    if kolmogorov_p(chances) <= 0.01:
        wrong.append(f"Kolmogorov-Smirnov {kolmogorov_p(chances)}")
    return wrong


def hotter(d: Distribution, u: np.ndarray) -> np.ndarray:
    """A sampler whose temperature is wrong by 2 %."""
    row = np.where(d.row > -np.inf, d.row / 1.02, -np.inf)
    return drawn_ids(Distribution(d.logits, row, d.p_model, softmax(row), d.cut_by, d.stages), u)


def greedier(d: Distribution, u: np.ndarray) -> np.ndarray:
    """A sampler that takes the favourite 2 % too often."""
    p = d.p.copy()
    p[np.argmax(p)] *= 1.02
    return drawn_ids(Distribution(d.logits, d.row, d.p_model, p / p.sum(), d.cut_by, d.stages), u)


def test_draw_and_uniform_agree_with_their_vectorised_forms() -> None:
    for seed, d in draw_settings(100):
        u = uniforms(seed, 40)
        assert [uniform(seed, step) for step in range(40)] == u.tolist()
        line = np.cumsum(d.p[d.top(d.kept)])
        borders = np.concatenate([line[:3], np.nextafter(line[:3], 0), [0.0, LAST_U]])
        u = np.concatenate([u, borders[borders < 1]])
        assert [draw(d, x).token_id for x in u.tolist()] == drawn_ids(d, u).tolist()


def test_tokens_come_as_often_as_p_says() -> None:
    assert judge_n14(50, 40_000, drawn_ids) == []


@pytest.mark.parametrize("sampler", [hotter, greedier])
def test_negative_control_a_sampler_wrong_by_2_percent_is_noticed(sampler: Any) -> None:
    assert judge_n14(50, 100_000, sampler) != []


@pytest.mark.slow
def test_two_hundred_settings_of_100_000_draws() -> None:
    assert judge_n14(200, 100_000, drawn_ids) == []


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [hotter, greedier])
def test_negative_control_at_full_size(sampler: Any) -> None:
    assert judge_n14(200, 100_000, sampler) != []


def test_the_two_statistics_themselves() -> None:
    # Textbook values: chi-square 3.841 with 1 degree of freedom and 18.307 with 10 are exceeded by 5 %.
    assert abs(chi_square_p(np.array([500 + 30.99, 500 - 30.99]), np.array([0.5, 0.5])) - 0.05) < 1e-3
    eleven = np.full(11, 1 / 11)
    off = np.zeros(11)
    off[:2] = math.sqrt(18.307 * 1000 / 2), -math.sqrt(18.307 * 1000 / 2)
    assert abs(chi_square_p(1000 + off, eleven) - 0.05) < 1e-3
    assert kolmogorov_p((np.arange(200) + 0.5) / 200) > 0.99
    assert kolmogorov_p(((np.arange(200) + 0.5) / 200) ** 1.5) < 1e-3


# N15: never a token of probability 0


def assert_n15(d: Distribution) -> None:
    line = np.cumsum(d.p[d.top(d.kept)])
    near = np.concatenate([line, np.nextafter(line, 0), np.nextafter(line, 1), [0.0, 5e-324, 0.5, LAST_U]])
    for u in near[near < 1].tolist():
        drawn = draw(d, u)
        assert d.p[drawn.token_id] > 0
        assert drawn.low <= u and (u < drawn.high or drawn.token_id == d.top(np.count_nonzero(d.p))[-1])


@settings(max_examples=200)
@given(coarse_rows | rows, chains)
@pytest.mark.slow
def test_support_at_every_border(row: Row, chain: Sampling) -> None:
    assert_n15(distribution(row, chain))


@pytest.mark.parametrize("t", [5e-324, 1e-40, 1e-3])
@pytest.mark.parametrize("size", [3, 64, 65, 500])
def test_kept_tokens_whose_probability_underflows(t: float, size: int) -> None:
    d = distribution(-np.arange(size), Sampling(temperature=t))
    assert d.kept == size and d.p.tolist() == [1.0] + [0.0] * (size - 1)
    for u in (0.0, 0.5, LAST_U):
        assert draw(d, u).token_id == 0


def test_a_line_that_ends_below_one() -> None:
    below = []
    for seed in range(40):
        d = distribution(np.random.default_rng(seed).normal(0, 1, 300), Sampling(temperature=1))
        order = d.top(300)
        line = np.cumsum(d.p[order])
        if line[-1] < LAST_U:
            below.append(seed)
            assert draw(d, LAST_U).token_id == order[-1]
            assert draw(d, float(line[-1])).token_id == order[-1]
    assert len(below) >= 5  # otherwise this test has shown nothing


def test_the_end_of_a_long_tail_that_underflows() -> None:
    # 100 tokens share the mass, 400 more are kept with p = 0; the line ends below 1 after the hundredth.
    row = np.concatenate([np.random.default_rng(3).normal(0, 1, 100), np.full(400, -1000.0)])
    d = distribution(row, Sampling(temperature=1))
    assert d.kept == 500 and np.count_nonzero(d.p) == 100
    assert_n15(d)
    assert draw(d, LAST_U).token_id == d.top(100)[-1]


@pytest.mark.parametrize("u", [-5e-324, 1.0, np.nan, np.inf, -1.0, 2.0])
def test_u_outside_the_range_is_refused(u: float) -> None:
    with pytest.raises(ManakoError) as caught:
        draw(distribution([0.0, 1.0], Sampling(temperature=1)), u)
    assert caught.value.code == "E-U-RANGE"


@pytest.mark.slow
def test_no_token_of_probability_zero_in_a_hundred_million_draws() -> None:
    for seed, d in draw_settings(100):
        for part in range(10):
            ids = drawn_ids(d, uniforms(1000 * part + seed, 100_000))
            assert d.p[ids].min() > 0


# The luck of a step


def philox4x64_10(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Salmon et al. 2011, section 3.3, in whole numbers of Python."""
    mask = 2**64 - 1
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (b >> 64) ^ c1 ^ k0, b & mask, (a >> 64) ^ c3 ^ k1, a & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(
    ("counter", "key", "output"),
    [  # `philox4x64 10` of Random123's kat_vectors
        ("0 0 0 0", "0 0", "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        (
            " ".join(["ffffffffffffffff"] * 4),
            " ".join(["ffffffffffffffff"] * 2),
            "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
        ),
        (
            "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
            "452821e638d01377 be5466cf34e90c6c",
            "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
        ),
    ],
)
def test_uniform_known_answers_of_random123(counter: str, key: str, output: str) -> None:
    def words(text: str) -> list[int]:
        return [int(word, 16) for word in text.split()]

    assert philox4x64_10(words(counter), words(key)) == words(output)


def test_uniform_is_the_first_53_bits_of_philox() -> None:
    chance = random.Random(1)
    cases = [(seed, step) for seed in (0, 1, 2**64 - 1) for step in (0, 1, 2, 10**9)]
    cases += [(chance.randrange(2**64), chance.randrange(2**40)) for _ in range(200)]
    for seed, step in cases:
        word = philox4x64_10((step + 1, 0, 0, 0), (seed, 0))[0]
        assert Fraction(uniform(seed, step)) == Fraction(word >> 11, 2**53)
        assert 0 <= uniform(seed, step) < 1


def test_uniform_has_no_memory() -> None:
    forward = [uniform(5, step) for step in range(20)]
    assert [uniform(5, step) for step in reversed(range(20))] == forward[::-1]
    assert len({uniform(seed, step) for seed in range(40) for step in range(40)}) == 1600


# P1 to P11: settings


def test_temperature_zero_is_greedy() -> None:
    row = [1.0, 3.0, 0.0, 3.0]
    for zero in (0, 0.0, -0.0, Fraction(0)):
        chain = Sampling(temperature=zero)
        d = distribution(row, chain)
        assert d.p.tolist() == [0, 1, 0, 0]
        assert bits(d.p_model) == bits(softmax(np.array(row)))
        assert {draw(d, u).token_id for u in (0.0, 0.3, 0.999, LAST_U)} == {1}
        assert d.cut_by.tolist() == [0, -1, 0, 0] and d.entropy == 0
    assert distribution(row, Sampling(temperature=5e-324)).cut_by.tolist() == [-1] * 4  # the smallest is not zero


NUMBERS_REFUSED_EVERYWHERE = ["abc", "0.8", True, False, math.nan, math.inf, -math.inf, [], 1j, 10**400]
REFUSED = {
    "temperature": [-1, -5e-324, None],
    "top_p": [0, 0.0, -0.1, 1.0000001, 2, Fraction(1, 10**400)],
    "min_p": [-0.1, 1.0000001, 2, -1],
    "typical_p": [0, -0.1, 1.0000001, Fraction(1, 10**400)],
    "repetition_penalty": [0, -1, -0.0, Fraction(1, 10**400)],
    "presence_penalty": [],
    "frequency_penalty": [],
}
RANGES = {
    "temperature": "temperature must be 0 or a positive finite number",
    "top_p": "for the likeliest token only, use temperature 0",
    "min_p": "[0, 1]",
    "typical_p": "(0, 1]",
    "repetition_penalty": "positive finite number",
    "presence_penalty": "finite number",
    "frequency_penalty": "finite number",
}


def assert_usage_error(call: Callable[[], object], code: str, english: str, got: object) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    error = caught.value
    assert type(error) is UsageError and error.exit_code == 2 and error.code == code
    assert english in str(error) == error.text("en")
    japanese = error.text("ja")
    assert japanese != str(error) and any("\u3040" <= ch <= "\u9fff" for ch in japanese)
    for text in (str(error), japanese):
        assert "\n" not in text and "{" not in text and str(got)[:50] in text


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n, own in REFUSED.items() for v in [*NUMBERS_REFUSED_EVERYWHERE, *own]],
    ids=lambda value: repr(value)[:24],
)
@pytest.mark.slow
def test_a_number_out_of_range_is_refused(name: str, value: Any) -> None:
    assert_usage_error(lambda: Sampling(**{name: value}), f"E-{name.upper().replace('_', '-')}", RANGES[name], value)


@pytest.mark.parametrize("t", [5e-324, 1e-40, 1e30, 1.7976931348623157e308])
def test_any_positive_temperature_is_computed(t: float) -> None:
    d = distribution([3.0, 3.0, 1.0, -np.inf], Sampling(temperature=t))
    assert d.row[0] == d.row[1] and d.row[3] == -np.inf and np.isfinite(d.row[:3]).all() and d.kept == 3
    assert np.isfinite(d.p).all() and abs(d.p.sum() - 1) < 1e-12
    if t < 1:
        assert LOWEST <= d.row[2] < -1e30 and d.p.tolist() == [0.5, 0.5, 0, 0]
    else:
        assert np.abs(d.p[:3] - 1 / 3).max() < 1e-12


@pytest.mark.parametrize("k", [0, -1, 1.5, 2.0, True, "3", math.nan, -(10**30), [1], 10**400])
def test_top_k_out_of_range_is_refused(k: Any) -> None:
    english = "top_k must be a whole number of at least 1"
    assert_usage_error(lambda: Sampling(temperature=1, top_k=k), "E-TOP-K", english, k)


@pytest.mark.parametrize("k", [4, 5, 2**70])
def test_top_k_of_the_vocabulary_or_more_keeps_all(k: int) -> None:
    row = [0.0, 1.0, 2.0, -1.0]
    d = distribution(row, Sampling(temperature=1, top_k=k))
    assert d.kept == 4 and bits(d.p) == bits(d.p_model)
    assert [(s.name, s.kept, s.removed_mass) for s in d.stages] == [("temperature", 4, 0), ("top_k", 4, 0)]


def test_top_p_at_its_ends() -> None:
    row = np.random.default_rng(0).normal(size=50)
    assert bits(distribution(row, Sampling(temperature=1, top_p=1)).row) == bits(row)
    for threshold in (1e-300, 5e-324):
        d = distribution(row, Sampling(temperature=1, top_p=threshold))
        assert d.kept == 1 and d.p.tolist() == (row == row.max()).astype(float).tolist()


NEUTRAL: dict[str, Any] = {
    "temperature": 1,
    "top_k": 10**6,
    "top_p": 1,
    "min_p": 0,
    "typical_p": 1,
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


@settings(max_examples=200)
@given(rows | coarse_rows, st.lists(st.integers(0, 60), max_size=20), st.sampled_from([*NEUTRAL, "all"]))
def test_neutral_values_change_nothing_bitwise(row: Row, history: list[int], name: str) -> None:
    chain = Sampling(**NEUTRAL) if name == "all" else Sampling(**{"temperature": 1, name: NEUTRAL[name]})
    d = distribution(row, chain, history)
    assert bits(d.row) == bits(row) and bits(d.p) == bits(d.p_model)
    assert all(s.removed_mass == 0 for s in d.stages) and (d.cut_by == -1).all()


@pytest.mark.parametrize(
    "order",
    [
        (*DEFAULT_ORDER, "tfs"),
        "tfs",
        None,
        5,
        (1, "top_p"),
        ([], "top_p"),
        ("Temperature",),
    ],
)
def test_an_order_with_an_unknown_stage_is_refused(order: Any) -> None:
    assert_usage_error(lambda: Sampling(order=order), "E-ORDER-UNKNOWN", ", ".join(DEFAULT_ORDER), "")


def test_a_misspelled_stage_is_told_the_right_one() -> None:
    with pytest.raises(UsageError, match=r'unknown stage, "temprature" \(temperature\?\)'):
        Sampling(order=("top_p", "temprature"))


def test_an_order_names_a_stage_once() -> None:
    assert_usage_error(lambda: Sampling(order=(*DEFAULT_ORDER, "top_k")), "E-ORDER-TWICE", "top_k", "")


@pytest.mark.parametrize("name", DEFAULT_ORDER)
def test_an_order_may_leave_out_what_is_not_used_and_nothing_else(name: str) -> None:
    order = tuple(other for other in DEFAULT_ORDER if other != name)
    assert_usage_error(lambda: Sampling(**NEUTRAL, order=order), "E-ORDER-MISSING", name, "")
    if name != "temperature":
        without = Sampling(**NEUTRAL | {name: None}, order=order)
        assert without.active == without.order == order
        assert Sampling.from_dict(without.to_dict()) == without


def test_settings_are_the_stages_and_their_order() -> None:
    assert {f.name for f in fields(Sampling)} == {*DEFAULT_ORDER, "order"}
    assert [stage.filter.__name__ for stage in STAGES] == [*DEFAULT_ORDER]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_range_on_record_is_the_one_that_is_checked(stage: Stage) -> None:
    inside = [stage.neutral, stage.high, stage.low if stage.low_included else None]
    for value in (value for value in inside if value is not None):
        assert stage.checked(value) == value
    outside = [math.nan, math.inf, True, "1", None, 0.5 if stage.whole else 10**400]
    outside += [] if stage.high is None else [np.nextafter(stage.high, 2)]
    outside += [] if stage.low is None else [stage.low - 1, *(() if stage.low_included else [stage.low])]
    for value in outside:
        with pytest.raises(UsageError) as refused:
            stage.checked(value)
        assert refused.value.key == stage.name


def tenths() -> list[tuple[int, ...]]:
    """Every way to write 10 as a sum of two to five numbers: 1 in tenths, in any order."""
    cuts = [c for n in (1, 2, 3, 4) for c in itertools.combinations(range(1, 10), n)]
    return [tuple(b - a for a, b in itertools.pairwise((0, *c, 10))) for c in cuts]


def exact_top_p(parts: Sequence[int], tenths: int) -> set[int]:
    order = sorted(range(len(parts)), key=lambda i: -parts[i])
    sums = list(itertools.accumulate(parts[i] for i in order))
    return set(order[: next(n for n, reached in enumerate(sums) if reached >= tenths) + 1])


def exact_min_p(parts: Sequence[int], tenths: int) -> set[int]:
    return {i for i, part in enumerate(parts) if 10 * part >= tenths * max(parts)}


def exact_typical_p(parts: Sequence[int], tenths: int) -> set[int]:
    """By fractions alone: |ln p + H| orders the tokens as max(x, 1 / x) of x = (p e^H)^10 does, which is rational."""
    e_to_10h = math.prod(Fraction(10, part) ** part for part in parts)
    x = [Fraction(part, 10) ** 10 * e_to_10h for part in parts]
    off = [max(each, 1 / each) for each in x]
    order = sorted(range(len(parts)), key=lambda i: off[i])
    sums = list(itertools.accumulate(parts[i] for i in order))
    last = off[order[next(n for n, reached in enumerate(sums) if reached >= tenths)]]
    return {i for i in range(len(parts)) if off[i] <= last}


@pytest.mark.parametrize(
    ("name", "exact"), [("top_p", exact_top_p), ("min_p", exact_min_p), ("typical_p", exact_typical_p)]
)
def test_at_a_border_the_set_is_that_of_exact_arithmetic(
    name: str, exact: Callable[[Sequence[int], int], set[int]]
) -> None:
    splits = tenths()
    assert len(splits) == 9 + 36 + 84 + 126
    for parts, threshold in itertools.product(splits, range(1, 10)):
        d = distribution(np.log(np.array(parts) / 10), Sampling(temperature=1, **{name: threshold / 10}))
        assert set(np.flatnonzero(d.p).tolist()) == exact(parts, threshold), (parts, threshold)


@pytest.mark.parametrize("size", [10, 1000, 50_000])
def test_a_border_in_a_long_even_row(size: int) -> None:
    for tenth in range(1, 10):
        d = distribution(np.zeros(size), Sampling(temperature=1, top_p=tenth / 10))
        assert d.kept == size * tenth // 10


@pytest.mark.parametrize(("name", "setting", "weights", "kept"), [
    ("top_p", 0.8, [0.3, 0.1, 0.1, 0.5], [0, 3]),
    ("top_p", 0.8, [0.15, 0.3, 0.3, 0.25], [1, 2, 3]),
    ("min_p", 0.05, [0.9, 0.0274, 0.047, 0.0274], [0, 2]),
    ("min_p", 0.05, [0.15, 0.3, 0.3, 0.25], [0, 1, 2, 3]),
    ("min_p", 0.05, [0.97, 0.01, 0.01, 0.01], [0]),
    ("typical_p", 0.5, [0.97, 0.01, 0.01, 0.01], [0]),
    ("typical_p", 0.5, [0.4, 0.2, 0.2, 0.2], [1, 2, 3]),
])  # fmt: skip
def test_the_cases_that_transformers_publishes(
    name: str, setting: float, weights: list[float], kept: list[int]
) -> None:
    """From its tests/generation/test_logits_process.py."""
    d = distribution(np.log(weights), Sampling(temperature=1, **{name: setting}))
    assert np.flatnonzero(d.p).tolist() == kept


def test_every_permutation_is_taken_and_kept() -> None:
    chance = random.Random(8)
    for _ in range(300):
        order = chance.sample(DEFAULT_ORDER, len(DEFAULT_ORDER))
        chain = Sampling(order=order, **NEUTRAL)  # pyright: ignore[reportArgumentType]  a list is taken too
        assert chain.order == chain.active == tuple(order)
        assert Sampling.from_dict(chain.to_dict()) == chain


def test_the_order_decides() -> None:
    row = np.log([0.5, 0.3, 0.2])
    usual = distribution(row, Sampling(temperature=2, top_p=0.6))
    other = ("top_p", *(name for name in DEFAULT_ORDER if name != "top_p"))
    first = distribution(row, Sampling(temperature=2, top_p=0.6, order=other))
    # Heated, the three weigh sqrt(.5), sqrt(.3), sqrt(.2): 41.5, 32.2 and 26.3 %; either way two reach 60 %.
    assert [s.name for s in first.stages] == ["top_p", "temperature"] and usual.kept == first.kept == 2
    assert abs(usual.stages[1].removed_mass - 0.2628) < 1e-4 and abs(first.stages[0].removed_mass - 0.2) < 1e-12


@settings(max_examples=150)
@given(rows, chains, st.lists(st.integers(0, 30), max_size=10))
@pytest.mark.slow
def test_the_chain_is_its_stages_one_after_another(row: Row, chain: Sampling, history: list[int]) -> None:
    history = [i for i in history if i < len(row)]
    expected = row
    for name in chain.order:
        if getattr(chain, name) is None:
            continue
        alone = {other: None for other in DEFAULT_ORDER if other != "temperature"} | {name: getattr(chain, name)}
        expected = distribution(expected, Sampling(**{"temperature": 1} | alone), history).row
    assert bits(distribution(row, chain, history).row) == bits(expected)


@pytest.mark.parametrize("count", [-1, 1.5, True, "3", None, math.nan, 2**64])
def test_a_number_of_tokens_that_is_none_is_refused(count: Any) -> None:
    english = "whole number of at least 0"
    assert_usage_error(lambda: check_count(count), "E-MAX-NEW-TOKENS", english, count)


def test_a_record_that_cannot_fit_is_refused_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manako.engines.generation.available_memory", lambda: 2_000_000_000)
    with pytest.raises(ManakoError) as caught:
        golden_generation(max_new_tokens=10**9)
    assert (caught.value.code, caught.value.exit_code) == ("E-TRACE-TOO-LARGE", 1)
    assert (
        "84 GB" in str(caught.value)
        and "2,000.0 MB" in str(caught.value)
        and "-n" in str(caught.value)
        and "-n" in caught.value.text("ja")
    )


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, 1.0, "x", True, None, math.nan])
def test_a_seed_out_of_range_is_refused(seed: Any) -> None:
    assert_usage_error(lambda: check_seed(seed), "E-SEED", "whole number from 0 to 2^64 - 1", seed)


def test_the_first_and_last_seed_work() -> None:
    for seed in (0, 2**64 - 1, np.uint64(2**64 - 1), np.int32(7)):
        assert type(check_seed(seed)) is int and 0 <= uniform(check_seed(seed), 0) < 1


def test_settings_survive_json_whatever_number_type_they_came_in() -> None:
    import json

    chain = Sampling(temperature=np.float32(0.5), top_k=np.int64(7), top_p=Fraction(1, 2), min_p=np.float64(0.25))  # pyright: ignore
    again = Sampling.from_dict(json.loads(json.dumps(chain.to_dict())))
    assert again == chain and type(chain.top_k) is int and type(chain.top_p) is float


@pytest.mark.parametrize("values", [{"tempreature": 1}, {"temperature": 1, "beams": 2}, {1: 2, "x": 3}])
def test_an_unknown_setting_is_refused_and_the_known_ones_are_listed(values: dict[Any, Any]) -> None:
    odd = ", ".join(sorted(str(v) for v in values if v not in DEFAULT_ORDER))
    assert_usage_error(lambda: Sampling.from_dict(values), "E-SAMPLING-KEY", "typical_p", odd)


def test_entropy_of_distributions_known_by_heart() -> None:
    assert entropy(np.array([1.0])) == 0 and math.copysign(1, entropy(np.array([1.0]))) == 1
    assert entropy(np.full(8, 1 / 8)) == 3 and entropy(np.array([0.5, 0.25, 0.25, 0.0])) == 1.5


def test_stages_return_new_rows_and_leave_theirs_alone() -> None:
    row = np.array([0.0, 1.0, -np.inf, 2.0])
    kept = row.copy()
    for stage in STAGES:
        stage.filter(row, 2 if stage.whole else 0.5, *([[0, 3]] if stage.penalty else []))
        assert bits(row) == bits(kept), stage.name
    assert temperature(row, 1) is row
