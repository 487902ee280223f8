"""A checkpoint of `torch.save` from elsewhere, on its way into a model folder: the article's, or nanoGPT's.

Special here: one command for all of them, since a `.pt` file does not say who wrote it; what it holds does. Those that
are known and cannot be read are named, with what to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manako.errors import LoadError
from manako.families.gpt2 import ModelConfig
from manako.formats.checkpoint import Tensors
from manako.tokenizer import Tokenizer

Notices = tuple[tuple[str, dict[str, object]], ...]


@dataclass(frozen=True, eq=False)
class Imported:
    """A checkpoint, checked and under GPT-2's names."""

    config: ModelConfig
    tensors: Tensors
    """float32, by HF name without "transformer.", HF orientation."""
    tokenizer: Tokenizer
    stored_dtype: str
    """How the weights lie in the file, for example "float32"."""
    notices: Notices = ()
    """(catalog key, values) of what a user should know, as in `Checkpoint.notices`."""


def gpt2_config(path: Path, place: str, shape: Mapping[str, int], **switches: Any) -> ModelConfig:
    """The configuration of a model with the exact GELU, as torch has it.

    place: where in the file the shape stands. Raises LoadError naming the value that makes no sense.
    """
    try:
        return ModelConfig(**shape, activation_function="gelu", **switches)
    except LoadError as error:  # its messages speak of config.json
        name = error.values.get("name", "n_embd")
        limits = "{low}..{high}" if error.key == "config_range" else "k * n_head ({n_head})"
        expected = limits.format_map(error.values)
        found = shape[str(name)]
        raise LoadError("legacy_value", file=path, name=f"{place}.{name}", found=found, expected=expected) from None
