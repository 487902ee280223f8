"""What ran, for the header of a trace: model, weights, engine, device and versions."""

import ctypes
import itertools
import json
import os
import platform
import re
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from manako import __version__
from manako.engines.protocol import Engine
from manako.formats.checkpoint import Source
from manako.trace.record import ModelInfo

_NO_NUMBERS = {"start_id", "end_ids", "trained_on"}  # of a configuration: they change no logit


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


def is_of(made: ModelInfo, info: ModelInfo) -> bool:
    """Whether a model makes the numbers of the one that a record names: its weights, tokenizer and configuration.

    Of that what both say counts, and decides numbers: engines and versions of manako don't all tell the same of it.
    """
    told = made.config.keys() & info.config.keys() - _NO_NUMBERS
    ours, theirs = ({name: one.config[name] for name in told} for one in (made, info))
    digests = (made.weights_sha256, made.tokenizer_sha256) == (info.weights_sha256, info.tokenizer_sha256)
    return digests and json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


@cache
def _openblas(name: str) -> Any:
    """A function of the OpenBLAS that NumPy brings, which NumPy itself does not show; None where it is not found."""
    library = ctypes.CDLL(str(np.linalg._umath_linalg.__file__))  # pyright: ignore[reportAttributeAccessIssue]
    for prefix, suffix in itertools.product(("scipy_openblas", "openblas"), ("64_", "")):
        try:
            return getattr(library, f"{prefix}_{name}{suffix}")
        except AttributeError:
            continue
    return None


@cache
def _blas_kernel() -> dict[str, str]:
    """The kernel that OpenBLAS chose for this processor, which the last bits of a logit depend on; {} without one."""
    ask = _openblas("get_corename")
    if ask is None:
        return {}
    ask.restype = ctypes.c_char_p
    return {"blas": f"OpenBLAS {ask().decode('ascii', 'replace')}"}


def blas_library() -> str:
    """The linear algebra that NumPy was built with, such as "scipy-openblas 0.3.31"."""
    built: Any = np.show_config(mode="dicts")
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name')} {blas.get('version')}"


def blas_threads() -> int | None:
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
