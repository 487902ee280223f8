"""Was the record made as it says? Every token is drawn again, without the model, and what was captured is checked.

Special here: it uses nothing but the record's own columns and the sampler, so what it finds holds for any program that
can do the same. A number that is not a number counts as an error, not as a match. Each capture checks itself.
"""

from dataclasses import dataclass

import numpy as np

from manako.sampling import draw, uniform
from manako.trace.record import SelfCheck, Trace, derive
from manako.trace.schema import CAPTURE_COLUMNS, check_limit


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    steps: int
    """Steps of the record."""
    rederived: int
    """Steps whose token was drawn again from logits, chain and u, and came out the same."""
    unverifiable: int
    """Steps of which only a part is on record, and whose draw needs the rest."""
    failure: tuple[int, int, int] | None
    """(step index, recorded token, token derived again) of the first step that differs."""
    largest_error: float
    """The largest difference between a recorded and a re-derived probability."""
    checks: tuple[SelfCheck, ...] = ()
    """What must hold of the captured columns, measured again from the file alone."""

    @property
    def ok(self) -> bool:
        """Whether no draw differs and every check holds."""
        return self.failure is None and all(check.ok for check in self.checks)


def verify(trace: Trace) -> Verification:
    """Draw every token again from the stored logits, chain and `u`, with no model.

    A score has no draws: its tokens' probabilities are derived again instead. The recorded `u` must also be the one
    that seed and step give. Stops at the first step that differs. Captured columns are checked whole: rows of attention
    sum to 1 (rounded ones within what the export says), the last layer of the lens is the logits, contributions sum to
    a logit.
    """
    columns, done, skipped, worst, checks = trace.columns, 0, 0, 0.0, check_inside(trace)
    for i in range(len(trace)):
        recorded, u = int(columns.token_id[i]), float(columns.u[i])
        if trace.header.seed is not None and u != uniform(trace.header.seed, trace.header.first_step + i):
            return Verification(len(trace), done, skipped, (i, recorded, -1), worst, checks)
        if trace.exact:
            d = derive(trace, i)
            again = recorded if np.isnan(u) else draw(d, u).token_id
            errors = (abs(d.p[recorded] - columns.p[i]), abs(d.p_model[recorded] - columns.p_model[i]))
            if again == recorded and d.rank(recorded) != columns.rank[i]:
                again = -1  # the token is right, its recorded place is not
        else:
            again, errors = _verify_part(trace, i)
        worst = float(np.max([worst, *errors]))  # Python's max() would pass over a NaN
        if again is None and worst <= 1e-9:
            skipped += 1
            continue
        if again != recorded or not worst <= 1e-9:
            failure = (i, recorded, -1 if again is None else again)
            return Verification(len(trace), done, skipped, failure, worst, checks)
        done += 1
    return Verification(len(trace), done, skipped, None, worst, checks)


def _verify_part(trace: Trace, index: int) -> tuple[int | None, tuple[float, ...]]:
    """The token drawn again, None when u falls outside the part, -1 where the place cannot be; the numbers' errors."""
    columns, part = trace.columns, trace.columns.part
    assert part is not None  # called for partial records alone
    recorded, u, rank = int(columns.token_id[index]), float(columns.u[index]), int(columns.rank[index])
    ids, p, p_model = part["part_id"][index], part["part_p"][index], part["part_p_model"][index]
    with np.errstate(over="ignore"):  # of numbers that somebody made up; infinite is error enough
        model = np.exp(part["part_logit"][index].astype(np.float64) - part["logsumexp"][index])
        chosen = np.exp(float(part["chosen_logit"][index]) - part["logsumexp"][index])
    errors = [float(np.abs(model - p_model).max()), abs(float(chosen) - float(columns.p_model[index]))]
    errors += [abs(p.sum() + part["rest_p"][index] - 1), abs(p_model.sum() + part["rest_p_model"][index] - 1)]
    places = np.flatnonzero(ids == recorded)
    place = int(places[0]) if len(places) else len(ids)
    if rank - 1 != place if place < len(ids) else rank <= len(ids):
        return -1, tuple(errors)
    if place < len(ids):
        errors.append(abs(float(p[place]) - float(columns.p[index])))
    if np.isnan(u):
        return recorded, tuple(errors)
    drawn = int(np.searchsorted(np.cumsum(p), u, side="right"))
    if drawn < len(ids):
        return int(ids[drawn]), tuple(errors)
    if place == len(ids):
        return None, tuple(errors)
    rounded = part["rest_p"][index] == 0 and rank == np.count_nonzero(p)  # all mass is listed, its sum just below u
    return recorded if rounded else -1, tuple(errors)


def check_inside(trace: Trace) -> tuple[SelfCheck, ...]:
    """What must hold of the captured columns, each with its worst error; none where nothing was captured."""
    found: list[SelfCheck] = []
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that somebody made up
        for name in trace.header.capture:
            more = sum(trace.header.rounded.get(column, 0.0) for column in CAPTURE_COLUMNS[name])
            for check, error in trace.captured(name).errors(trace).items():
                found.append(SelfCheck(check, error, check_limit(check, trace.header.model.dtype) + more))
    return tuple(found)
