"""The held-out text as every evaluation of a training sees it.

Special here: the method is that of `manako eval` (engines/scoring.py), so that one checkpoint has one figure on one
text. Windows overlap by half, each token is scored once, with at least half a context before it except at the start.
Document starts and `<unk>` are seen but not scored, since they stand for no character. Of a longer text than
MOST_TOKENS, windows evenly spread over it are scored.
"""

import numpy as np
import numpy.typing as npt
import torch

from manako.corpus.packed import Shards
from manako.tokenizer import Tokenizer, sizes_of

MOST_TOKENS = 65_536  # scored by one evaluation
UNSCORED = -100  # what torch's cross_entropy passes over


class HeldOut:
    """Fixed windows of one side of a corpus.

    start_id: the document start. `tokens`, `characters` and `bytes` count what is scored; all are 0 where the text is
    shorter than two tokens.
    """

    def __init__(self, side: Shards, block_size: int, tokenizer: Tokenizer, start_id: int) -> None:
        hop = max(1, block_size // 2)
        passed = torch.tensor([i for i in (start_id, tokenizer.unknown_id) if i is not None])
        count = 1 + -(-max(0, len(side) - 1 - block_size) // hop) if len(side) > 1 else 0
        chosen = np.arange(count)
        if count * hop > MOST_TOKENS:
            chosen = np.linspace(0, count - 1, MOST_TOKENS // hop).astype(np.int64)
        self.ids = torch.full((len(chosen), block_size), start_id)  # [N, T]
        self.targets = torch.full((len(chosen), block_size), UNSCORED)  # [N, T]
        for row, number in enumerate(chosen.tolist()):
            window = torch.from_numpy(_window(side, number * hop, block_size + 1))
            known = 0 if number == 0 else block_size - hop  # targets that the window before has scored
            targets = window[1 + known :]
            self.ids[row, : len(window) - 1] = window[:-1]
            self.targets[row, known : len(window) - 1] = torch.where(torch.isin(targets, passed), UNSCORED, targets)
        scored = self.targets[self.targets != UNSCORED].numpy()
        self.tokens = len(scored)
        self.characters, self.bytes = (int(np.array(sizes)[scored].sum()) for sizes in sizes_of(tokenizer))


def _window(side: Shards, start: int, length: int) -> npt.NDArray[np.int64]:
    return side.windows([start], min(length, len(side) - start))[0]
