"""Every token of a given text: the row it was scored with, window by window.

Special here: windows overlap by half, so each token is scored once, with at least half a context before it except at
the start of the text. Where the vocabulary has a document-start token the first token is scored after it; otherwise
the first token has no row and is context alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.engines.captures import CaptureRecorder
from manako.engines.generation import Recorder
from manako.engines.session import Session
from manako.errors import UsageError
from manako.families.activations import Activations
from manako.sampling import distribution
from manako.trace.captures import CONTRIBUTION_TOP
from manako.trace.record import Header, Trace, Vocabulary


@dataclass(frozen=True)
class Scored:
    """Some tokens of the text with the rows that scored them."""

    targets: npt.NDArray[np.int64]
    """[m] token ids."""
    rows: npt.NDArray[np.float32]
    """[m, V]: row j is what the model said where target j stands."""
    window_start: int
    """First token of the text that the model saw."""
    first: int
    """Place of the first of these rows in the window."""
    kept: Activations | None
    """What the pass over the window left behind, where it was asked to."""


def scored_rows(
    session: Session, ids: Sequence[int], fresh: Callable[[], Activations | None] = lambda: None
) -> Iterator[Scored]:
    """Rows for ids[1:], in order, each token once. fresh: what to hand to each pass to be filled."""
    context = session.context
    hop = max(1, context // 2)
    start, done = 0, 1  # ids[:done] have been scored or are context alone
    while done < len(ids):
        stop = min(start + context + 1, len(ids))  # the last token of a window is scored, not seen
        kept, first = fresh(), done - start - 1
        rows = session.rows(ids[start : stop - 1], kept)
        yield Scored(np.asarray(ids[done:stop]), rows[first:], start, first, kept)
        done = stop
        start = max(0, done - 1 - (context - hop))


def scored(
    session: Session,
    header: Header,
    ids: Sequence[int],
    vocabulary: Vocabulary,
    captures: CaptureRecorder | None = None,
) -> Trace:
    """The record of a given text: ids[0] is context, every other token a step. header: of kind "score"."""
    more = captures.step_bytes(min(len(ids), session.context)) if captures else 0
    recorder = Recorder.start(vocabulary.size, len(header.sampling.active), len(ids) - 1, more)
    fresh = captures.fresh if captures else lambda: None
    for part in scored_rows(session, ids, fresh):
        for n, (target, row) in enumerate(zip(part.targets.tolist(), part.rows, strict=True), part.first):
            d = distribution(row, header.sampling)
            recorder.add(d, target, float("nan"), part.window_start)
            if captures and part.kept is not None:
                captures.add(part.kept, n, n + 1, row, [target, *d.top(CONTRIBUTION_TOP).tolist()])
    columns = recorder.finish(ids[:1])
    if captures:
        columns = replace(columns, captured=captures.finish())
        header = captures.entered(header)
    return Trace(header, columns, vocabulary)


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


def evaluate(session: Session, ids: Sequence[int], text: str, skipped: str) -> Evaluation:
    """Score a text, adding up in float64. skipped: the part of `text` that ids[0] stands for, "" for a start token."""
    total, count = 0.0, 0
    for part in scored_rows(session, ids):
        rows = part.rows.astype(np.float64)
        total += float(surprisals(rows, part.targets).sum())
        count += len(part.targets)
    characters, size = len(text) - len(skipped), len(text.encode()) - len(skipped.encode())
    loss, bits = total / count, total / math.log(2)
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return Evaluation(loss, perplexity, bits / characters, bits / size, count, characters)


def evaluate_ids(
    session: Session, ids: Sequence[int], sizes: tuple[Sequence[int], Sequence[int]], start_id: int | None
) -> Evaluation:
    """Score a stretch of a corpus, in which documents stand behind `start_id`, which is seen and not scored.

    sizes: (characters, bytes) [V] of the text that each token stands for. Raises UsageError where nothing is scored.
    """
    total, counts = 0.0, np.zeros(len(sizes[0]), dtype=np.int64)
    for part in scored_rows(session, ids):
        wanted = part.targets != start_id
        total += float(surprisals(part.rows.astype(np.float64), part.targets)[wanted].sum())
        counts += np.bincount(part.targets[wanted], minlength=len(counts))
    count, characters, size = int(counts.sum()), int(counts @ sizes[0]), int(counts @ sizes[1])
    if not characters:
        raise UsageError("score_too_short")
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
