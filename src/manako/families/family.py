"""What a family of models is to the rest of manako: one record, filled in by one file a family.

Special here: whatever differs from family to family is a field of `Family`, so that nothing outside this folder asks
which one it has. A new family is a file like gpt2.py and its line in `families/__init__.py`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from manako.errors import LoadError
from manako.families.numpy_model import NumpyModel
from manako.families.shape import FileShape, Notices
from manako.families.weights import Weights


class StoredTensor(Protocol):
    """A tensor that a file announces; formats/tensor_files.py reads it."""

    @property
    def file(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def size(self) -> int: ...  # in bytes
    @property
    def dtype(self) -> str: ...  # in the format's own words
    @property
    def is_float(self) -> bool: ...  # whether it is of a type that weights may have
    def read(self) -> npt.NDArray[np.uint8]: ...  # its bytes
    def widened(self) -> tuple[npt.NDArray[np.float32], str]: ...  # its numbers, and their digest


@dataclass(frozen=True)
class GGUFSettings:
    """What the head of a GGUF file says of a model."""

    file: Path
    architecture: str
    values: Mapping[str, Any]
    """By key without the architecture's name; all of them known, each of its kind."""
    tensors: Collection[str]
    """Names of all tensors of the file."""
    vocab_size: int
    start_id: int | None
    end_ids: tuple[int, ...]
    small_tensor: Callable[[str], npt.NDArray[np.float32] | None]
    """A short vector of the file that is part of the configuration; None where there is none of that name."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            raise LoadError("gguf_missing", file=self.file, name=f"{self.architecture}.{name}")
        return self.values[name]

    def expect(self, name: str, only: object) -> None:
        """Refuse a value other than `only`; the key may be missing."""
        if self.values.get(name, only) != only:
            raise self.refusal(f"{self.architecture}.{name}", self.values[name])

    def refusal(self, name: str, found: object) -> LoadError:
        """The error that names a key or tensor and what was found there."""
        return LoadError("gguf_value", file=self.file, name=name, found=found)


C = TypeVar("C", bound=FileShape)


@dataclass(frozen=True)
class GGUFLayout(Generic[C]):
    """How llama.cpp's files hold a family. Source: `gguf-py/gguf/constants.py` and `tensor_mapping.py` there."""

    architectures: tuple[str, ...]
    keys: Mapping[str, type]
    """All keys that are understood, without the architecture's name; another one could change a number."""
    names: Mapping[str, str]
    """Our names of tensors, without layer and suffix: theirs."""
    config: Callable[[GGUFSettings], C]
    transposed: Callable[[str], bool] = lambda name: False
    """Whether they have a tensor of ours as [out, in], where we have [in, out]."""
    reordered: Callable[[C, str, npt.NDArray[np.float32]], npt.NDArray[np.float32]] = lambda config, name, tensor: (
        tensor
    )
    """A tensor with its rows in our order."""


@dataclass(frozen=True)
class Family(Generic[C]):
    """One family of models."""

    model_types: tuple[str, ...]
    """The names in config.json that mean it."""
    prefix: str
    """What other programs may put in front of a tensor's name."""
    embedding: str
    """The tensor with the token embedding, which may be the output matrix too."""
    bos_starts_documents: bool
    """Whether the start token stands before each document also where the tokenizer puts none in front of a text."""
    config_from_json: Callable[[Mapping[str, Any]], tuple[C, Notices]]
    """From a whole config.json; `start_id` and `end_ids` are for other files to say too. Raises LoadError."""
    config_to_json: Callable[[C, str], dict[str, Any]]
    """The object of a config.json that transformers reads too, for weights of this dtype."""
    weights: Callable[[C], Weights]
    """Room for its weights."""
    model: Callable[[C, Mapping[str, npt.NDArray[Any]]], NumpyModel]
    """From configuration and weights to the forward pass."""
    gguf: GGUFLayout[C]
    in_page: bool = False
    """Whether the engine of the page runs it too."""
    buffers: tuple[str, ...] = ()
    """Ends of names of what old files carry beside the weights."""
    buffer_size: Callable[[C], int] = lambda config: 0
    """The most numbers that the buffers of one layer have."""
    check_buffer: Callable[[C, StoredTensor], None] = field(default=lambda config, tensor: None)
    """Raises LoadError for a buffer that is not what this configuration makes it."""
