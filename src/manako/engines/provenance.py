"""What ran, for the header of a trace: model, weights, engine, device and versions."""

import platform
from dataclasses import asdict

import numpy as np

from manako import __version__
from manako.engines.protocol import Engine
from manako.formats.checkpoint import Source
from manako.trace.record import ModelInfo


def model_info(ref: str, source: Source, engine: Engine) -> ModelInfo:
    """The facts of a model that was opened as `ref`."""
    versions = {"manako": __version__, "numpy": np.__version__, "python": platform.python_version()}
    versions |= engine.kernel
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
        threads=engine.threads,
        versions=versions,
    )
