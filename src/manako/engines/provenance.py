"""What ran, for the header of a trace: model, weights, engine, device and versions."""

import ctypes
import itertools
import os
import platform
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from manako import __version__
from manako.engines.protocol import Engine
from manako.formats.checkpoint import Source
from manako.trace.record import ModelInfo


def model_info(ref: str, source: Source, engine: Engine) -> ModelInfo:
    """The facts of a model that was opened as `ref`."""
    versions = {"manako": __version__, "numpy": np.__version__, "python": platform.python_version()}
    versions |= _blas_kernel()
    if engine.libraries:
        from importlib import metadata  # with the parser of e-mail behind it: a tenth of the time to start

        versions |= {name: metadata.version(name) for name in engine.libraries}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(engine.config).items()}  # as JSON has them
    config = {("n_positions" if k == "block_size" else k): v for k, v in values.items()}
    return ModelInfo(
        ref=ref,
        model_type=engine.config.model_type,
        config=config,
        switches=engine.config.switches,
        weights_sha256=source.fingerprint,
        tokenizer_sha256=source.tokenizer.fingerprint,
        engine=engine.name,
        device=engine.device,
        dtype=str(engine.dtype),
        stored_dtype=source.stored_dtype,
        threads=blas_threads(),
        versions=versions,
    )


@cache
def _blas_kernel() -> dict[str, str]:
    """The kernel that OpenBLAS chose for this processor: the last bits of a logit depend on it. Empty where none tells.

    NumPy does not say it, but the library that it brings does.
    """
    library = ctypes.CDLL(str(np.linalg._umath_linalg.__file__))  # pyright: ignore[reportAttributeAccessIssue]
    for prefix, suffix in itertools.product(("scipy_openblas", "openblas"), ("64_", "")):
        try:
            ask = getattr(library, f"{prefix}_get_corename{suffix}")
        except AttributeError:
            continue
        ask.restype = ctypes.c_char_p
        return {"blas": f"OpenBLAS {ask().decode('ascii', 'replace')}"}
    return {}


def blas_library() -> str:
    """The linear algebra that NumPy was built with, such as "scipy-openblas 0.3.31"."""
    built: Any = np.show_config(mode="dicts")
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name')} {blas.get('version')}"


def blas_threads() -> int | None:
    """How many threads OpenBLAS takes, by its own rule: its variable, OpenMP's, else the cores it may use."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdigit():
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
