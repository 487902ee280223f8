"""What ran, for the header of a trace: model, weights, engine, device and versions."""

import json
import platform
from dataclasses import asdict

import numpy as np

from manako import __version__
from manako.engines.protocol import Engine
from manako.formats.checkpoint import Source
from manako.trace.record import ModelInfo

_NO_NUMBERS = {"start_id", "end_ids", "trained_on"}  # of a configuration: they change no logit


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


def is_of(made: ModelInfo, info: ModelInfo) -> bool:
    """Whether a model makes the numbers of the one that a record names: its weights, tokenizer and configuration.

    Of that what both say counts, and decides numbers: engines and versions of manako don't all tell the same of it.
    """
    told = made.config.keys() & info.config.keys() - _NO_NUMBERS
    ours, theirs = ({name: one.config[name] for name in told} for one in (made, info))
    digests = (made.weights_sha256, made.tokenizer_sha256) == (info.weights_sha256, info.tokenizer_sha256)
    return digests and json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
