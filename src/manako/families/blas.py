"""The linear algebra that NumPy computes with: which one, which of its kernels, how many threads.

Special here: NumPy shows none of it, so OpenBLAS is asked in the library that NumPy brings; the last bits of a logit
depend on the answer.
"""

import ctypes
import itertools
import os
import re
from functools import cache
from typing import Any

import numpy as np


@cache
def _openblas(name: str) -> Any:
    """A function of the OpenBLAS that NumPy brings, which NumPy itself does not show; None where it is not found."""
    loaded = ctypes.CDLL(str(np.linalg._umath_linalg.__file__))  # pyright: ignore[reportAttributeAccessIssue]
    for prefix, suffix in itertools.product(("scipy_openblas", "openblas"), ("64_", "")):
        try:
            return getattr(loaded, f"{prefix}_{name}{suffix}")
        except AttributeError:
            continue
    return None


@cache
def kernel() -> dict[str, str]:
    """The kernel that OpenBLAS chose for this processor, which the last bits of a logit depend on; {} without one."""
    ask = _openblas("get_corename")
    if ask is None:
        return {}
    ask.restype = ctypes.c_char_p
    return {"blas": f"OpenBLAS {ask().decode('ascii', 'replace')}"}


def library() -> str:
    """The linear algebra that NumPy was built with, such as "scipy-openblas 0.3.31"."""
    built: Any = np.show_config(mode="dicts")
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name')} {blas.get('version')}"


def threads() -> int | None:
    """How many threads the linear algebra takes: as OpenBLAS says it, else by its rule."""
    ask = _openblas("get_num_threads")
    return threads_by_rule() if ask is None else int(ask())


def threads_by_rule() -> int | None:
    """How many threads OpenBLAS starts: its variable says it, else OpenMP's, but no more than the cores it may use.

    As C reads a number: the digits in front, and 0, which says nothing, where there are none.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        found = re.match(r"\s*\+?(\d{1,9})", os.environ.get(name, ""), re.ASCII)
        if found and int(found[1]):
            return min(int(found[1]), cores or 1)
    return cores
