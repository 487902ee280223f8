"""The training state in a checkpoint, and the log of a run, read strictly: both may come from somebody else.

Special here: what can be counted again is dropped when it is damaged (a line of the log); what cannot is an error.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import Tensor

from manako.checks import Misfit, Rule, check
from manako.corpus.packed import header_digest
from manako.errors import LoadError
from manako.files import exists, read_regular, strict_json, write_file
from manako.formats import run_folder
from manako.training.recipe import SCHEMA, SHARES

RANDOM = "torch_rng"  # the state of PyTorch's random numbers, from which no step draws
_END = {"ends_after": None, "evaluation_seconds": 0.0}
OLD_SCHEMAS = {  # what their training.json lacks
    "manako.training/1": {"settings": {}, "threads": None, "done": None, **_END},
    "manako.training/2": {"done": None, **_END},
    "manako.training/3": _END,
}
_STATE: Rule = {
    "type": "object",
    "properties": {
        "schema": {"type": "string", "enum": [SCHEMA]},
        "step": {"type": "integer", "minimum": 0},
        "position": {"type": "integer", "minimum": 0},
        "seconds": {"type": "number", "minimum": 0},
        "done": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "best_loss": {"type": ["number", "null"]},
        "best_step": {"type": ["integer", "null"], "minimum": 0},
        "ends_after": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "evaluation_seconds": {"type": "number", "minimum": 0},
        "settings": {"type": "object"},
        "threads": {"type": ["integer", "null"]},
        "corpus": {"type": "string"},
        "sha256": {"type": "string"},
    },
}


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(training.json, the arrays) of a checkpoint. Raises LoadError for what is missing or damaged."""
    path = folder / run_folder.STATE
    recipe = strict_json(read_regular(path, limit=1 << 20), str(path))
    if recipe.pop("digest", None) != header_digest(recipe):
        raise LoadError("digest_mismatch", file=path, part="digest")
    if lacking := OLD_SCHEMAS.get(str(recipe.get("schema"))):
        recipe |= {"schema": SCHEMA} | lacking
    try:
        check(recipe, _STATE, "")
    except Misfit as error:
        raise LoadError("json_invalid", file=path, reason=error) from None
    file = folder / run_folder.STATE_ARRAYS
    data = read_regular(file)
    if recipe["sha256"] != hashlib.sha256(data).hexdigest():
        raise LoadError("digest_mismatch", file=file, part="SHA-256")
    try:
        arrays = {n: torch.from_numpy(np.array(a)) for n, a in safetensors.numpy.load(data).items()}
    except (safetensors.SafetensorError, KeyError, TypeError) as error:  # KeyError: a type of numbers that NumPy lacks
        raise LoadError("safetensors_damaged", file=file, reason=error) from None
    for name, array in arrays.items():
        if array.dtype not in ((torch.uint8,) if name == RANDOM else (torch.float32, torch.float64)):
            raise LoadError("training_state_other", file=file, name=name)
    if recipe["done"] is not None and (SHARES not in arrays or arrays[SHARES].shape != (recipe["step"],)):
        raise LoadError("json_invalid", file=path, reason=f"{SHARES}: not one for each step")
    return recipe, arrays


def shares_of(run: Path) -> npt.NDArray[np.float64]:
    """What a run to be replayed says of each of its steps. Raises LoadError for one that does not."""
    recipe, arrays = read_state(run_folder.checkpoint(run, run_folder.LAST))
    if recipe["done"] is None or not recipe["step"]:
        raise LoadError("replay_none", folder=run)
    return arrays[SHARES].double().numpy()


def keep_lines(path: Path, step: int) -> None:
    """Cut metrics.jsonl back to a step: what came after it is computed again. Damaged lines go: nothing needs them."""
    lines = read_regular(path).splitlines() if exists(path) else []
    write_file(path, b"".join(line + b"\n" for line in lines if _step_of(line) <= step))


def _step_of(line: bytes) -> float:
    """The step of a line of the log; infinity for what is none, such as half a line of a killed run."""
    try:
        found = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf
    return found if type(found) is int else math.inf
