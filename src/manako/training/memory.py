"""What a training takes, summed before any of it is taken, and what there is.

Special here: the sum is a floor, so that nothing is refused that would fit; what runs out of memory all the same ends
with one line too.
"""

import contextlib
from collections.abc import Iterator

import torch

from manako.errors import ManakoError
from manako.families.gpt2 import ModelConfig
from manako.files import megabytes
from manako.memory import available_memory
from manako.training.config import TrainingConfig

MOST_LOGITS = 2**26  # numbers of one micro-batch, 256 MB in float32
_STATE = {"muon": 3, "adamw": 4}  # weights, gradients and what the optimizer keeps, in numbers a weight
_KEPT = 10  # numbers a token, layer and width that the way back needs
_REFUSED = ("allocate memory", "not enough memory", "bad_alloc", "out of memory", "could not create a primitive")


def rows_at_once(config: ModelConfig) -> int:
    """Sequences whose logits stay below MOST_LOGITS, at least one."""
    return max(1, MOST_LOGITS // (config.block_size * config.vocab_size))


def needed(config: ModelConfig, training: TrainingConfig, processes: int = 1) -> int:
    """Bytes that one process cannot do without: weights and optimizer, the ids of a batch, one micro-batch."""
    T, C, V = config.block_size, config.n_embd, config.vocab_size
    weights = 12 * config.n_layer * C * C + (V + T) * C
    share = max(1, training.batch_size // processes)
    tokens = T * min(share, training.micro_batch or rows_at_once(config))
    return 4 * _STATE[training.optimizer] * weights + 8 * share * T + tokens * (2 * _KEPT * config.n_layer * C + 4 * V)


def free(device: str) -> int | None:
    """Bytes that may still be taken, None where the system does not tell."""
    if device != "cpu":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def refuse_too_large(config: ModelConfig, training: TrainingConfig, device: str, processes: int = 1) -> None:
    """Raise ManakoError where what a training needs is more than there is."""
    need, have = needed(config, training, processes), free(device)
    if have is not None and need > have:
        raise ManakoError("train_too_large", need=megabytes(need), free=megabytes(have), device=device)


@contextlib.contextmanager
def said(device: str) -> Iterator[None]:
    """One line where memory runs out all the same."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _REFUSED):
            raise
        raise ManakoError("train_out_of_memory", device=device) from None
