"""Power laws through the runs of a sweep: loss against parameters, text and compute, and how well they foretell.

    L(x)    = E + A / x^α                    the best run at each value of x
    L(N, D) = E + A / N^α + B / D^β          all runs (Hoffmann et al. 2022, arXiv:2203.15556, approach 3)

Special here: fitted as there, by the Huber loss of log L and L-BFGS from a grid of starts, but over x divided by its
geometric mean, so that one grid does for any sweep; the start with the least loss is found among all of them, and those
next to it are followed. Intervals come from refits to the fitted losses with residuals drawn anew, widened for the few
degrees of freedom that small sweeps leave: with nine runs, drawing runs anew would leave too few different ones.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.analysis.sweep import Outcome
from manako.errors import MissingExtraError

Floats = npt.NDArray[np.float64]
HUBER = 1e-3  # of log L: beyond it an error counts by its size, not its square
RESAMPLES = 200
LEVEL = 0.99  # of an interval
LEAST_VALUES, LEAST_RUNS, LEAST_EACH = 5, 8, 3
"""A law in one variable needs so many different values; one in two so many runs, and of each variable so many values.
One run of them is left out once, and those that stay must be more than the numbers that are fitted."""
_FOLLOWED = 12  # starts
_GRID = {"exponent": (0.1, 0.3, 0.6, 1.0, 1.6), "share": (0.02, 0.1, 0.3, 0.6, 0.9)}
_SCALES = ("n_layer", "n_head", "n_embd", "data", "steps", "flops")  # what a law is a law of; all else is a group


@dataclass(frozen=True)
class Constant:
    """A fitted number and the interval it lies in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LeftOut:
    """The run with the most compute, foretold by a fit to all others."""

    run: str
    measured: float
    predicted: Constant

    @property
    def error(self) -> float:
        """As a share of what was measured."""
        return self.predicted.value / self.measured - 1


@dataclass(frozen=True)
class Law:
    """One law through some runs."""

    variables: tuple[str, ...]
    """Out of VARIABLES: one, or parameters and characters."""
    points: Sequence[tuple[Sequence[float], float]]
    """(x of each variable, bits a character) of each run that it was fitted to."""
    irreducible: Constant
    """E: what no size and no text would take away."""
    factors: Sequence[Constant]
    """A, and B."""
    exponents: Sequence[Constant]
    """α, and β."""
    left_out: LeftOut

    def __call__(self, x: Sequence[float]) -> float:
        """Bits a character at these values of the variables."""
        terms = (a.value / v**e.value for v, a, e in zip(x, self.factors, self.exponents, strict=True))
        return self.irreducible.value + sum(terms)


@dataclass(frozen=True)
class Refusal:
    """A law that there are too few runs for."""

    variables: tuple[str, ...]
    have: int
    need: int
    of: str
    """What there are too few of: "runs", or one of VARIABLES."""


@dataclass(frozen=True)
class Scaling:
    """The laws of runs that differ in nothing but size, text and compute."""

    group: tuple[tuple[str, Any], ...]
    """(name, value) of what else the sweep varies."""
    outcomes: Sequence[Outcome]
    laws: Sequence[Law | Refusal]


VARIABLES: dict[str, Callable[[Outcome], float]] = {
    "parameters": lambda o: o.parameters,
    "characters": lambda o: o.different_characters,
    "flops": lambda o: o.flops,
}


def scaling(outcomes: Sequence[Outcome], seed: int = 0) -> list[Scaling]:
    """Every law for every group of finished runs. seed: of the residuals that are drawn. Raises MissingExtraError."""
    groups: dict[tuple[tuple[str, Any], ...], list[Outcome]] = {}
    for outcome in outcomes:
        group = tuple((name, value) for name, value in outcome.varied.items() if name not in _SCALES)
        groups.setdefault(group, []).append(outcome)
    forms: list[tuple[str, ...]] = [*((name,) for name in VARIABLES), JOINT]
    return [Scaling(group, runs, [law(runs, form, seed) for form in forms]) for group, runs in groups.items()]


JOINT = ("parameters", "characters")


def law(outcomes: Sequence[Outcome], variables: tuple[str, ...], seed: int = 0) -> Law | Refusal:
    """One law through some runs, or why there is none. Raises MissingExtraError without SciPy."""
    unsure = [o for o in outcomes if o.bits_per_character > 0]  # a text known by heart has no logarithm of its loss
    used = _best(unsure, *variables) if len(variables) == 1 else unsure
    x = np.array([[VARIABLES[name](o) for o in used] for name in variables], dtype=np.float64).T  # [runs, variables]
    bits = np.array([o.bits_per_character for o in used], dtype=np.float64)
    if refusal := _refusal(variables, x):
        return refusal
    random = np.random.Generator(np.random.Philox(seed))
    last = int(np.argmax([o.flops for o in used]))
    rest = np.arange(len(used)) != last
    before = Fit(x[rest], bits[rest], random)
    foretold = before.positive(lambda p: math.log(before.at(p, x[last : last + 1])[0]))
    irreducible, *others = _constants(Fit(x, bits, random))
    return Law(
        variables,
        [(tuple(map(float, row)), float(b)) for row, b in zip(x.tolist(), bits, strict=True)],
        irreducible,
        others[: len(variables)],
        others[len(variables) :],
        LeftOut(used[last].run, float(bits[last]), foretold),
    )


def _constants(fit: "Fit") -> list[Constant]:
    """E, then the factors, then the exponents."""
    k = len(fit.middle)
    factors = [fit.positive(lambda p, n=n: p[1 + n] + p[1 + k + n] * fit.middle[n]) for n in range(k)]
    exponents = [fit.interval(lambda p, n=n: p[1 + k + n]) for n in range(k)]
    return [fit.positive(lambda p: p[0]), *factors, *exponents]


Curve = tuple[float, list[tuple[float, float]], list[tuple[float, float]]]
"""(parameters, points, line): of a law in one variable there is one, and its parameters are nothing."""


def curves(law: Law, places: int = 60) -> list[Curve]:
    """A law as it is drawn, over its last variable: the runs, and the line through them; one for each size of model."""
    xs = [x[-1] for x, _ in law.points]
    line = np.geomspace(min(xs), max(xs), places).tolist()
    found: list[Curve] = []
    for size in sorted({x[0] if len(x) > 1 else 0.0 for x, _ in law.points}):
        first = (size,) if len(law.variables) > 1 else ()
        points = [(x[-1], bits) for x, bits in law.points if not first or x[0] == size]
        found.append((size, points, [(x, law((*first, x))) for x in line]))
    return found


def _best(outcomes: Sequence[Outcome], variable: str) -> list[Outcome]:
    """The runs that a law in one variable is about: the best at each value; of compute, those no cheaper one beats."""
    best: dict[float, Outcome] = {}
    for o in outcomes:
        x = VARIABLES[variable](o)
        if x not in best or o.bits_per_character < best[x].bits_per_character:
            best[x] = o
    found = [best[x] for x in sorted(best)]
    if variable != "flops":
        return found
    least = itertools.accumulate((o.bits_per_character for o in found), min)
    return [o for o, bits in zip(found, least, strict=True) if o.bits_per_character <= bits]


def _refusal(variables: tuple[str, ...], x: Floats) -> Refusal | None:
    values = [len(set(column)) for column in x.T.tolist()]
    if len(variables) == 1:
        return Refusal(variables, values[0], LEAST_VALUES, variables[0]) if values[0] < LEAST_VALUES else None
    for name, have in zip(variables, values, strict=True):
        if have < LEAST_EACH:
            return Refusal(variables, have, LEAST_EACH, name)
    return Refusal(variables, len(x), LEAST_RUNS, "runs") if len(x) < LEAST_RUNS else None


class Fit:
    """The constants of one law, (log E, log A', log B', α, β), A' and B' at the geometric means, and their spread."""

    def __init__(self, x: Floats, bits: Floats, random: np.random.Generator) -> None:
        if find_spec("scipy") is None:
            raise MissingExtraError("missing_scipy")
        self.minimize: Any = import_module("scipy.optimize").minimize
        self.middle = np.log(x).mean(axis=0)  # [variables]
        self.x = np.log(x) - self.middle  # [runs, variables]
        logs = np.log(bits)
        self.best = min((self._followed(start, logs) for start in self._starts(bits)), key=lambda found: found[1])[0]
        fitted = _log_loss(self.best, self.x)
        free = len(bits) - len(self.best)
        # Such a fit passes through about as many runs as it has constants; what those are off by says nothing.
        residuals = sorted(logs - fitted, key=abs)[len(self.best) :]
        drawn = random.choice(residuals, (RESAMPLES, len(bits)))
        self.resampled = [self._followed(self.best, fitted + each)[0] for each in drawn]
        self.wider = _student(free) / 2.575829
        """Times the spread of a normal distribution: the spread is itself known from few runs."""

    def at(self, p: Floats, x: Floats) -> Floats:
        """Bits a character at x [points, variables]."""
        return np.exp(_log_loss(p, np.log(x) - self.middle))

    def interval(self, of: Callable[[Floats], float], least: float = 0.0) -> Constant:
        """A number that follows from the constants, and its interval. least: below which it cannot be."""
        value, others = float(of(self.best)), np.array([of(p) for p in self.resampled])
        low, high = np.quantile(others, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        down, up = self.wider * max(value - low, 0.0), self.wider * max(high - value, 0.0)
        return Constant(value, max(value - down, least), value + up)

    def positive(self, log_of: Callable[[Floats], float]) -> Constant:
        """The same for a number that is known by its logarithm."""
        found = self.interval(log_of, -math.inf)
        return Constant(*(math.exp(min(end, 700.0)) for end in (found.value, found.low, found.high)))

    def _starts(self, bits: Floats) -> list[Floats]:
        """The most promising of a grid: shares of the lowest loss that are irreducible, and exponents."""
        k, least = len(self.middle), float(bits.min())
        spread = float(np.median(bits)) - least
        starts: list[Floats] = []
        for share in _GRID["share"]:
            for exponents in itertools.product(_GRID["exponent"], repeat=k):
                term = max(least * (1 - share) + spread, 1e-6) / k
                starts.append(np.array([math.log(share * least), *[math.log(term)] * k, *exponents]))
        logs = np.log(bits)
        return sorted(starts, key=lambda p: self._huber(p, logs)[0])[:_FOLLOWED]

    def _followed(self, start: Floats, logs: Floats) -> tuple[Floats, float]:
        k = len(self.middle)
        bounds = [(-12.0, float(logs.min()))] + [(-12.0, 12.0)] * k + [(0.0, 4.0)] * k
        found = self.minimize(
            self._huber, start, args=(logs,), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 400}
        )
        return found.x, float(found.fun)

    def _huber(self, p: Floats, logs: Floats) -> tuple[float, Floats]:
        """The loss of a fit, over HUBER^2 so that a search ends where it should, and its gradient."""
        k = len(self.middle)
        exponents = np.concatenate([np.zeros((len(self.x), 1)), -p[1 + k :] * self.x], axis=1) + p[: 1 + k]
        total = np.logaddexp.reduce(exponents, axis=1)  # [runs]
        shares = np.exp(exponents - total[:, None])  # [runs, 1 + variables]
        errors: Floats = (total - logs) / HUBER
        slope = np.clip(errors, -1, 1)
        near = np.minimum(np.abs(errors), 1)
        loss = float(np.sum(near * (np.abs(errors) - near / 2)))
        weighted = slope[:, None] * shares / HUBER
        return loss, np.concatenate([weighted.sum(axis=0), (weighted[:, 1:] * -self.x).sum(axis=0)])


def _log_loss(p: Floats, x: Floats) -> Floats:
    """log L at x [runs, variables], logs around the middle."""
    k = x.shape[1]
    terms = [np.full(len(x), p[0]), *(p[1 + n] - p[1 + k + n] * x[:, n] for n in range(k))]
    return np.logaddexp.reduce(np.array(terms), axis=0)


def _student(free: int) -> float:
    """How many spreads of a t distribution hold LEVEL of it."""
    return float(import_module("scipy.stats").t.ppf((1 + LEVEL) / 2, free))
