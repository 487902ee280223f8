"""Single steps of which only a part of the row is on record, under any chain."""

from typing import Any

import numpy as np
from golden import golden_header

from manako.sampling import DEFAULT_ORDER, Sampling, distribution, draw, uniform
from manako.trace.record import Columns, Trace, Vocabulary, part_of
from manako.trace.schema import step_columns


def random_chain(rng: np.random.Generator, size: int) -> Sampling:
    some: dict[str, Any] = {
        "top_k": int(rng.integers(1, size + 20)),
        "top_p": float(rng.choice([1.0, 0.9, rng.uniform(0.01, 1)])),
        "min_p": float(rng.choice([0.0, 1.0, rng.uniform(0, 0.3)])),
        "typical_p": float(rng.choice([1.0, rng.uniform(0.01, 1)])),
        "repetition_penalty": float(rng.choice([1.0, 1e300, rng.uniform(0.5, 2)])),
        "presence_penalty": float(rng.choice([0.0, rng.normal()])),
        "frequency_penalty": float(rng.choice([0.0, 1e308, rng.normal()])),
    }
    often = rng.choice([0.15, 0.5])
    kept = {name: value for name, value in some.items() if rng.random() < often}
    t = float(rng.choice([0.0, 1.0, 0.8, 1e-308, 1e308, rng.uniform(0.05, 5), rng.uniform(0.05, 5), 0.001]))
    order = tuple(map(str, rng.permutation(DEFAULT_ORDER))) if rng.random() < 0.5 else DEFAULT_ORDER
    return Sampling(temperature=t, order=order, **kept)


def random_step(rng: np.random.Generator) -> Trace:
    """One step of a part: rows that are even, rounded (full of ties), mostly -inf, or far apart."""
    size = int(rng.integers(20, 3000))
    row = rng.normal(0, float(rng.choice([0.0, 1.0, 4.0, 30.0, 1e3])), size)
    match rng.integers(4):
        case 0:
            row = np.round(row)
        case 1:
            row[rng.random(size) < 0.7] = -np.inf
            row[rng.integers(size)] = 1.5
    history = rng.integers(0, size, size=int(rng.integers(1, 60))).astype(np.int32)
    sampling = random_chain(rng, size)
    d = distribution(row.astype(np.float32), sampling, history)
    u = uniform(3, 0)
    token_id = draw(d, u).token_id
    made = part_of(d, token_id, min(int(rng.choice([1, 2, 12, 128, 256])), size - 1))
    chosen = {
        "p": d.p[token_id],
        "p_model": d.p_model[token_id],
        "rank": d.rank(token_id),
        "token_id": token_id,
        "u": u,
    }
    types = step_columns("all")
    columns = Columns(
        prompt_ids=history,
        window_start=np.zeros(1, np.int32),
        **{name: np.array([value], types[name].dtype) for name, value in chosen.items()},
        part={name: np.array([made[name]], dtype=column.dtype) for name, column in step_columns("part").items()},
    )
    header = golden_header(sampling=sampling, seed=3, special_ids=(), end="interrupted")
    return Trace(header, columns, Vocabulary({}, size, frozenset()))
