"""A smaller copy of a record, for a page that is passed on: what takes most of the room is shortened, and says so.

Special here: what stays is as true as before. Candidates that are kept have their exact numbers and the others their
exact sum, so only settings other than the recorded ones become approximate. Attention is rounded as bfloat16 rounds,
the header says by how much at most, and its self-check is measured again on the rounded numbers.

Letters: S steps, K candidates on record, V logits.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.analysis.verification import check_inside
from manako.trace.captures import CLASSES
from manako.trace.record import Columns, SelfCheck, Trace, derive, part_of
from manako.trace.schema import CAPTURE_COLUMNS, CHECKS, step_columns

KEPT = 128  # candidates of a step: 200 steps of them take 0.7 MB in a page, and 256 would take 1.3 MB
ROUNDING = 2.0**-8  # half a unit in the last of bfloat16's 8 binary digits

Arrays = dict[str, npt.NDArray[Any]]


def compact(trace: Trace, kept: int = KEPT) -> Trace:
    """The record with the `kept` first candidates of each step, attention in 16 bits, and no residual stream.

    Attention is off by at most ROUNDING of itself, which `header.rounded` says. Rows of no more than `kept` tokens stay
    whole; all other columns stay as they were. `verify` finds in it what it found in the record.
    """
    header = replace(trace.header, capture=tuple(n for n in trace.header.capture if CLASSES[n].compact))
    columns = {name: column for each in header.capture for name, column in CAPTURE_COLUMNS[each].items()}
    captured = {name: array for name, array in trace.columns.captured.items() if name in columns}
    may_be = [name for name, column in columns.items() if column.rounded]
    if not header.rounded and all(check.ok for check in header.self_checks):
        # Rounded twice, they would be off by more; and the limit that rounding widens could hide what had failed.
        captured |= {name: rounded(captured[name]) for name in may_be}
        header = replace(header, rounded=dict.fromkeys(may_be, ROUNDING))
    made = replace(trace, header=header, columns=replace(_fewer(trace, kept), captured=captured))
    of_rounded = {name for name, known in CHECKS.items() if known.get("of") in made.header.rounded}
    now = {check.name: check for check in check_inside(made) if check.name in of_rounded}  # the others saw no change
    checks = tuple(_again(check, now.get(check.name)) for check in header.self_checks)
    return replace(made, header=replace(header, self_checks=checks))


def rounded(shares: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Numbers of at least 0 with the lower half of their bits cleared, to the nearest, and to the even one of two.

    Those below the smallest normal number stay as they are: they have fewer digits, and would be off by more.

    >>> rounded(np.array([0.3, 1.0, 1.00390625], np.float32)).tolist()
    [0.30078125, 1.0, 1.0]
    """
    bits = shares.view(np.uint32)
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(shares < np.finfo(np.float32).tiny, shares, nearest.view(np.float32))


def _again(check: SelfCheck, now: SelfCheck | None) -> SelfCheck:
    """A check of the run as it stands after the rounding."""
    return check if now is None else replace(now, error=float(np.max([check.error, now.error])))


def _fewer(trace: Trace, kept: int) -> Columns:
    """The columns with parts of no more than `kept` candidates."""
    columns, part = trace.columns, trace.columns.part
    if part is None and trace.vocabulary.size <= kept or part is not None and part["part_id"].shape[1] <= kept:
        return columns
    return replace(
        columns, logits=None, part=_parts_of_rows(trace, kept) if part is None else _shorter(dict(part), kept)
    )


def _parts_of_rows(trace: Trace, kept: int) -> Arrays:
    sizes = {"S": len(trace), "K": kept, "A": len(trace.header.sampling.active)}
    made = {name: column.empty(sizes) for name, column in step_columns("part").items()}
    for i in range(len(trace)):
        for name, value in part_of(derive(trace, i), int(trace.columns.token_id[i]), kept).items():
            made[name][i] = value
    return made


def _shorter(part: Arrays, kept: int) -> Arrays:
    """Parts whose candidates behind the first `kept` have joined the rest."""
    for name, rest in (("part_p", "rest_p"), ("part_p_model", "rest_p_model")):
        part[rest] = part[rest] + part[name][:, kept:].sum(axis=1)
    part["rest_logit_max"] = np.maximum(part["rest_logit_max"], part["part_logit"][:, kept:].max(axis=1))
    return part | {name: part[name][:, :kept] for name, c in step_columns("part").items() if "K" in c.axes}
