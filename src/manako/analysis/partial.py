"""Whether the numbers of a step follow from each other where only a part of its row is on record: the chain, over that.

Special here: what a stage makes of a listed token follows from its logit, the settings and the text, but for a constant
that is the same for all; so every ratio of probabilities is known, and with it what each stage can have cut. Of the
tokens that are not listed their count, their mass and their largest logit are on record, which bounds them from both
sides. How much a stage removed is checked where none after it changes values again, as in the default order.

Letters: K candidates on record, A active stages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.frozen import Frozen
from manako.sampling import SAME, STAGE, Cut, Row, repetition_penalty
from manako.trace.record import Trace

_FLOOR = 1e-15  # of a sum of probabilities: what is smaller is rounding
_TINY = 1e-290  # a mass with fewer digits than it should have
_SMALLEST = float(np.finfo(np.float64).tiny)  # a probability below it has fewer digits, and not the same everywhere
_FAR = 1e5  # values this far from 0 have too few digits left for a difference to be SAME
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Values(Frozen):
    """A row before a stage, or at the end."""

    listed: Row
    """[K]"""
    chosen: float
    """Of the chosen token, which may be outside the list."""
    bound: float
    """No token outside the list is above."""


def misfit(trace: Trace, index: int) -> str | None:
    """The first column of a step that contradicts the others; None where they agree.

    Not whether probabilities add up, and not the draw: see verification.py.
    """
    with np.errstate(all="ignore"):  # of numbers that somebody made up
        return next(_Part(trace, index).misfits(), None)


class _Part:
    """What is on record of one step."""

    def __init__(self, trace: Trace, index: int) -> None:
        columns, part = trace.columns, trace.columns.part
        assert part is not None  # made of partial records alone
        here: dict[str, Any] = {name: column[index] for name, column in part.items()}
        self.ids: list[int] = here["part_id"].tolist()
        self.logit: Row = here["part_logit"].astype(np.float64)  # [K]
        self.p: Row = here["part_p"]  # [K]
        self.cut_by = here["part_cut_by"]  # [K]
        self.kept: list[int] = here["stage_kept"].tolist()  # [A]
        self.removed: Row = here["stage_removed_mass"]  # [A]
        self.largest, self.logsumexp = float(here["rest_logit_max"]), float(here["logsumexp"])
        self.rest_p, self.rest_p_model = float(here["rest_p"]), float(here["rest_p_model"])
        self.entropy, self.chosen_logit = float(here["entropy"]), float(here["chosen_logit"])
        self.chosen, self.rank = int(columns.token_id[index]), int(columns.rank[index])
        self.chosen_p, self.is_drawn = float(columns.p[index]), trace.header.seed is not None
        self.temperature = trace.header.sampling.temperature
        self.stages = [(STAGE[name], getattr(trace.header.sampling, name)) for name in trace.header.sampling.active]
        self.size, self.outside = trace.vocabulary.size, trace.vocabulary.size - len(self.ids)
        self.alive: Mask = self.logit > -np.inf  # [K] what the model itself rules out, no stage has cut
        self.stays: Mask = self.alive & (self.cut_by < 0)  # [K]
        self.unlisted = self.kept[-1] - int(np.count_nonzero(self.stays))  # tokens outside the list that no stage cut
        self.values = self._values(trace.all_ids[: len(columns.prompt_ids) + index].tolist())

    def misfits(self) -> Iterator[str]:
        """The columns that contradict the others, the plainest contradictions first."""
        largest = float(np.exp(self.largest - self.logsumexp))
        if (
            self.rest_p_model < largest * (1 - SAME) - _FLOOR
            or self.rest_p_model > self.outside * largest * (1 + SAME) + _FLOOR
        ):
            yield "rest_logit_max"
        listed = self.logit[np.array(self.ids) == self.chosen]  # [1], or [0] where it is outside the list
        if self.chosen_logit > self.largest if not len(listed) else self.chosen_logit != listed[0]:
            yield "chosen_logit"
        count = int(np.count_nonzero(self.stays))
        if count != min(len(self.ids), self.kept[-1]) or not self.stays[:count].all():
            yield "part_cut_by"
        if (self.p[~self.stays] != 0).any():
            yield "part_p"
        if self.rank > (self.kept[-1] if self.is_drawn else self.size):
            yield "rank"
        yield from self._misfit_stages()
        if self.values is not None and count:
            yield from self._misfit_row(self.values[-1])

    def _misfit_row(self, end: _Values) -> Iterator[str]:
        """Order and probabilities, from the values at the end of the chain."""
        first = float(end.listed[0])
        if abs(first) > _FAR:
            return
        value, logit, ids = end.listed, self.logit, np.array(self.ids)
        kept, same = self.stays[1:], logit[1:] == logit[:-1]  # those that were cut come last
        falls = np.where(kept, value[1:] <= value[:-1] + SAME, ~self.stays[:-1] <= (logit[1:] <= logit[:-1]))
        tied = same & (kept == self.stays[:-1]) & (~kept | (value[1:] == value[:-1]))
        if not falls.all() or (ids[1:] < ids[:-1])[tied].any():
            yield "part_id"
        p = float(self.p[0])
        if not agrees(self.p, np.where(self.stays, np.exp(end.listed - first) * p, 0.0)):
            yield "part_p"
        highest = min(float(np.exp(end.bound - first)) * p, float(self.p[-1])) if self.unlisted else 0.0
        if self.chosen not in self.ids:
            own = float(np.exp(end.chosen - first)) * p if self.unlisted else 0.0
            if not agrees(self.chosen_p, own) or own > highest * (1 + SAME) + _FLOOR:
                yield "p"
        if self.rest_p > self.unlisted * (highest * (1 + SAME) + _SMALLEST):
            yield "rest_p"
        some, rest = self.p[self.p > 0], self.rest_p
        known = float(-(some * np.log2(some)).sum())
        least = -rest * np.log2(min(highest, rest)) if rest > 0 else 0.0  # all that is left on as few as can be
        most = -rest * np.log2(rest / self.unlisted) if rest > 0 else 0.0  # or evenly on all
        if self.entropy < known + least - SAME or self.entropy > known + most + SAME:
            yield "entropy"
        by_logit = not any(stage.penalty or not stage.from_below for stage, _ in self.stages)
        if (self.kept[-1] < len(ids) or (by_logit and self.unlisted)) and self.largest > logit[-1]:
            yield "rest_logit_max"  # the list goes by the row, and among cut tokens by the logit

    def _misfit_stages(self) -> Iterator[str]:
        """What each stage kept and removed."""
        cuts = [stage.cuts(setting) for stage, setting in self.stages]
        last_change = max((n for n, does in enumerate(cuts) if not does), default=-1)
        unlisted, certain = (
            self.outside if self.largest > -np.inf else 0,
            False,
        )  # fewer, where the model rules some out
        share = np.cumprod((1 - self.removed)[::-1])[::-1]  # [A] of the mass before each stage that stays to the end
        for n in range(len(self.stages)):
            left, gone = self.alive & ((self.cut_by < 0) | (self.cut_by > n)), self.cut_by == n
            now = self.kept[n] - int(np.count_nonzero(left))
            if (gone & ~self.alive).any() or (gone.any() and not cuts[n]):
                yield "part_cut_by"
            if not (unlisted if certain and not cuts[n] else 0) <= now <= unlisted:
                yield "stage_kept"
            some = bool(gone.any()) or (certain and now < unlisted)
            if not some and (certain or not cuts[n]) and self.removed[n] != 0:
                yield "stage_removed_mass"
            if cuts[n] and self.values is not None and left.any() and abs(self.values[n].listed[0]) <= _FAR:
                own = float(share[n]) if n > last_change else np.nan
                yield from self._misfit_cut(n, left, gone, some, own, unlisted)
            unlisted, certain = now, True
        leading = self.stages[: last_change + 1]
        if self.values is None or any(stage.penalty or stage.cuts(setting) for stage, setting in leading):
            return
        changed, kept = self.values[last_change + 1], float(np.prod(1 - self.removed[last_change + 1 :]))
        if abs(changed.listed[0]) <= _FAR and not self._sum_fits(changed, float(self.p[0]) * kept):
            yield "stage_removed_mass" if kept < 1 else "rest_p"

    def _misfit_cut(self, n: int, left: Mask, gone: Mask, some: bool, share: float, unlisted: int) -> Iterator[str]:
        """What one stage cut. share: of the mass before it that stays to the end, NaN where that cannot be told."""
        assert self.values is not None  # asked where they are known
        (stage, setting), known, removed = self.stages[n], self.values[n], float(self.removed[n])
        values, now = known.listed - known.listed[0], self.kept[n] - int(np.count_nonzero(left))
        bound = known.bound - float(known.listed[0]) if unlisted else -np.inf
        unit, mass = float(self.p[0]) * share, 1 - removed if share == share else np.nan
        cut = Cut(np.sort(values[left])[::-1], values[gone], bound, self.kept[n], some, mass, unit)
        lowest = min(float(cut.kept[-1]), bound) if now > 0 else float(cut.kept[-1])  # that it kept, at most
        above = stage.from_below and gone.any() and cut.cut.max() > lowest
        if above or (stage.fits is not None and not stage.fits(cut, setting)):
            yield "part_cut_by" if gone.any() else "stage_kept"
        least = float(np.exp(cut.cut).sum() * unit)
        most = least + (float((unlisted - now) * np.exp(bound) * unit) if unlisted > now else 0.0)
        if removed < least - SAME or removed > most + SAME:
            yield "stage_removed_mass"

    def _sum_fits(self, changed: _Values, p: float) -> bool:
        """Whether the first token can have probability p where nothing but a temperature has changed the row.

        With a = 1 / T, p^a summed over the n tokens outside, of mass m, none above a largest one, lies between the even
        row and the one that is concentrated on as few tokens as that allows.
        """
        t, n, mass = self.temperature or 1, self.outside, self.rest_p_model
        first, largest = float(self.logit[0]) - self.logsumexp, self.largest - self.logsumexp
        beside = np.float64(largest - first) / t
        ends = [beside, beside + np.log(n)]  # one of them, all of them
        if mass > _TINY:
            even, largest = float(np.log(mass / n)), max(largest, float(np.log(mass / n)))
            ends = [np.float64(even - first) / t + np.log(n), np.float64(largest - first) / t + np.log(mass) - largest]
        room = np.float64(_FLOOR * 10) / t
        least, most = np.exp(min(ends) - room), np.exp(max(ends) + room)
        listed = np.exp(changed.listed - changed.listed[0])[self.alive].sum()
        return not (p * (listed + least) > 1 + SAME or p * (listed + most) < 1 - SAME)

    def _values(self, history: list[int]) -> list[_Values] | None:
        """[A + 1] before each stage, and at the end; None where more than a constant is unknown.

        A token outside the list that a penalty touches has a stand-in with the largest logit there is; one more stands
        for all others.
        """
        place = {i: n for n, i in enumerate(dict.fromkeys([*self.ids, self.chosen]))}
        known = len(place)
        seen = [i for i in history if 0 <= i < self.size] if any(stage.penalty for stage, _ in self.stages) else []
        for i in seen:
            place.setdefault(i, len(place))
        row = np.full(len(place) + 1, self.largest)
        row[place[self.chosen]] = self.chosen_logit
        row[: len(self.ids)] = self.logit
        found, certain = [self._listed(row, place[self.chosen])], True
        for n, (stage, setting) in enumerate(self.stages):
            if stage.filter is repetition_penalty and not certain:
                return None  # a temperature has shifted the row by what is not known
            if stage.penalty:
                row = stage.filter(row, setting, [place[i] for i in seen])
            elif not stage.cuts(setting):
                certain = certain and bool(row[known:].max() <= row[:known].max())
                row = stage.filter(row, setting)
            else:
                row = np.where(np.append(self.cut_by == n, np.zeros(len(row) - len(self.ids), bool)), -np.inf, row)
            found.append(self._listed(row, place[self.chosen]))
        return found

    def _listed(self, row: Row, chosen: int) -> _Values:
        return _Values(row[: len(self.ids)], float(row[chosen]), float(row[len(self.ids) :].max()))


def agrees(found: Any, expected: Any) -> bool:
    """Whether probabilities on record are those expected, each relative to itself, since their logarithm is shown.

    >>> agrees(0.25, 0.25 + 1e-12), agrees(1e-13, 3e-18), agrees(0.25, np.nan)
    (True, False, False)
    """
    return bool(np.all(np.abs(found - expected) <= SAME * np.abs(found) + _SMALLEST))
