"""A model as one file that the page carries: the weights of its folder as they lie there, and its tokenizer.

Special here: nothing is rounded or converted, so the page computes with the numbers that Python computes with, and a
trace that it writes names the same weights. See `views/web/engine/model-file.js`, which reads it.
"""

from pathlib import Path

import numpy as np

from manako.errors import CapabilityError
from manako.families import family_of
from manako.families.shape import Shape
from manako.files import read_regular
from manako.formats.checkpoint import Checkpoint
from manako.formats.model_folder import WEIGHTS, weight_files
from manako.messages import Phrase
from manako.tokenizer import Tokenizer
from manako.trace.file import container
from manako.trace.record import ModelInfo
from manako.trace.schema import FULL_ROW_LIMIT, MODEL


def page_model(folder: Path, source: Checkpoint, info: ModelInfo) -> bytes:
    """The file of a model that was read from this folder. Raises CapabilityError for one that the page cannot run."""
    config, weights = source.config, page_weights(folder, source.config, source.tokenizer, info)
    told = {name: getattr(info, name) for name in MODEL.header["model"]["properties"]}
    meta = {
        "model": told | {"config": dict(info.config), "versions": {"manako": info.versions["manako"]}},
        "end_ids": list(config.end_ids),
        "start_id": config.start_id,
    }
    parts = {WEIGHTS: read_regular(weights), "tokenizer.json": source.tokenizer.source.encode()}
    return container(MODEL, meta, {name: np.frombuffer(data, dtype=np.uint8) for name, data in parts.items()})


def page_weights(folder: Path, config: Shape, tokenizer: Tokenizer, info: ModelInfo) -> Path:
    """Where the weights lie of a model of this folder. Raises CapabilityError for one that the page cannot run."""
    weights = weight_files(folder)
    if not family_of(config.model_type).in_page:
        raise lacks("family")
    if config.vocab_size > FULL_ROW_LIMIT:
        raise lacks("vocabulary")
    if not tokenizer.is_own:
        raise lacks("tokenizer")
    if len(weights.paths) > 1 or weights.pickled or "bfloat16" in info.stored_dtype:
        raise lacks("weights")
    return weights.paths[0]


def lacks(reason: str) -> CapabilityError:
    """That the page cannot run a model. reason: what of it."""
    return CapabilityError("page_model", reason=Phrase(f"page_model.{reason}"))
