"""Was the record made as it says? Every token is drawn again, without the model, and what was captured is checked.

Special here: it uses nothing but the record's own columns and the sampler, so what it finds holds for any program that
can do the same. A number that is not a number counts as an error, not as a match. The last layer of a lens was computed
apart from the logits, so where two tokens all but tie it may place them the other way round: places are checked by the
logits that stand there, within the same limit.

Letters as in captures.py; V logits.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.sampling import draw, uniform
from manako.trace.captures import check_limit
from manako.trace.record import SelfCheck, Trace, derive

Array = npt.NDArray[Any]


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
        if "attention" in trace.header.capture:
            check = _check("attention_rows_sum_to_1", _attention_error(trace), trace)
            found.append(replace(check, limit=check.limit + trace.header.rounded.get("attention", 0.0)))
        if "lens" in trace.header.capture:
            found.append(_check("lens_last_equals_logits", _lens_error(trace), trace))
            found.append(SelfCheck("lens_lists_fit", float(_lens_misfits(trace)), 0.0))
        if "contributions" in trace.header.capture:
            found.append(_check("contributions_sum_to_logit", _contribution_error(trace), trace))
    return tuple(found)


def _check(name: str, error: float, trace: Trace) -> SelfCheck:
    return SelfCheck(name, error, check_limit(name, trace.header.model.dtype))


def _attention_error(trace: Trace) -> float:
    attention = trace.attention
    rows = range(attention.prompt_rows + len(attention))
    errors = [float(np.abs(attention.row(i).sum(axis=2, dtype=np.float64) - 1).max()) for i in rows]
    return float(np.max([0.0, *errors]))


def _lens_error(trace: Trace) -> float:
    """The worst difference, relative to the largest logit of its step, between the last layer and what was recorded."""
    lens, columns, worst = trace.lens, trace.columns, [0.0]
    count = lens.id.shape[2]
    ids = np.concatenate([lens.id[:, -1], lens.tracked_id], axis=1)  # [S, M]
    logits = np.concatenate([lens.logit[:, -1], lens.tracked_logit[:, -1]], axis=1).astype(np.float64)
    ranks = lens.tracked_rank[:, -1]
    for i in range(len(trace)):
        recorded, known = _recorded(trace, i, ids[i])
        if columns.part is None:
            row = trace.logits[i].astype(np.float64)  # [V]
            best: Array = np.sort(row)[::-1]
            errors: list[Array] = [logits[i] - recorded, recorded[:count] - best[:count]]
            errors.append(recorded[count:] - best[ranks[i] - 1])  # a rank is right if such a logit has it
            logsumexp, largest = best[0] + np.log(np.exp(row - best[0]).sum()), best[0]
        else:
            outside = np.maximum(0, logits[i] - columns.part["rest_logit_max"][i])
            errors = [np.where(known, logits[i] - recorded, outside)]
            largest = max(float(columns.part["part_logit"][i].max()), float(columns.part["rest_logit_max"][i]))
            logsumexp = columns.part["logsumexp"][i]
        errors.append(lens.logsumexp[i, -1:] - logsumexp)
        worst.append(np.abs(np.concatenate(errors)).max() / max(1.0, abs(largest)))
    return float(np.max(worst))


def _lens_misfits(trace: Trace) -> int:
    """How many numbers of the lens do not fit each other: who is tracked, and what both lists say of a token."""
    lens = trace.lens
    wrong = int((lens.tracked_id[:, 0] != trace.columns.token_id).sum())
    wrong += int((lens.tracked_id[:, 1:] != lens.id[:, :, 0]).sum())
    wrong += int((np.diff(lens.logit, axis=2) > 0).sum())
    wrong += int((np.diff(np.sort(lens.id, axis=2), axis=2) == 0).sum())
    p: Array = np.exp(lens.logit - lens.logsumexp[:, :, None])
    wrong += int((p.sum(axis=2) > 1 + 1e-6).sum())
    for layer in range(lens.id.shape[1]):
        same: Array = lens.id[:, layer, :, None] == lens.tracked_id[:, None]  # [S, 10, T]
        listed, logit = same.any(axis=1), lens.logit[:, layer, :, None]
        tracked, rank = lens.tracked_logit[:, layer], lens.tracked_rank[:, layer]  # [S, T]
        above: Array = (logit > tracked[:, None]).sum(axis=1)
        wrong += int((same & (logit != tracked[:, None])).sum())
        wrong += int((listed & (rank != above + 1)).sum())
        wrong += int((~listed & ((rank <= above) | (tracked > logit[:, -1]))).sum())
        wrong += int(((tracked[:, :, None] > tracked[:, None]) != (rank[:, :, None] < rank[:, None])).sum())
    return wrong


def _contribution_error(trace: Trace) -> float:
    given, part, worst = trace.contributions, trace.columns.part, [0.0]
    for i, ids in enumerate(given.id):
        recorded, known = _recorded(trace, i, ids)
        total = given.value[i].sum(axis=0, dtype=np.float64)  # [M]
        errors: Array = total - recorded
        if part is not None and part["part_id"].shape[1] < len(ids) - 1:  # fewer candidates than tokens taken apart
            errors = np.where(known, errors, np.maximum(0, total - part["rest_logit_max"][i]))
        elif not known.all():
            return float("inf")  # only what is on record is taken apart
        if ids[0] != trace.columns.token_id[i]:
            return float("inf")  # the chosen token first
        worst.append(np.abs(errors).max())
    return float(np.max(worst))


def _recorded(trace: Trace, step: int, ids: Array) -> tuple[Array, Array]:
    """(recorded logits [M] of some tokens of a step, whether each is on record)."""
    columns, part = trace.columns, trace.columns.part
    if part is None:
        return trace.logits[step, ids].astype(np.float64), np.ones(len(ids), dtype=bool)
    each = np.append(part["part_id"][step], columns.token_id[step])
    logits = np.append(part["part_logit"][step], part["chosen_logit"][step]).astype(np.float64)
    same = ids[:, None] == each  # [M, K + 1]
    known = same.any(axis=1)
    return np.where(known, logits[same.argmax(axis=1)], 0.0), known
