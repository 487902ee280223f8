"""Which windows of the corpus each step sees, as a function of (seed, position) alone.

Special here: nothing is remembered between two batches, so a run goes on from one whole number. Each epoch cuts the
text into blocks at another phase and goes through them in another order, every block once. Rank r of w takes each w-th.

Every other window has the document start in place of its first token, as a scored text and an empty prompt have it in
front. A text of few documents has it in few places, and a model that has hardly met it predicts worse behind it (0.1
bits a character).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from manako.corpus.packed import Shards
from manako.errors import UsageError


class Batches:
    """The order of all windows of a corpus, for ever."""

    def __init__(self, tokens: Shards, block_size: int, seed: int, start_id: int) -> None:
        if len(tokens) < block_size + 1:
            raise UsageError("text_too_short", need=block_size + 1, got=len(tokens), block_size=block_size)
        self.tokens, self.block_size, self.seed, self.start_id = tokens, block_size, seed, start_id
        self.blocks = max(1, (len(tokens) - 1) // block_size - 1)
        """Windows an epoch: one less than fit, so that the phase can vary."""
        self._epoch = -1

    def windows(self, first: int, count: int, rank: int = 0, size: int = 1) -> npt.NDArray[np.int64]:
        """Windows `first` to `first + count` of the run, those of one rank: [about count / size, block_size + 1]."""
        positions = np.arange(first + rank, first + count, size)
        starts = [self._start(position) for position in positions.tolist()]
        found = self.tokens.windows(np.array(starts, dtype=np.int64), self.block_size + 1)
        found[positions % 2 == 0, 0] = self.start_id
        return found

    def _start(self, position: int) -> int:
        epoch, place = divmod(position, self.blocks)
        if epoch != self._epoch:
            random = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64)))
            self._phase = int(random.integers(len(self.tokens) - self.blocks * self.block_size))
            self._order = random.permutation(self.blocks)
            self._epoch = epoch
        return self._phase + int(self._order[place]) * self.block_size


def pairs(windows: npt.NDArray[np.int64], rows: int, device: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, targets), each [at most rows, block_size], of windows [N, block_size + 1]."""
    for part in torch.from_numpy(windows).to(device).split(rows):
        yield part[:, :-1], part[:, 1:]
