"""The step loop: logits, chain, draw, record; one token at a time, interruptible at any.

Special here: a step is written down before it is shown, so the record of an interrupted run is whole. Columns grow by
doubling, since a run is often stopped long before its limit. What is captured changes no bit of what is drawn. An
interruption may come between any two statements: the length of the record alone says which steps there are, and all
else that a run knows of them is taken from the record, in one assignment each.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from manako.engines.captures import Captured, CaptureRecorder
from manako.engines.session import Session
from manako.errors import ManakoError, UsageError
from manako.files import megabytes
from manako.memory import available_memory
from manako.sampling import Distribution, distribution, draw, uniform
from manako.trace.captures import CONTRIBUTION_TOP
from manako.trace.record import Columns, Header, SelfCheck, Step, Trace, Vocabulary, part_of, step_of
from manako.trace.schema import FULL_ROW_LIMIT, PART, check_limit, step_columns

Array = npt.NDArray[Any]
Done = TypeVar("Done")


@dataclass(eq=False)
class Recorder:
    """The columns of a record while they grow."""

    vocab_size: int
    columns: dict[str, npt.NDArray[Any]]
    length: int = 0
    worst_sum: float = 0.0
    """The largest |sum of p - 1| of all steps, p as the draw used it."""

    @classmethod
    def start(cls, vocab_size: int, stages: int, expected: int, more: int = 0) -> "Recorder":
        """Room for the first steps. Raises ManakoError when a record of `expected` steps cannot fit into memory.

        more: bytes a step that are recorded elsewhere.
        """
        columns = step_columns("all") | step_columns("whole" if vocab_size <= FULL_ROW_LIMIT else "part")
        sizes = {"S": 1, "V": vocab_size, "K": PART, "A": stages}
        step_bytes = more + sum(column.bytes(sizes) for column in columns.values())
        available = available_memory()
        if available is not None and expected * step_bytes > available:
            need, free = megabytes(expected * step_bytes), megabytes(available)
            raise ManakoError("trace_too_large", need=need, free=free)
        room = sizes | {"S": max(1, min(expected, 256))}
        return cls(vocab_size, {name: column.empty(room) for name, column in columns.items()})

    def add(self, d: Distribution, token_id: int, u: float, window_start: int) -> None:
        """Write one step; it counts only once all of it is written."""
        if self.length == len(self.columns["u"]):
            self.columns = {n: np.concatenate([a, np.empty_like(a)]) for n, a in self.columns.items()}
        values: dict[str, Any] = {
            "token_id": token_id,
            "u": u,
            "window_start": window_start,
            "p": d.p[token_id],
            "p_model": d.p_model[token_id],
            "rank": d.rank(token_id),
        }
        if "logits" in self.columns:
            values["logits"] = d.logits
        else:
            values |= part_of(d, token_id, PART)
        for name, value in values.items():
            self.columns[name][self.length] = value
        self.worst_sum = max(self.worst_sum, abs(float(d.p.sum()) - 1))
        self.length += 1

    def finish(self, prompt_ids: Sequence[int], steps: int, captured: Mapping[str, Array] | None = None) -> Columns:
        """The columns of the first `steps` steps, with what else was captured of them."""
        made = {name: a[:steps] for name, a in self.columns.items()}
        part = {name: made.pop(name) for name in step_columns("part") if name in made} or None
        inside = {} if captured is None else captured  # asked for nothing, not even for its length
        return Columns(prompt_ids=np.array(prompt_ids, dtype=np.int32), part=part, captured=inside, **made)


@dataclass(frozen=True)
class _Made:
    """What a run has made by some step."""

    steps: int
    tail: bytes
    """The last bytes, as many as a stop text could begin in."""
    end: Literal["length", "stop", "document_end"] | None = None


class Generation:
    """A run in progress. Iterate to see each step as it is made; `trace()` is the record so far, at any time.

    Any thread may make the next step, one at a time: a second one that comes meanwhile gets UsageError.
    """

    def __init__(
        self,
        session: Session,
        header: Header,
        prompt_ids: Sequence[int],
        vocabulary: Vocabulary,
        end_ids: Collection[int],
        captures: CaptureRecorder | None = None,
    ) -> None:
        self._session, self._header, self._vocabulary = session, header, vocabulary
        self._prompt_ids, self._end_ids = list(prompt_ids), frozenset(end_ids)
        self._ids = list(prompt_ids)
        self._captures, count = captures, header.max_new_tokens
        self._before = (b"", 0)  # what stands before the step that was shown last, and how many tokens that is
        # One token more of another record, which has the rows of all tokens in front: a text that is stepped through
        # would repeat them at every step.
        self._is_step = header.first_step > 0 and count == 1
        more = captures.step_bytes(len(prompt_ids) + count) if captures else 0
        self._recorder = Recorder.start(vocabulary.size, len(header.sampling.active), count, more)
        self._drawn: tuple[int, Distribution | None] = (0, None)  # the steps on record then, what the last came from
        self._made = _Made(0, vocabulary.join(prompt_ids[len(prompt_ids) - header.first_step :]))
        # Re-entrant, for an interruption that comes before it is given back: the same thread may then go on.
        self._turn = threading.RLock()

    def __iter__(self) -> Iterator[Step]:
        while (step := self._alone(lambda: self.step if self.advance() else None)) is not None:
            yield step

    @property
    def step(self) -> Step:
        """The step that was made last."""
        record = self.record()
        place = len(self._prompt_ids) + len(record) - 1
        text, spelled = self._before
        self._before = (text + self._vocabulary.join(self._ids[spelled:place]), place)
        return step_of(record, len(record) - 1, self.last, self._before[0])

    @property
    def last(self) -> Distribution | None:
        """The distribution that the last token was drawn from; None where an interruption came before it was kept."""
        steps, drawn = self._drawn
        return drawn if steps == self._recorder.length else None

    def advance(self) -> bool:
        """Draw one more token; False when the run has ended.

        Raises ManakoError for logits that are not finite, UsageError while another thread makes a step.
        """
        return self._alone(self._advance)

    def _alone(self, work: Callable[[], Done]) -> Done:
        """What must not happen in two threads at once: both would draw one step, and write it over each other's."""
        if not self._turn.acquire(blocking=False):
            raise UsageError("generation_busy")
        try:
            return work()
        finally:
            self._turn.release()

    def _advance(self) -> bool:
        made = self._catch_up()
        if made.end is None and made.steps >= self._header.max_new_tokens:
            made = self._made = replace(made, end="length")
        if made.end is not None:
            return False
        index, seed = made.steps, self._header.seed
        assert seed is not None  # a generation always has one
        kept = None
        if self._captures:
            self._captures.forget_after(index)
            kept = self._captures.fresh(prompt=0 if index or self._is_step else len(self._ids))
        logits, window_start = self._session.next_logits(self._ids, kept)
        try:
            d = distribution(logits, self._header.sampling, self._ids)
        except ManakoError as error:
            if error.key != "logits_not_finite":
                raise
            layer = self._session.first_bad_layer(self._ids)
            raise ManakoError("logits_not_finite_at", step=index + 1, layer=layer) from None
        u = uniform(seed, self._header.first_step + index)
        token_id = draw(d, u).token_id
        if self._captures and kept is not None:
            if not index:
                self._captures.add_prompt(kept)
            shown = [token_id, *d.top(CONTRIBUTION_TOP).tolist()]
            self._captures.add(kept, 0, len(self._ids) - window_start, logits, shown)
        self._recorder.add(d, token_id, u, window_start)  # last: from here on the step counts
        self._drawn = (index + 1, d)
        self._catch_up()
        return True

    def _catch_up(self) -> _Made:
        """Take in the steps on record that are not yet: mostly the last one, or none."""
        prompt, taken = len(self._prompt_ids), self._recorder.columns["token_id"]
        while len(self._ids) < prompt + self._recorder.length:
            self._ids.append(int(taken[len(self._ids) - prompt]))
        while self._made.steps < self._recorder.length:
            self._made = self._after(self._made, self._ids[prompt + self._made.steps])
        return self._made

    def trace(self) -> Trace:
        """The record so far, with its self-checks. Where the run has not ended, its end reads "interrupted"."""
        trace = self.record()
        if not len(trace):
            return trace
        errors = {"probabilities_sum_to_1": self._recorder.worst_sum} | self._cache_error(trace.columns)
        dtype = trace.header.model.dtype
        checks = tuple(SelfCheck(name, error, check_limit(name, dtype)) for name, error in errors.items())
        header = replace(trace.header, self_checks=checks)
        if self._captures is None:
            return replace(trace, header=header)
        columns = replace(trace.columns, captured=self._captures.finish(len(trace)))
        return replace(trace, header=self._captures.entered(header), columns=columns)

    def _cache_error(self, columns: Columns) -> dict[str, float]:
        """The self-check of the cache: rows made with it, computed again with nothing kept. Empty where none was.

        Two of them, the last one and one in the middle: step 0 reads the prompt, and past the context every row is
        computed with nothing kept, so that comparing those would say nothing.
        """
        cached = np.flatnonzero(columns.window_start == 0)[1:].tolist() if columns.window_start[0] == 0 else []
        errors = list[float]()
        for step in sorted({cached[len(cached) // 2], cached[-1]} if cached else ()):
            before = [*self._prompt_ids, *columns.token_id[:step].tolist()]
            again, row = self._session.uncached_logits(before), columns.logits
            if columns.part is not None:
                again, row = again[columns.part["part_id"][step]], columns.part["part_logit"]
            assert row is not None  # a record has either whole rows or parts
            finite = np.isfinite(row[step])
            difference = np.abs(again[finite] - row[step][finite]).max()
            errors.append(float(difference / max(1.0, np.abs(row[step][finite]).max())))
        return {"cached_equals_uncached": float(np.max(errors))} if errors else {}

    def record(self) -> Trace:
        """The record so far, without its self-checks: cheap enough to ask for at every step.

        What was captured is read when somebody asks for it, also when the run has gone on since.
        """
        made, steps = self._made, self._recorder.length  # in this order, and each once: the run may go on meanwhile
        for token_id in self._recorder.columns["token_id"][made.steps : steps].tolist():
            made = self._after(made, token_id)
        more, captured = dict[str, Any](), None
        if self._captures and steps:
            more = {"capture": self._captures.wanted, "parts": self._captures.parts}
            captured = Captured(self._captures, steps)
        header = replace(self._header, end=made.end or "interrupted", **more)
        return Trace(header, self._recorder.finish(self._prompt_ids, steps, captured), self._vocabulary)

    def _after(self, made: _Made, token_id: int) -> _Made:
        """With one step more. A stop text that it completes may have begun in tokens before it.

        One that was complete before is passed over: a run may go on behind it.
        """
        stops, before = [s.encode() for s in self._header.stop], len(made.tail)
        text = made.tail + self._vocabulary.join([token_id])
        tail = text[-max(map(len, stops)) :] if stops else b""
        if token_id in self._end_ids:
            return _Made(made.steps + 1, tail, "document_end")
        stopped = any(stop in text[max(0, before + 1 - len(stop)) :] for stop in stops)
        return _Made(made.steps + 1, tail, "stop" if stopped else None)
