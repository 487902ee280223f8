"""Every token of a given text: the row it was scored with, window by window.

Special here: windows overlap by half, so each token is scored once, with at least half a context before it except at
the start of the text. Where the vocabulary has a document-start token the first token is scored after it; otherwise
the first token has no row and is context alone. Rows that are not finite say nothing of a text: they are an error.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.engines.captures import CaptureRecorder
from manako.engines.generation import Recorder
from manako.engines.session import Session
from manako.errors import ManakoError, UsageError
from manako.families.activations import Activations
from manako.frozen import Frozen
from manako.sampling import distribution
from manako.token_ids import Ids
from manako.trace.captures import CONTRIBUTION_TOP
from manako.trace.record import Header, Trace, Vocabulary
from manako.trace.windows import score_windows


@dataclass(frozen=True, eq=False)
class Scored(Frozen):
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


Told = Callable[[int, int], None]
"""Called with (tokens read so far, tokens in all) after each window: a long text takes minutes."""


def scored_rows(
    session: Session,
    ids: Sequence[int] | Ids,
    given: int = 1,
    fresh: Callable[[], Activations | None] = lambda: None,
    told: Told | None = None,
) -> Iterator[Scored]:
    """Rows for all but the `given` first of ids, in order, each token once. fresh: what each pass is to fill."""
    for start, first, stop in score_windows(len(ids), session.context, given):
        kept, place = fresh(), first - start - 1
        rows = session.rows(ids[start : stop - 1], kept)
        yield Scored(np.asarray(ids[first:stop], dtype=np.int64), rows[place:], start, place, kept)
        if told:
            told(stop, len(ids))


def _finite(session: Session, ids: Sequence[int] | Ids, parts: Iterator[Scored]) -> Iterator[Scored]:
    """The parts of ids. Raises ManakoError naming the first token whose row is not finite."""
    for part in parts:
        bad = np.flatnonzero(~np.isfinite(part.rows.max(axis=1)))  # as `distribution` has it: NaN, +inf, or only -inf
        if len(bad):
            raise _not_finite(session, ids, part.window_start, part.window_start + part.first + 1 + int(bad[0]))
        yield part


def _not_finite(session: Session, ids: Sequence[int] | Ids, start: int, stop: int) -> ManakoError:
    """stop: how many of ids stand before the row, which saw those from `start` on."""
    return ManakoError("score_not_finite", tokens=stop, layer=session.first_bad_layer(ids[start:stop]))


def scored(
    session: Session,
    header: Header,
    ids: Sequence[int],
    context: int,
    vocabulary: Vocabulary,
    captures: CaptureRecorder | None = None,
    told: Told | None = None,
) -> Trace:
    """The record of a text: the `context` first of ids are given, every other a step. header: of kind "score"."""
    record = _Record(header, vocabulary, captures, len(ids) - context, min(len(ids), session.context))
    fresh = captures.fresh if captures else lambda: None
    for part in _finite(session, ids, scored_rows(session, ids, context, fresh, told)):
        for n, (target, row) in enumerate(zip(part.targets.tolist(), part.rows, strict=True), part.first):
            record.add(target, row, part.window_start, part.kept, n, n + 1)
    return record.trace(ids[:context])


def scored_last(
    session: Session, header: Header, ids: Sequence[int], vocabulary: Vocabulary, captures: CaptureRecorder | None
) -> Trace:
    """The record of the last of ids alone, seen through the window that `scored` has for it: one pass, one row."""
    place = len(ids) - 1
    [(start, _, _)] = score_windows(len(ids), session.context, place)
    seen = ids[start:place]
    record = _Record(header, vocabulary, captures, 1, len(seen))
    kept = captures.fresh(len(seen)) if captures else None
    row = session.uncached_logits(seen, kept)
    if not np.isfinite(row.max()):
        raise _not_finite(session, ids, start, place)
    if captures and kept is not None:
        captures.add_prompt(kept)
    record.add(ids[-1], row, start, kept, 0, len(seen))
    return record.trace(ids[:place])


class _Record:
    """The record of a text while it grows. keys: the most tokens that one step sees."""

    def __init__(
        self, header: Header, vocabulary: Vocabulary, captures: CaptureRecorder | None, steps: int, keys: int
    ) -> None:
        self._header, self._vocabulary, self._captures = header, vocabulary, captures
        more = captures.step_bytes(keys) if captures else 0
        self._recorder = Recorder.start(vocabulary.size, len(header.sampling.active), steps, more)

    def add(
        self, target: int, row: npt.NDArray[np.float32], window_start: int, kept: Activations | None, n: int, keys: int
    ) -> None:
        """One step. n: its place among the rows of the pass; keys: tokens in its view."""
        d = distribution(row, self._header.sampling)
        self._recorder.add(d, target, float("nan"), window_start)
        if self._captures and kept is not None:
            self._captures.add(kept, n, keys, row, [target, *d.top(CONTRIBUTION_TOP).tolist()])

    def trace(self, prompt_ids: Sequence[int]) -> Trace:
        steps, header = self._recorder.length, self._header
        captured = self._captures.finish(steps) if self._captures else None
        columns = self._recorder.finish(prompt_ids, steps, captured)
        if self._captures:
            header = self._captures.entered(header)
        return Trace(header, columns, self._vocabulary)


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text."""

    loss: float
    """Mean surprisal in nats a token."""
    perplexity: float
    """exp(loss); infinite where that is more than a float holds."""
    bits_per_character: float | None
    """Surprisal of the known tokens over the characters that they stand for: comparable between tokenizers.

    None where there is no such character.
    """
    bits_per_byte: float | None
    tokens: int
    """Tokens that were scored."""
    characters: int
    """Characters of the text that were predicted: each counts where its last token was."""
    unknown_characters: int
    """Characters that the vocabulary has as `<unk>` alone: they count above neither as text nor as surprisal."""


@dataclass(frozen=True)
class Given:
    """A text to score, cut into tokens."""

    text: str
    ids: Sequence[int]
    """Those that stand before the text, if any, and then its own."""
    context: int
    """How many of them are context alone, and not scored."""
    spans: Sequence[tuple[int, int]]
    """The characters of the text that each id stands for; (0, 0) for what stands before it."""


def evaluate(session: Session, given: Given, unknown_id: int | None = None, told: Told | None = None) -> Evaluation:
    """Score a text, adding up in float64. unknown_id: of `<unk>`."""
    found = [np.zeros(0)]
    for part in _finite(session, given.ids, scored_rows(session, given.ids, given.context, told=told)):
        found.append(surprisals(part.rows.astype(np.float64), part.targets))
    nats, ids = np.concatenate(found), np.asarray(given.ids)
    unknown = np.zeros(len(ids), dtype=bool) if unknown_id is None else ids == unknown_id
    last, lost = np.full(len(given.text), -1), np.zeros(len(given.text), dtype=bool)
    for n, (start, end) in enumerate(given.spans):
        last[start:end] = n
        lost[start:end] |= unknown[n]
    counted = (last >= given.context) & ~lost
    codes = np.frombuffer(given.text.encode("utf-32-le"), dtype=np.uint32)
    sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)  # in bytes of UTF-8
    characters, size = int(counted.sum()), int(sizes[counted].sum())
    loss, bits = float(nats.mean()), float(nats[~unknown[given.context :]].sum()) / math.log(2)
    return Evaluation(
        loss=loss,
        perplexity=_perplexity(loss),
        bits_per_character=bits / characters if characters else None,
        bits_per_byte=bits / size if size else None,
        tokens=len(nats),
        characters=characters,
        unknown_characters=int((lost & (last >= given.context)).sum()),
    )


def evaluate_ids(
    session: Session,
    ids: Sequence[int] | Ids,
    sizes: tuple[Sequence[int], Sequence[int]],
    start_id: int | None,
    unknown_id: int | None = None,
    told: Told | None = None,
) -> Evaluation:
    """Score a stretch of a corpus, in which documents stand behind `start_id`.

    That and `unknown_id`, of `<unk>`, are seen and not scored; a `<unk>` counts as one unknown character.
    sizes: (characters, bytes) [V] of the text that each token stands for. Raises UsageError where nothing is scored.
    """
    total, unknown, counts = 0.0, 0, np.zeros(len(sizes[0]), dtype=np.int64)
    unscored = [i for i in (start_id, unknown_id) if i is not None]
    for part in _finite(session, ids, scored_rows(session, ids, told=told)):
        wanted = ~np.isin(part.targets, unscored)
        unknown += part.targets.tolist().count(unknown_id)
        total += float(surprisals(part.rows.astype(np.float64), part.targets)[wanted].sum())
        counts += np.bincount(part.targets[wanted], minlength=len(counts))
    count, characters, size = int(counts.sum()), int(counts @ sizes[0]), int(counts @ sizes[1])
    if not characters:
        raise UsageError("score_too_short")
    loss, bits = total / count, total / math.log(2)
    return Evaluation(loss, _perplexity(loss), bits / characters, bits / size, count, characters, unknown)


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 709 else math.inf


def surprisals(rows: npt.NDArray[Any], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[m] -log p of each target in nats, from rows [m, V].

    >>> surprisals(np.log([[0.5, 0.25, 0.25]]), np.array([1])).round(4).tolist()
    [1.3863]
    """
    top = rows.max(axis=1)
    sums = np.exp(rows - top[:, None]).sum(axis=1)
    return top + np.log(sums) - rows[np.arange(len(targets)), targets]
