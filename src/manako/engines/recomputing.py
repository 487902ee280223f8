"""The rows of a record computed again by the model that made it: what no record can prove about itself.

Special here: the same passes as when it was made, with the cache and the windows, so on the same machine every bit is
the same; on another one the last digits differ, which the limit allows for. The limit goes by what the engine at hand
computes in, not by what the record says of its own: its author could name a type that rounds everything away.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from manako.engines.protocol import Engine
from manako.engines.scoring import scored_rows
from manako.engines.session import Session
from manako.trace.record import SelfCheck, Trace
from manako.trace.schema import check_limit

NAME = "rows_recomputed"


def recomputed(engine: Engine, trace: Trace) -> SelfCheck:
    """The largest difference of a logit on record from the one computed now, relative to the largest logit of its row.

    A logit that is further from 0 than that one is measured by its own size, which widens the limit of no other.
    """
    errors = [_error(trace, i, row) for i, row in enumerate(_rows(Session(engine), trace))]
    return SelfCheck(NAME, float(np.max([0.0, *errors])), check_limit(NAME, str(engine.dtype)))


def _rows(session: Session, trace: Trace) -> Iterator[npt.NDArray[np.float32]]:
    ids, prompt = trace.all_ids.tolist(), len(trace.columns.prompt_ids)
    if trace.header.kind == "score":
        for part in scored_rows(session, ids, prompt):
            yield from part.rows
        return
    for i in range(len(trace)):
        yield session.next_logits(ids[: prompt + i])[0]


def _error(trace: Trace, i: int, row: npt.NDArray[np.float32]) -> float:
    """Infinite where one of the two is no number, or cut by the model itself."""
    now, part = row.astype(np.float64), trace.columns.part
    largest = max(1.0, abs(float(now.max())))
    if part is None:
        recorded = trace.logits[i].astype(np.float64)
    else:
        top = now.max()
        chosen = int(trace.columns.token_id[i])
        now = np.concatenate([now[part["part_id"][i]], [now[chosen], top + np.log(np.exp(now - top).sum())]])
        recorded = np.concatenate([part["part_logit"][i], [part["chosen_logit"][i], part["logsumexp"][i]]])
    differs = now != recorded  # equal ones may both be -inf
    if not differs.any():
        return 0.0
    now, recorded = now[differs], recorded[differs].astype(np.float64)
    errors = np.abs(now - recorded) / np.where(np.isfinite(now), np.maximum(largest, np.abs(now)), largest)
    return float(np.nan_to_num(errors.max(), nan=np.inf))
