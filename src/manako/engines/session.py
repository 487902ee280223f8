"""One text in an engine: its cache while the text fits the context, the exact window after that.

Special here: rows are float32 whatever the engine computes in, since that is what a trace stores.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from manako.engines.protocol import Engine, need
from manako.families.activations import Activations
from manako.token_ids import Ids
from manako.trace.windows import generation_start, score_context

Logits = npt.NDArray[np.float32]


class Session:
    """See the module. Raises CapabilityError for an engine without rows."""

    def __init__(self, engine: Engine) -> None:
        need(engine, "rows")
        self._engine, self._cache, self._limit = engine, engine.new_cache(), engine.config.block_size
        self.context = score_context(self._limit, engine.config.vocab_size)
        """How many tokens `rows` takes at most."""

    def next_logits(self, ids: Sequence[int], keep: Activations | None = None) -> tuple[Logits, int]:
        """The row [V] that follows the whole text `ids`, and the first token of it that the model saw.

        keep: filled with the activations of the pass; its last row is the one that predicts.
        """
        if start := generation_start(len(ids), self._limit):
            return self.uncached_logits(ids, keep), start
        if self._cache.length >= len(ids):  # this step was computed before and interrupted before it counted
            self._cache.length = 0
        return self._last(ids[self._cache.length :], keep), 0

    def uncached_logits(self, ids: Sequence[int], keep: Activations | None = None) -> Logits:
        """The same row computed with nothing kept: the definition that `next_logits` must agree with."""
        self._cache.length = 0  # the next call in the context would start over too
        return self._last(ids[-self._limit :], keep)

    def rows(self, ids: Sequence[int] | Ids, keep: Activations | None = None) -> Logits:
        """[T, V]: the row after each of `ids`, with nothing kept. keep: filled on the way."""
        rows = self._engine.forward(ids, self._engine.new_cache(), last_only=False, keep=keep)
        return rows.astype(np.float32, copy=False)

    def first_bad_layer(self, ids: Sequence[int] | Ids) -> int:
        """The first block, from 1, whose output is not finite; 0 means the embedding, n_layer + 1 the head."""
        cache, ids = self._engine.new_cache(), ids[-self._limit :]
        bad = [self._engine.config.n_layer + 1]
        for start in range(0, 0 if "residual" in self._engine.lacks else len(ids), self.context):
            keep = Activations()
            self._engine.forward(ids[start : start + self.context], cache, last_only=False, keep=keep)
            bad += [i for i, rows in enumerate(keep.residual()) if not np.isfinite(rows).all()]
        return min(bad)

    def _last(self, ids: Sequence[int], keep: Activations | None) -> Logits:
        return self._engine.forward(ids, self._cache, keep=keep)[0].astype(np.float32, copy=False)
