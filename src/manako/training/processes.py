"""One process or many: the ranks that `torchrun` starts, and what they say to each other.

Special here: tensors alone travel, never pickled objects; rank 0 alone writes and speaks. When the ranks part, the
threads that carried the tensors have ended: one that still let go of a tensor as the interpreter closes would abort
the process, its work done. They end with the last that holds the group, so nobody else may hold it; that is why
gradients are summed here and not by DistributedDataParallel, which keeps the group for as long as it lives itself.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from manako.errors import CapabilityError, Names, UsageError

_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Processes:
    """This process among those of the run."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """The sums of some numbers over all processes."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(numbers)
        return numbers.tolist()

    def share(self, weights: Iterable[Tensor]) -> None:
        """Give all processes the weights of the first."""
        if self.size > 1:
            for weight in weights:
                dist.broadcast(weight.detach(), 0)

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Put in the place of each gradient its sum over all processes."""
        if self.size == 1:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        whole = torch.cat([gradient.flatten() for gradient in gradients])  # one message
        dist.all_reduce(whole)
        for gradient, total in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()


def device_of(asked: str) -> str:
    """Where to compute: "auto" takes a GPU where there is one, "cpu" or "cuda" insists.

    Raises CapabilityError for one that is not there.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise CapabilityError("train_no_cuda")
    return asked


def _size() -> int:
    """How many processes shall train together. Raises UsageError where nothing brings several of them together."""
    asked = os.environ.get("WORLD_SIZE", "1")
    size = int(asked) if _NUMBER.fullmatch(asked) else 0
    said = {name: os.environ.get(name, "") for name in ("RANK", "MASTER_ADDR", "MASTER_PORT")}
    fits = {
        "RANK": bool(_NUMBER.fullmatch(said["RANK"])) and int(said["RANK"]) < size,
        "MASTER_ADDR": bool(said["MASTER_ADDR"]),
        "MASTER_PORT": bool(_NUMBER.fullmatch(said["MASTER_PORT"])),
    }
    lacking = ["WORLD_SIZE"] if size < 1 else [name for name in fits if size > 1 and not fits[name]]
    if lacking:
        raise UsageError("train_no_group", size=asked, lacking=Names(lacking))
    return size


@contextlib.contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """The processes of this run: those of torchrun where its variables are set, else this one alone.

    Raises as `device_of` does, and UsageError where only some of the variables are set.
    """
    device, size = device_of(device), _size()
    if size == 1:
        yield Processes(device=device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device != "cpu" else "gloo")
    try:
        yield Processes(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
