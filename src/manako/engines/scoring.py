"""Every token of a given text: the row it was scored with, window by window.

Special here: windows overlap by half, so each token is scored once, with at least half a context before it except at
the start of the text. Where the vocabulary has a document-start token the first token is scored after it; otherwise
the first token has no row and is context alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class RowEngine(Protocol):
    """What scoring needs of an engine."""

    def rows(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """[T, V]: the row after each of `ids`, T at most the context."""
        ...


@dataclass(frozen=True)
class Scored:
    """Some tokens of the text with the rows that scored them."""

    targets: npt.NDArray[np.int64]
    """[m] token ids."""
    rows: npt.NDArray[np.float32]
    """[m, V]: row j is what the model said where target j stands."""
    window_start: int
    """First token of the text that the model saw."""


def scored_rows(engine: RowEngine, ids: Sequence[int], context: int) -> Iterator[Scored]:
    """Rows for ids[1:], in order, each token once. context: how many tokens the engine can see."""
    hop = max(1, context // 2)
    start, done = 0, 1  # ids[:done] have been scored or are context alone
    while done < len(ids):
        stop = min(start + context + 1, len(ids))  # the last token of a window is scored, not seen
        rows = engine.rows(ids[start : stop - 1])
        yield Scored(np.asarray(ids[done:stop]), rows[done - start - 1 :], start)
        done = stop
        start = max(0, done - 1 - (context - hop))


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text."""

    loss: float
    """Mean surprisal in nats a token."""
    perplexity: float
    """exp(loss)."""
    bits_per_character: float
    """Total surprisal over the characters that were scored: comparable between tokenizers."""
    bits_per_byte: float
    tokens: int
    """Tokens that were scored."""
    characters: int
    """Characters that were scored."""


def evaluate(engine: RowEngine, ids: Sequence[int], context: int, text: str, skipped: str) -> Evaluation:
    """Score a text, adding up in float64. skipped: the part of `text` that ids[0] stands for, "" for a start token."""
    total, count = 0.0, 0
    for part in scored_rows(engine, ids, context):
        rows = part.rows.astype(np.float64)
        total += float(surprisals(rows, part.targets).sum())
        count += len(part.targets)
    characters, size = len(text) - len(skipped), len(text.encode()) - len(skipped.encode())
    loss, bits = total / count, total / math.log(2)
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return Evaluation(loss, perplexity, bits / characters, bits / size, count, characters)


def surprisals(rows: npt.NDArray[Any], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[m] -log p of each target in nats, from rows [m, V].

    >>> surprisals(np.log([[0.5, 0.25, 0.25]]), np.array([1])).round(4).tolist()
    [1.3863]
    """
    top = rows.max(axis=1)
    sums = np.exp(rows - top[:, None]).sum(axis=1)
    return top + np.log(sums) - rows[np.arange(len(targets)), targets]
