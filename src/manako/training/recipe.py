"""training.json of a checkpoint: where the run stands, and the settings that brought it there."""

import json
from collections.abc import Mapping
from typing import Any

from manako.corpus.packed import header_digest
from manako.training.config import TrainingConfig

SCHEMA = "manako.training/4"
SHARES = "shares"  # the array of the training state with the share of the run at each step
FREE_SETTINGS = ("max_minutes", "keep", "snapshots", "device")  # what may differ when a run goes on


def recipe(
    progress: Mapping[str, Any], training: TrainingConfig, threads: int | None, corpus: str, arrays_sha256: str
) -> bytes:
    """The file. progress: the fields of `loop.Progress`; threads: None where a run may go on with any number of them;
    corpus: its digest; arrays_sha256: of the training.safetensors beside it."""
    content = {
        "schema": SCHEMA,
        **progress,
        "settings": {name: value for name, value in vars(training).items() if name not in FREE_SETTINGS},
        "threads": threads,
        "corpus": corpus,
        "sha256": arrays_sha256,
    }
    return (json.dumps(content | {"digest": header_digest(content)}, indent=1) + "\n").encode()
