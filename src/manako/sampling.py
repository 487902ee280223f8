"""From one row of logits to one drawn token: an ordered chain of pure stages, in float64, and the draw.

Special here: -inf in a row means *cut*, nothing else; a stage never turns a token it keeps into -inf. The draw walks
the kept tokens from the likeliest down, so `u` has a meaning one can see: small u takes the favourite at any
temperature. `u` comes from a counter-based generator keyed by (seed, step): the same step has the same `u` whatever
the settings. Where a threshold falls exactly on a border, rounding does not decide: a few units in the last place are
allowed for, so the set that is kept is the one of exact arithmetic.

Semantics and default order are those of `transformers` (v5, `generation/logits_process.py`); presence and frequency
penalties follow the OpenAI API. Left out: top-k by exact count. Tokens tied with the k-th all stay, as there.
"""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from manako.errors import ManakoError, Names, UsageError, near
from manako.frozen import Frozen

Row = npt.NDArray[np.float64]
Ids = npt.NDArray[np.integer[Any]]

LOWEST = float(np.finfo(np.float64).min)
_FIRST_LOOK = 64  # the draw sorts this many tokens before it falls back to sorting all
_64_BITS = 2**64 - 1
_ULP = float(np.finfo(np.float64).eps)
SAME = 1e-9  # numbers on record that differ by less are the same
_SLACK = 16 * _ULP  # what exp, log and a division or two can be wrong by, relative to 1


def softmax(row: Row) -> Row:
    """Probabilities of one row; 0 exactly where it is -inf.

    >>> softmax(np.array([0.0, np.log(3.0), -np.inf])).tolist()
    [0.25, 0.75, 0.0]
    """
    with np.errstate(over="ignore"):  # a gap wider than the largest float: that token has probability 0
        weights = np.exp(row - row.max())
    return weights / weights.sum()


def entropy(p: Row) -> float:
    """Entropy in bits of probabilities that sum to 1; cut tokens count nothing.

    >>> entropy(np.array([0.5, 0.25, 0.25, 0.0]))
    1.5
    """
    some = p[p > 0]
    return float(max(0.0, -(some * np.log2(some)).sum()))


def surprisal(p: float) -> float:
    """-log2 of a probability, in bits; infinite for 0.

    >>> surprisal(0.25), surprisal(1.0), surprisal(0.0)
    (2.0, 0.0, inf)
    """
    return max(0.0, -math.log2(p)) if p > 0 else math.inf


def repetition_penalty(row: Row, penalty: float, history: Sequence[int] | Ids) -> Row:
    """Make every token of the text so far less likely (penalty > 1). Source: Keskar et al. 2019, arXiv:1909.05858.

    >>> repetition_penalty(np.array([2.0, -1.0, 4.0]), 2.0, [0, 1]).tolist()
    [1.0, -2.0, 4.0]
    """
    seen, _ = _seen(row, history)
    after = row.copy()
    with np.errstate(over="ignore"):
        after[seen] = _finite_where_kept(np.where(row[seen] < 0, row[seen] * penalty, row[seen] / penalty), row[seen])
    return after


def presence_penalty(row: Row, penalty: float, history: Sequence[int] | Ids) -> Row:
    """Subtract `penalty` once from every token of the text so far. Source: the OpenAI API.

    >>> presence_penalty(np.array([2.0, 1.0, 4.0]), 0.5, [0, 0]).tolist()
    [1.5, 1.0, 4.0]
    """
    seen, _ = _seen(row, history)
    return _lowered(row, seen, penalty, np.ones_like(seen))


def frequency_penalty(row: Row, penalty: float, history: Sequence[int] | Ids) -> Row:
    """Subtract `penalty` from every token for each time it is in the text so far. Source: the OpenAI API.

    >>> frequency_penalty(np.array([2.0, 1.0, 4.0]), 0.5, [0, 0]).tolist()
    [1.0, 1.0, 4.0]
    """
    seen, counts = _seen(row, history)
    return _lowered(row, seen, penalty, counts)


def temperature(row: Row, t: float) -> Row:
    """Divide by `t`; 0 keeps the likeliest token alone, the lowest id of several.

    The maximum is subtracted first, so that no `t`, however small or large, gives NaN. What would fall below the lowest
    float stays there: its probability is 0, but no stage has cut it.

    >>> softmax(temperature(np.log([0.8, 0.2]), 0.5)).round(4).tolist()
    [0.9412, 0.0588]
    """
    if t == 1:
        return row
    if t == 0:
        after = np.full_like(row, -np.inf)
        after[np.argmax(row)] = 0.0
        return after
    with np.errstate(over="ignore"):
        return _finite_where_kept((row - row.max()) / t, row)


def top_k(row: Row, k: int) -> Row:
    """Cut every token below the k-th likeliest; tokens tied with it stay. Source: Fan et al. 2018, arXiv:1805.04833.

    >>> top_k(np.array([1.0, 3.0, 2.0, 2.0]), 2).tolist()
    [-inf, 3.0, 2.0, 2.0]
    """
    if k >= row.size:
        return row
    kth = np.partition(row, row.size - k)[row.size - k]
    return np.where(row < kth, -np.inf, row)


def top_p(row: Row, threshold: float) -> Row:
    """Cut every token outside the smallest likeliest set whose probability reaches `threshold`.

    The token that crosses it stays; equal logits go by id, so that all machines keep the same set. 1 keeps all.
    Source: Holtzman et al. 2020, arXiv:1904.09751.

    >>> np.exp(top_p(np.log([0.5, 0.3, 0.2]), 0.6)).round(2).tolist()
    [0.5, 0.3, 0.0]
    >>> np.exp(top_p(np.log([0.7, 0.1, 0.2]), 0.9)).round(2).tolist()  # though 0.7 + 0.2 is 0.8999999999999999
    [0.7, 0.0, 0.2]
    """
    if threshold == 1:
        return row
    order = _best_first(row)  # [V]
    stay = order[: int(np.count_nonzero(_reached(softmax(row[order])) < threshold)) + 1]
    after = np.full_like(row, -np.inf)
    after[stay] = row[stay]
    return after


def min_p(row: Row, share: float) -> Row:
    """Cut every token of less than `share` of the likeliest one's probability. Source: Nguyen et al., arXiv:2407.01082.

    >>> np.exp(min_p(np.log([0.6, 0.35, 0.05]), 0.5)).round(2).tolist()
    [0.6, 0.35, 0.0]
    """
    if share == 0:
        return row
    p = softmax(row)
    return np.where(p * (1 + _SLACK) < share * p.max(), -np.inf, row)


def typical_p(row: Row, mass: float) -> Row:
    """Keep the tokens whose surprisal lies closest to the entropy until they reach `mass`.

    Source: Meister et al. 2022, arXiv:2202.00666.

    >>> np.isfinite(typical_p(np.log([0.4, 0.3, 0.2, 0.1]), 0.2)).tolist()
    [False, True, False, False]
    """
    if mass == 1:
        return row
    p = softmax(row)
    kept = p > 0
    surprisal = np.full_like(row, np.inf)
    surprisal[kept] = -np.log(p[kept])
    expected = float((p[kept] * surprisal[kept]).sum())
    off = np.abs(surprisal - expected)  # [V] inf where p is 0
    order = _best_first(-off)  # [V] most typical first
    last = off[order[min(int(np.count_nonzero(_reached(p[order]) < mass)), row.size - 1)]]
    return np.where(off > last + _SLACK * (1 + expected + last), -np.inf, row)


def _reached(p: Row) -> Row:
    """[V] the mass up to and including each token, and what rounding can take from a sum of so many numbers.

    So a threshold that the mass reaches in exact arithmetic is reached: 0.7 + 0.2 is 0.9.
    """
    return np.cumsum(p) + _SLACK + _ULP * np.arange(p.size)


def _lowered(row: Row, seen: Ids, penalty: float, times: Ids) -> Row:
    after = row.copy()
    with np.errstate(over="ignore", invalid="ignore"):  # -inf minus -inf, where a cut token meets a huge bonus
        after[seen] = _finite_where_kept(row[seen] - penalty * times, row[seen])
    return after


def _seen(row: Row, history: Sequence[int] | Ids) -> tuple[Ids, Ids]:
    """The ids of the text so far, each once, with its count. Ids that have no logit cannot be drawn: left out."""
    ids = np.asarray(history, dtype=np.int64)
    return np.unique(ids[(ids >= 0) & (ids < row.size)], return_counts=True)


def _finite_where_kept(after: Row, before: Row) -> Row:
    return np.where(before > -np.inf, np.clip(after, LOWEST, -LOWEST), -np.inf)


@dataclass(frozen=True, eq=False)
class Cut(Frozen):
    """What is on record of a row that a stage has cut, where only some of its tokens are listed.

    Values are those of the row before the stage, up to one constant for all.
    """

    kept: Row
    """Values of the listed tokens that it kept, largest first; at least one."""
    cut: Row
    """Values of the listed tokens that it cut."""
    outside: float
    """No token that is not listed had a larger value; -inf where none was left."""
    count: int
    """How many tokens of the whole vocabulary it kept."""
    any: bool
    """Whether it is certain that it cut one."""
    mass: float
    """Probability, before the stage, of all that it kept; NaN where that cannot be told."""
    unit: float
    """Probability, before the stage, of a token of value 0; NaN where that cannot be told."""


def _greedy_fits(cut: Cut, t: float) -> bool:
    return cut.count == 1


def _top_k_fits(cut: Cut, k: int) -> bool:
    """At least k stay where anything goes; more than k only where they tie with the k-th."""
    tied = cut.kept.size < k or cut.kept[k - 1] == cut.kept[-1]
    return bool(tied) and (cut.count >= k or not cut.any)


def _top_p_fits(cut: Cut, threshold: float) -> bool:
    """What stays reaches the threshold, and would not without the least of it."""
    enough = not cut.mass < threshold - SAME
    spare = cut.count == cut.kept.size and cut.mass - cut.unit * np.exp(cut.kept[-1]) > threshold + SAME
    return enough and not spare


def _min_p_fits(cut: Cut, share: float) -> bool:
    """The border lies below the largest value, which a token that is not listed may have."""
    largest = np.concatenate([cut.kept, cut.cut]).max()
    low, high = largest + np.log(share) - SAME, max(largest, cut.outside) + np.log(share) + SAME
    unlisted = cut.count == cut.kept.size or cut.outside >= low
    return bool(cut.kept[-1] >= low and (cut.cut < high).all() and unlisted)


def _typical_p_fits(cut: Cut, mass: float) -> bool:
    """What stays lies on both sides of the entropy: one stretch of values, of enough mass."""
    inside = (cut.cut < cut.kept[0]) & (cut.cut > cut.kept[-1])
    return not inside.any() and not cut.mass < mass - SAME


@dataclass(frozen=True)
class Stage:
    """One stage of the chain: all that is to know of it. Flags, settings of a request and their ranges follow from it.

    A number is finite, as a float too, and from `low` to `high`, None for no end. The field of `Sampling` with its name
    is its setting.
    """

    name: str
    filter: Callable[..., Row]
    """(row, setting) -> the row after it; of a penalty, (row, setting, history)."""
    low: float | None = None
    high: float | None = None
    low_included: bool = True
    whole: bool = False
    """Whether only whole numbers make sense."""
    neutral: float | None = None
    """The setting that changes nothing; None where that depends on the vocabulary."""
    penalty: bool = False
    """Whether it asks for the ids of the text so far."""
    from_below: bool = True
    """Whether no token that it cuts is likelier than one that it keeps."""
    fits: Callable[[Cut, Any], bool] | None = None
    """Whether it can have cut so, as far as a part of the row tells; None where it never cuts."""

    def cuts(self, setting: float) -> bool:
        """Whether it can cut tokens with this setting; otherwise it keeps all, and changes their values."""
        return self.fits is not None and setting != self.neutral and (self.filter is not temperature or setting == 0)

    @property
    def rule(self) -> dict[str, Any]:
        """The range in the words of JSON Schema.

        >>> STAGES[5].rule
        {'type': 'number', 'exclusiveMinimum': 0, 'maximum': 1}
        """
        ends = {"minimum" if self.low_included else "exclusiveMinimum": self.low, "maximum": self.high}
        return {"type": "integer" if self.whole else "number"} | {k: v for k, v in ends.items() if v is not None}

    def checked(self, value: Any) -> float:
        """A setting as a plain number, since one of NumPy has no place in the JSON of a record. Raises UsageError."""
        kind: Any = numbers.Integral if self.whole else numbers.Real
        fits = isinstance(value, kind) and not isinstance(value, bool)
        try:
            number = float(value) if fits else math.nan
        except OverflowError:  # a fraction, or a whole number, beyond the largest float
            number = math.inf
        # After conversion: 1/10^400 lies in (0, 1], its float does not. The first comparison also catches NaN.
        if not -math.inf < number < math.inf or not self._inside(number):
            raise UsageError(self.name, got=value)
        return int(value) if self.whole else number

    def _inside(self, number: float) -> bool:
        above = self.low is None or number > self.low or (self.low_included and number == self.low)
        return above and (self.high is None or number <= self.high)


STAGES = (  # in the default order
    Stage("repetition_penalty", repetition_penalty, low=0, low_included=False, neutral=1, penalty=True),
    Stage("presence_penalty", presence_penalty, neutral=0, penalty=True),
    Stage("frequency_penalty", frequency_penalty, neutral=0, penalty=True),
    Stage("temperature", temperature, low=0, neutral=1, fits=_greedy_fits),
    Stage("top_k", top_k, low=1, whole=True, fits=_top_k_fits),
    Stage("top_p", top_p, low=0, high=1, low_included=False, neutral=1, fits=_top_p_fits),
    Stage("min_p", min_p, low=0, high=1, neutral=0, fits=_min_p_fits),
    Stage("typical_p", typical_p, low=0, high=1, low_included=False, neutral=1, fits=_typical_p_fits, from_below=False),
)
DEFAULT_ORDER = tuple(stage.name for stage in STAGES)
STAGE = {stage.name: stage for stage in STAGES}


@dataclass(frozen=True)
class Sampling:
    """The settings of the chain. None leaves a stage out; a neutral value runs it and changes nothing.

    Raises UsageError naming value and range.
    """

    temperature: float = 0.8
    """Divides the logits; 1 leaves the model's own probabilities, 0 is greedy by definition, ties to the lowest id."""
    top_k: int | None = None
    """Keep the k likeliest tokens, and all tied with the k-th."""
    top_p: float | None = None
    """Keep the smallest likeliest set that reaches this mass; the token that crosses it stays."""
    min_p: float | None = None
    """Keep tokens of at least this share of the likeliest one's probability."""
    typical_p: float | None = None
    """Keep the tokens closest to the expected surprisal until they reach this mass."""
    repetition_penalty: float | None = None
    """Divides positive and multiplies negative logits of every token that is already in the text."""
    presence_penalty: float | None = None
    """Subtracted once from every token that is already in the text."""
    frequency_penalty: float | None = None
    """Subtracted once for each time a token is already in the text."""
    order: tuple[str, ...] = DEFAULT_ORDER
    """The stages that are used, in order; others may stand among them or not."""

    def __post_init__(self) -> None:
        for stage in STAGES:
            value = getattr(self, stage.name)
            if value is not None or getattr(Sampling, stage.name) is not None:  # temperature cannot be left out
                object.__setattr__(self, stage.name, stage.checked(value))
        object.__setattr__(self, "order", _checked_order(self))

    @property
    def active(self) -> tuple[str, ...]:
        """The stages that run, in order."""
        return tuple(name for name in self.order if getattr(self, name) is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"order": list(self.order)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sampling":
        """The reverse of `to_dict`; an unknown key raises UsageError."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(map(str, values.keys() - known)):
            raise UsageError("sampling_key", got=", ".join(unknown), known=Names(sorted(known)))
        if "temperature" not in values:  # what is usual today says nothing about a record
            raise UsageError("temperature", got=None)
        return cls(**values)


def listed(given: Any) -> tuple[Any, ...]:
    """Several values; one that stands alone, as a name that is not read letter by letter, is a list of itself.

    >>> listed("head:0.0"), listed(["mlp:1", "layer:2"]), listed(0.8)
    (('head:0.0',), ('mlp:1', 'layer:2'), (0.8,))
    """
    if isinstance(given, Iterable) and not isinstance(given, str):
        return tuple(cast("Iterable[Any]", given))
    return (given,)


def ordered(order: Sequence[str], used: Iterable[str]) -> tuple[str, ...]:
    """An order with every stage that is used: one that it lacks stands before the first that follows by default.

    >>> ordered(("temperature", "top_p"), ["top_k", "top_p"])
    ('temperature', 'top_k', 'top_p')
    """
    found = list(order)
    for name in DEFAULT_ORDER:
        if name in used and name not in found:
            later = (n for n, other in enumerate(found) if DEFAULT_ORDER.index(other) > DEFAULT_ORDER.index(name))
            found.insert(next(later, len(found)), name)
    return tuple(found)


def _checked_order(sampling: Sampling) -> tuple[str, ...]:
    """The order as plain names, each known, once, and none missing that is used. Raises UsageError."""
    order = tuple(map(str, listed(sampling.order)))
    for name in order:
        if name not in DEFAULT_ORDER:
            raise UsageError("order_unknown", name=name, near=near(name, DEFAULT_ORDER), known=Names(DEFAULT_ORDER))
        if order.count(name) > 1:
            raise UsageError("order_twice", name=name)
    used = (stage.name for stage in STAGES if getattr(sampling, stage.name) is not None)
    if missing := [name for name in used if name not in order]:
        raise UsageError("order_missing", name=", ".join(missing), got=", ".join(order))
    return order


@dataclass(frozen=True)
class StageResult:
    """What one stage did to the row."""

    name: str
    kept: int
    """Tokens left after it."""
    removed_mass: float
    """Probability, just before this stage, of the tokens that it cut."""


@dataclass(frozen=True, eq=False)
class Distribution(Frozen):
    """One row of logits, seen twice: as the model gave it and as the draw uses it."""

    logits: Row
    """[V] the model's own, natural log, unnormalised."""
    row: Row
    """[V] after the chain; -inf where a stage cut."""
    p_model: Row
    """[V] softmax of `logits`: T = 1, whole vocabulary."""
    p: Row
    """[V] softmax of `row`: what the draw uses; exactly 0 where cut."""
    cut_by: npt.NDArray[np.int8]
    """[V] index into `stages` of the stage that cut a token, -1 where none did."""
    stages: tuple[StageResult, ...]
    """The stages that ran, in order."""

    @cached_property
    def kept(self) -> int:
        """How many tokens no stage cut."""
        return int(np.count_nonzero(self.row > -np.inf))

    @property
    def entropy(self) -> float:
        """Entropy of `p` in bits: 0 when one token is certain, log2(V) when all are alike."""
        return entropy(self.p)

    def top(self, n: int) -> Ids:
        """The ids of the n first tokens: by `row`, then by the model's own logit (which ranks cut tokens), then id."""
        return self._first[:n] if n <= len(self._first) else self._ordered(n)

    @cached_property
    def _first(self) -> Ids:
        """What the draw and every list look at first."""
        return self._ordered(min(_FIRST_LOOK, self.kept))

    def _ordered(self, n: int) -> Ids:
        if n <= self.kept:
            return _best(self.row, self.logits, n)
        kept = _best(self.row, self.logits, self.kept)
        rest = np.where(self.row > -np.inf, -np.inf, self.logits)
        cut = _best(rest, rest, min(n, len(rest)))  # at most `kept` of them are kept ones
        return np.concatenate([kept, cut[np.isin(cut, kept, invert=True)][: n - self.kept]])

    def rank(self, token_id: int) -> int:
        """The place of a token in the order of `top`, counted from 1."""
        row, logits = self.row, self.logits
        tied = row == row[token_id]
        before = np.count_nonzero(row > row[token_id]) + np.count_nonzero(tied & (logits > logits[token_id]))
        same = tied & (logits == logits[token_id])
        return int(before + np.count_nonzero(same[:token_id])) + 1


@dataclass(frozen=True)
class Draw:
    """A drawn token and where `u` fell on the line of cumulative probability, likeliest token first."""

    token_id: int
    u: float
    low: float
    """Mass of all tokens before it on the line."""
    high: float
    """The same with its own: low <= u < high, but for rounding at the very end."""


def distribution(logits: npt.ArrayLike, sampling: Sampling, history: Sequence[int] | Ids = ()) -> Distribution:
    """Run the chain over one row.

    logits: [V], any float type, natural log, unnormalised. history: ids of the whole text so far, for the penalties.
    Raises ManakoError for NaN, +inf, or a row with nothing in it.

    >>> d = distribution(np.log([0.5, 0.3, 0.2]), Sampling(temperature=1, top_p=0.6))
    >>> d.p.round(3).tolist(), [(s.name, s.kept, round(s.removed_mass, 3)) for s in d.stages]
    ([0.625, 0.375, 0.0], [('temperature', 3, 0.0), ('top_p', 2, 0.2)])
    """
    raw = np.array(logits, dtype=np.float64)  # [V]
    if raw.ndim != 1 or raw.size == 0:
        raise ManakoError("logits_shape", shape=list(raw.shape))
    if not np.max(raw) < np.inf or np.max(raw) == -np.inf:  # the first test also catches NaN
        raise ManakoError("logits_not_finite")
    row, results = raw, list[StageResult]()
    cut_by = np.full(raw.size, -1, dtype=np.int8)  # [V]
    p_model = p = softmax(raw)
    for name in sampling.active:
        stage, setting = STAGE[name], getattr(sampling, name)
        after = stage.filter(row, setting, history) if stage.penalty else stage.filter(row, setting)
        cut = (after == -np.inf) & (row > -np.inf)
        cut_by[cut] = len(results)
        results.append(StageResult(name, int(np.count_nonzero(after > -np.inf)), float(p[cut].sum())))
        if after is not row:
            row, p = after, softmax(after)
    return Distribution(raw, row, p_model, p, cut_by, tuple(results))


def draw(distribution: Distribution, u: float) -> Draw:
    """The token at `u` in [0, 1) on the cumulative line, likeliest first; never one of probability 0.

    >>> d = distribution(np.log([0.3, 0.5, 0.2]), Sampling(temperature=1))
    >>> [draw(d, u).token_id for u in (0.0, 0.4999, 0.5, 0.999)]
    [1, 1, 0, 2]
    """
    if not 0 <= u < 1:
        raise ManakoError("u_range", got=u)
    ids = distribution.top(min(_FIRST_LOOK, distribution.kept))
    line = np.cumsum(distribution.p[ids])
    if u >= line[-1] and len(ids) < distribution.kept:
        ids = distribution.top(distribution.kept)
        line = np.cumsum(distribution.p[ids])
    # Rounding can leave the end of the line below u; the last token with any probability then has it.
    last = int(np.count_nonzero(distribution.p[ids])) - 1
    place = min(int(np.searchsorted(line, u, side="right")), last)
    return Draw(int(ids[place]), u, float(line[place - 1]) if place else 0.0, float(line[place]))


def uniform(seed: int, step: int) -> float:
    """The random number of one step, in [0, 1) with 53 random bits, the same on every machine.

    The first output of Philox4x64-10 with key (seed, 0) and counter (step + 1, 0, 0, 0), its upper 53 bits over 2^53.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; numpy.random.Philox.

    >>> uniform(0, 0), uniform(0, 1)
    (0.011546754286331562, 0.5023796042735054)
    """
    a, b, c, d, key, weyl = step + 1 & _64_BITS, 0, 0, 0, seed, 0  # plain integers: a generator of NumPy takes longer
    for _ in range(10):
        left, right = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = right >> 64 ^ b ^ key, right & _64_BITS, left >> 64 ^ d ^ weyl, left & _64_BITS
        key, weyl = key + 0x9E3779B97F4A7C15 & _64_BITS, weyl + 0xBB67AE8584CAA73B & _64_BITS
    return (a >> 11) * 2.0**-53


def check_seed(seed: object) -> int:
    """A seed as a whole number from 0 to 2^64 - 1. Raises UsageError."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 2**64:
        raise UsageError("seed", got=seed)
    return int(seed)


def _best(values: Row, then_by: Row, n: int) -> Ids:
    """The n best places by (value, then_by, lower place): sorts only what can be among them."""
    some = np.flatnonzero(values > -np.inf)  # a search among thousands of equal -inf would take ten times as long
    if len(some) < n:
        some = np.arange(values.size)
    elif 0 < n < len(some):
        candidates = values[some]
        some = some[candidates >= np.partition(candidates, len(some) - n)[len(some) - n]]
    return _in_order(some, values, then_by)[:n]


def _best_first(row: Row) -> Ids:
    """All places of a row by (value, lower place), those of -inf last."""
    kept = row > -np.inf
    return np.append(_in_order(np.flatnonzero(kept), row, row), np.flatnonzero(~kept))


def _in_order(places: Ids, values: Row, then_by: Row) -> Ids:
    """Places, given from the lowest up, by (value, then_by, lower place): the same on every machine.

    np.lexsort would do, and takes four times as long: equal values are few, so only those are put in order by the rest.
    """
    some = -values[places]
    order = np.argsort(some)
    ranked = some[order]
    same = ranked[1:] == ranked[:-1]
    if same.any():
        tied = np.append(same, False) | np.append(False, same)
        equal = np.sort(order[tied])
        order[tied] = equal[np.lexsort((-then_by[places[equal]], some[equal]))]  # stable: the rest stays by place
    return places[order]
