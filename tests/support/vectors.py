"""What tests/vectors/ holds: inputs, and the numbers that any reader of traces must get from them. See its README."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from golden import LOGITS, golden_inside, large_inside, with_candidates

from manako.sampling import Sampling, distribution, draw, uniform
from manako.trace.file import to_bytes
from manako.trace.record import Trace

Json = dict[str, Any]
TIES = [1.0, 3.0, 2.0, 3.0, 2.0, 2.0, 0.0, 3.0]
FAR = [0.0, -745.0, 709.0, 700.0, -1e30, 705.5]  # probabilities from 1 down to 0
FIRST, HISTORY = LOGITS[0].tolist(), [1, 1, 2, 5, 40]  # an id that has no logit among them
CHAINS: Mapping[str, tuple[list[float], list[int], Json]] = {
    "nothing set": (FIRST, [], {}),
    "temperature": (FIRST, [], {"temperature": 0.5}),
    "temperature 0 takes the first of the likeliest": (TIES, [], {"temperature": 0}),
    "top_k keeps what is tied with the k-th": (TIES, [], {"top_k": 2}),
    "top_k above the vocabulary": (TIES, [], {"top_k": 99}),
    "top_p keeps the token that crosses it": (FIRST, [], {"top_p": 0.6}),
    "top_p among ties goes by id": (TIES, [], {"top_p": 0.5}),
    "top_p 1": (TIES, [], {"top_p": 1}),
    "min_p": (FIRST, [], {"min_p": 0.2}),
    "min_p 1 keeps the likeliest alone, all of them": (TIES, [], {"min_p": 1}),
    "typical_p": (FIRST, [], {"typical_p": 0.3}),
    "typical_p among ties": (TIES, [], {"typical_p": 0.2}),
    "repetition_penalty": (FIRST, HISTORY, {"repetition_penalty": 1.3}),
    "presence_penalty": (FIRST, HISTORY, {"presence_penalty": 0.7}),
    "frequency_penalty": (FIRST, HISTORY, {"frequency_penalty": -0.4}),
    "all stages": (
        FIRST,
        HISTORY,
        {"temperature": 0.9, "top_k": 9, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9, "repetition_penalty": 1.1}
        | {"presence_penalty": 0.1, "frequency_penalty": 0.2},
    ),
    "another order": (
        FIRST,
        [],
        {"temperature": 2.0, "top_p": 0.9, "top_k": 6, "order": [*reversed(Sampling().order)]},
    ),
    "numbers far apart": (FAR, [], {"temperature": 1.5, "top_p": 0.999}),
    "a token the model ruled out": ([0.0, float("-inf"), 1.0], [], {"top_k": 3}),
}
US = (0.0, 0.1, 0.35, 0.5, 0.72, 0.9, 0.999, 1 - 2.0**-53)


def uniform_cases() -> list[Json]:
    """The random number of some seeds and steps."""
    seeds = (0, 1, 7, 2**32 - 1, 2**32, 2**53 + 1, 2**63, 2**64 - 1)
    return [{"seed": str(seed), "step": n, "u": uniform(seed, n)} for seed in seeds for n in (0, 1, 2, 255, 2**32)]


def chain_cases() -> list[Json]:
    """Rows before and after the chain, and what is drawn from each."""
    found: list[Json] = []
    for name, (logits, history, settings) in CHAINS.items():
        sampling = Sampling.from_dict({"temperature": 1} | settings)
        d = distribution(np.array(logits, np.float32), sampling, history)
        names = [*[stage.name for stage in d.stages], None]  # -1: no stage cut it
        found.append(
            {
                "name": name,
                "logits": [None if value == -np.inf else value for value in np.float32(logits).tolist()],
                "history": history,
                "sampling": sampling.to_dict(),
                "p_model": d.p_model.tolist(),
                "p": d.p.tolist(),
                "cut_by": [names[stage] for stage in d.cut_by],
                "stages": [{"name": s.name, "kept": s.kept, "removed_mass": s.removed_mass} for s in d.stages],
                "order": d.top(len(logits)).tolist(),
                "entropy": d.entropy,
                "draws": [{"u": u, "token_id": draw(d, u).token_id} for u in US],
            }
        )
    return found


def trace_case(trace: Trace) -> Json:
    """A trace file, and what stands in it."""
    data = to_bytes(trace)
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return {
        "file": base64.b64encode(data).decode(),
        "sha256": hashlib.sha256(metadata["manako.trace"].encode()).hexdigest(),
        "header": json.loads(metadata["manako.trace"]),
        "columns": {
            name: {"dtype": array.dtype.name, "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in sorted(safetensors.numpy.load(data).items())
        },
        "text": trace.text,
        "steps": [{"token_id": s.token_id, "text": s.chosen.text, "entropy": s.entropy} for s in trace],
    }


def vectors() -> dict[str, Any]:
    """File name -> content."""
    part = with_candidates(large_inside(17_000, 2, ("lens",)), 12)
    return {
        "uniform.json": uniform_cases(),
        "chain.json": chain_cases(),
        "trace-whole.json": trace_case(golden_inside(4)),
        "trace-part.json": trace_case(part),
    }
