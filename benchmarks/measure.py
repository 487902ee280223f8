"""How every benchmark here measures: rounds that interleave the sides, medians, ratios with a bootstrap interval.

Absolute times hold for one machine and one minute; only ratios within one run are worth quoting. Calibration at start
and end shows whether the machine stood still meanwhile.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

ROUNDS = 7


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def interleaved(sides: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Each side once to warm up, then A, B, A, B ... `rounds` times."""
    for action in sides.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, action in sides.items():
            times[name].append(seconds(action))
    return times


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Median of slow over median of fast, with the 95 % bootstrap interval."""
    random = np.random.default_rng(0)
    draws = [
        np.median(random.choice(slow, len(slow))) / np.median(random.choice(fast, len(fast))) for _ in range(2_000)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"ratio": statistics.median(slow) / statistics.median(fast), "low": float(low), "high": float(high)}


def calibration() -> dict[str, float]:
    """sgemm rate in GFLOP/s and memory read in GB/s, now."""
    a = np.ones((1024, 1024), dtype=np.float32)
    big = np.ones(32 << 20, dtype=np.float32)
    gemm = min(seconds(lambda: a @ a) for _ in range(8))
    read = min(seconds(lambda: big.sum()) for _ in range(4))
    return {"sgemm_gflops": 2 * 1024**3 / gemm / 1e9, "read_gb_s": big.nbytes / read / 1e9}


def report(name: str, target: str, start: Mapping[str, float], **results: Any) -> None:
    """One JSON object on stdout, with the machine it was measured on."""
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    result = {"benchmark": name, "target": target, **results, "machine": machine}
    print(json.dumps(result | {"calibration": {"start": start, "end": calibration()}}, indent=2))
    sys.stdout.flush()
