"""Was the record made as it says? Every token is drawn again, without the model, and what was captured is checked.

Special here: it uses nothing but the record's own columns and the sampler, so what it finds holds for any program that
can do the same. A number that is not a number counts as an error, not as a match. Each capture checks itself. What
follows from the rest of the record is derived and compared; what does not is listed in docs/trace-format.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from manako.analysis.partial import agrees, misfit
from manako.sampling import draw, uniform
from manako.settings import check_type
from manako.trace.record import SelfCheck, Trace, derive
from manako.trace.schema import check_limit
from manako.trace.windows import generation_start, score_context, score_windows


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
    contradictions: tuple[str, ...] = ()
    """Header fields and columns that the rest of the record contradicts, by their names; after `failure`, the column
    of that step."""
    checks: tuple[SelfCheck, ...] = ()
    """What must hold of the captured columns, measured again from the file alone."""
    recorded_checks: tuple[SelfCheck, ...] = ()
    """What the run itself measured; only its own word stands for that."""

    @property
    def ok(self) -> bool:
        """Whether no draw differs, nothing contradicts anything else, and every check holds, the run's own too."""
        checks = (*self.checks, *self.recorded_checks)
        return self.failure is None and not self.contradictions and all(check.ok for check in checks)


def verify(trace: Trace) -> Verification:
    """Draw every token again from the stored logits, chain and `u`, with no model.

    A score has no draws: its tokens' probabilities are derived again instead. The recorded `u` must also be the one
    that seed and step give. Where only a part of a row is on record, its numbers must follow from each other as far as
    they can. Stops at the first step that differs. Captured columns are checked whole: rows of attention sum to 1
    (rounded ones within what the export says), the last layer of the lens is the logits, contributions sum to a logit.
    """
    check_type("trace", trace, Trace)
    columns, done, skipped, worst, found = trace.columns, 0, 0, 0.0, tuple(_contradictions(trace))
    failure = None
    for i in range(len(trace)):
        recorded, u = int(columns.token_id[i]), float(columns.u[i])
        again, pairs = _verify_row(trace, i) if trace.exact else _verify_part(trace, i)
        errors = [np.abs(np.subtract(*pair)).max() for pair in pairs.values()]
        worst = float(np.max([worst, *errors]))  # Python's max() would pass over a NaN
        wrong = next((name for name, (found, derived) in pairs.items() if not agrees(found, derived)), None)
        if trace.header.seed is not None and u != uniform(trace.header.seed, trace.header.first_step + i):
            again, wrong = -1, "u"
        elif again == -1 or not (trace.exact or wrong):
            wrong = "rank" if again == -1 else misfit(trace, i)
        if again not in (recorded, None) or wrong:
            failure, found = (i, recorded, -1 if again is None else again), (*([wrong] if wrong else []), *found)
            break
        done, skipped = done + (again is not None), skipped + (again is None)
    checks = check_inside(trace)
    return Verification(len(trace), done, skipped, failure, worst, found, checks, trace.header.self_checks)


def _contradictions(trace: Trace) -> Iterator[str]:
    """Header fields and columns of a whole record that the rest of it contradicts."""
    header, columns = trace.header, trace.columns
    if not header.prompt_rewritten and header.prompt != trace.text_of(0, len(columns.prompt_ids)):
        yield "prompt"
    if columns.window_start.tolist() != list(_window_starts(trace)):
        yield "window_start"
    if header.kind == "score":
        return
    ended, stopped = next(_ended(trace), None), next(_stops(trace), None)
    reasons = {"document_end": ended, "stop": stopped if stopped != ended else None}  # an end token is looked for first
    found = [(reason, step) for reason, step in reasons.items() if step is not None]
    if found != ([(header.end, len(trace) - 1)] if header.end in reasons else []):
        yield "end"
    elif header.end == "length" and len(trace) != header.max_new_tokens:
        yield "end"


def _window_starts(trace: Trace) -> Iterator[int]:
    """Where the window of each step begins, by the context of the model; as recorded where that is not on record."""
    prompt, steps, known = len(trace.columns.prompt_ids), len(trace), trace.header.model.config.get("n_positions")
    context = known if isinstance(known, int | float) and known is not True else 0
    if not 1 <= context < 2**53 or context % 1:  # 4.0 is a 4, as to the page, which knows no other number
        yield from trace.columns.window_start.tolist()
    elif trace.header.kind == "generation":
        yield from (generation_start(prompt + i, int(context)) for i in range(steps))
    else:
        most = score_context(int(context), trace.vocabulary.size)
        for start, first, stop in score_windows(prompt + steps, most, prompt):
            yield from [start] * (stop - first)


def _ended(trace: Trace) -> Iterator[int]:
    """The steps whose token ends a document; as the record says where those tokens are not on record."""
    known = trace.header.model.config.get("end_ids")
    if type(known) is list:
        yield from (i for i, token_id in enumerate(trace.columns.token_id.tolist()) if token_id in known)
    elif trace.header.end == "document_end" and len(trace):
        yield len(trace) - 1


def _stops(trace: Trace) -> Iterator[int]:
    """The steps whose token completed a stop text, which may have begun in tokens put in before it."""
    stops, prompt = [stop.encode() for stop in trace.header.stop], len(trace.columns.prompt_ids)
    longest = max(map(len, stops), default=0)
    made = trace.vocabulary.join(trace.all_ids[prompt - trace.header.first_step : prompt])[-longest:]
    for i, token_id in enumerate(trace.columns.token_id if stops else ()):
        before, made = len(made), made + trace.vocabulary.join([int(token_id)])
        if any(stop in made[max(0, before + 1 - len(stop)) :] for stop in stops):
            yield i
        made = made[-longest:]


Pairs = dict[str, tuple[Any, Any]]
"""Column -> (probabilities on record, the same derived again)."""


def _verify_row(trace: Trace, index: int) -> tuple[int, Pairs]:
    """The token drawn again, -1 where its rank cannot be; what is to be the same."""
    columns, d = trace.columns, derive(trace, index)
    recorded, u = int(columns.token_id[index]), float(columns.u[index])
    pairs = {"p": (columns.p[index], d.p[recorded]), "p_model": (columns.p_model[index], d.p_model[recorded])}
    again = recorded if np.isnan(u) else draw(d, u).token_id
    if again == recorded and d.rank(recorded) != columns.rank[index]:
        return -1, pairs
    return again, pairs


def _verify_part(trace: Trace, index: int) -> tuple[int | None, Pairs]:
    """The token drawn again, None when u falls outside the part, -1 where its rank cannot be; the pairs as above."""
    columns, part = trace.columns, trace.columns.part
    assert part is not None  # called for partial records alone
    recorded, u, rank = int(columns.token_id[index]), float(columns.u[index]), int(columns.rank[index])
    ids, p, p_model = part["part_id"][index], part["part_p"][index], part["part_p_model"][index]
    with np.errstate(over="ignore"):  # of numbers that somebody made up; infinite is error enough
        model = np.exp(part["part_logit"][index].astype(np.float64) - part["logsumexp"][index])
        chosen = np.exp(float(part["chosen_logit"][index]) - part["logsumexp"][index])
    pairs: Pairs = {
        "part_p_model": (p_model, model),
        "p_model": (columns.p_model[index], chosen),
        "rest_p": (p.sum() + part["rest_p"][index], 1),
        "rest_p_model": (p_model.sum() + part["rest_p_model"][index], 1),
    }
    places = np.flatnonzero(ids == recorded)
    place = int(places[0]) if len(places) else len(ids)
    if rank - 1 != place if place < len(ids) else rank <= len(ids):
        return -1, pairs
    if place < len(ids):
        pairs["p"] = (columns.p[index], p[place])
    if np.isnan(u):
        return recorded, pairs
    drawn = int(np.searchsorted(np.cumsum(p), u, side="right"))
    if drawn < len(ids):
        return int(ids[drawn]), pairs
    if place == len(ids):
        return None, pairs
    rounded = part["rest_p"][index] == 0 and rank == np.count_nonzero(p)  # all mass is listed, its sum just below u
    return recorded if rounded else -1, pairs


def check_inside(trace: Trace) -> tuple[SelfCheck, ...]:
    """What must hold of the captured columns, each with its worst error; none where nothing was captured.

    The limits follow from the type that the record says its model computed in: only a model can tell whether it did.
    """
    found: list[SelfCheck] = []
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that somebody made up
        for name in trace.header.capture:
            for check, error in trace.captured(name).errors(trace).items():
                found.append(
                    SelfCheck(check, error, check_limit(check, trace.header.model.dtype, trace.header.rounded))
                )
    return tuple(found)
