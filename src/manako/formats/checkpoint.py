"""A model as its files have it: tokens and origin of every one, shape and weights of those that NumPy runs."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from manako.errors import LoadError
from manako.families import family_of
from manako.families.numpy_model import NumpyModel
from manako.families.shape import FileShape, Notices
from manako.files import megabytes
from manako.tokenizer import Tokenizer

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """What is known of a model beside its weights, whatever engine runs it."""

    tokenizer: Tokenizer
    fingerprint: str
    """SHA-256 over the names and digests of all tensors, hexadecimal."""
    stored_dtype: str
    """How the weights lie in the file: "float32", "float16" or "bfloat16", several joined by "/"."""
    notices: Notices | tuple[tuple[str, dict[str, object]], ...] = ()
    """(catalog key, values) of what a user should know, such as integrity that cannot be verified."""
    chat_template: str | None = None
    """The text of its chat template: a program, which runs only where somebody asks for it, in a sandbox."""
    token_names: Mapping[str, str] = field(default_factory=dict[str, str])
    """What its author calls the start token, the end token and others: what a chat template may ask for."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(Source):
    """A model of one of the families, whole."""

    config: FileShape
    tensors: Tensors
    """float32, by HF name without the family's prefix."""

    def model(self) -> NumpyModel[Any]:
        """Its forward pass, which is an engine."""
        return family_of(self.config.model_type).model(self.config, self.tensors)


def count_weights(config: FileShape) -> int:
    """How many numbers the weights are, before room is made for any.

    Raises LoadError where they are more than the machine has memory: they are never held in part.
    """
    numbers = sum(math.prod(shape) for shape in config.parameters().values())
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # the system does not tell
        memory = None
    if memory is not None and 4 * numbers > memory:
        raise LoadError("model_too_large", need=megabytes(4 * numbers), have=megabytes(memory))
    return numbers
