"""The same prompt several times: with other settings, other seeds, other models, or parts of a model switched off.

Special here: runs of one seed have the same random number `u` at step t, so their differences are due to what was
changed alone. Runs whose tokenizers differ are aligned by the bytes of their text, all others by their tokens. A token
that is no text, such as a special one, is one more symbol there: it is a choice, and a step that must have its place.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from manako.errors import UsageError
from manako.sampling import listed
from manako.settings import COMPARED, RunSettings
from manako.trace.record import Step, Trace


class Traceable(Protocol):
    """What a model must be able to do."""

    def trace(self, prompt: str, settings: RunSettings) -> Trace:
        """Generate and record."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Runs of one prompt; they differ in whatever their headers say."""

    traces: tuple[Trace, ...]

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of each run."""
        return tuple(trace.header.sampling.temperature for trace in self.traces)

    @property
    def ablations(self) -> tuple[tuple[str, ...], ...]:
        """What each run was made without."""
        return tuple(trace.header.ablate for trace in self.traces)

    @cached_property
    def same_tokens(self) -> bool:
        """Whether all runs have one tokenizer, so that their tokens can be compared by id."""
        return len({trace.header.model.tokenizer_sha256 for trace in self.traces}) == 1

    @cached_property
    def _spelled(self) -> list[list[list[int]]]:
        """What each run generated, token by token: its id, or its bytes; of one that is no text a symbol above them."""
        if self.same_tokens:
            return [[[i] for i in trace.columns.token_id.tolist()] for trace in self.traces]
        symbols = dict[bytes | None, int]()
        return [[_spell(piece, name, symbols) for piece, name in _pieces(trace)] for trace in self.traces]

    @cached_property
    def _starts(self) -> list[list[int]]:
        """Of each run: where each of its steps begins in what was generated, in tokens or bytes, and where it ends."""
        return [[0, *itertools.accumulate(map(len, spelled))] for spelled in self._spelled]

    @cached_property
    def _made(self) -> list[Any]:
        """What each run generated: its ids, or its bytes."""
        return [np.array([*itertools.chain(*spelled)], dtype=np.int64) for spelled in self._spelled]

    def common(self, a: int, b: int) -> int | None:
        """How far two runs agree, in tokens or bytes; None where neither says anything that the other does not."""
        one, other = self._made[a], self._made[b]
        size = min(len(one), len(other))
        parted = np.flatnonzero(one[:size] != other[:size])
        return int(parted[0]) if len(parted) else None

    def parts(self, run: int, other: int) -> int | None:
        """The step of `run`, counted from 0, at which it leaves the other one; None where they never part."""
        common = self.common(run, other)
        return None if common is None else int(np.searchsorted(self._starts[run], common, side="right")) - 1

    def nearest(self, run: int, among: Sequence[int]) -> int:
        """The run that this one agrees with longest; the first of those that are alike. Itself among none."""

        def length(other: int) -> float:
            common = self.common(run, other)
            return float("inf") if common is None else common

        return max(among, key=length, default=run)

    @property
    def diverged_at(self) -> int | None:
        """The step of the first run, counted from 0, at which not all runs chose the same; None where they never part.

        Where tokenizers differ, the last one before it at which a token of every run begins.
        """
        found = [common for other in range(1, len(self.traces)) if (common := self.common(0, other)) is not None]
        if not found:
            return None
        shared = set(self._starts[0]).intersection(*map(set, self._starts[1:]))
        last = max(start for start in shared if start <= min(found))
        return self._starts[0].index(last)

    def at(self, index: int) -> list[tuple[int, Step]]:
        """(run, step): step `index` of the first run, and of each other one the step that follows the same text."""
        place, first = self._starts[0][range(len(self.traces[0]))[index]], self._made[0]
        found: list[tuple[int, Step]] = []
        for run, (trace, starts, made) in enumerate(zip(self.traces, self._starts, self._made, strict=True)):
            if place in starts[:-1] and np.array_equal(made[:place], first[:place]):
                found.append((run, trace.steps[starts.index(place)]))
        return found

    def steps(self, index: int) -> tuple[Step, ...]:
        """One step of every run, all with the same text before it.

        Raises UsageError for a step that does not exist or comes after the one where the runs part.
        """
        last = self.diverged_at if self.diverged_at is not None else len(self.traces[0]) - 1
        if not 0 <= index <= last:
            raise UsageError("compare_step", got=index + 1, last=last + 1)
        return tuple(step for _, step in self.at(index))

    def rows(self) -> Iterator[list[int | None]]:
        """For each place at which some run has a step: the step of each run there, None where it has none."""
        places = [{start: n for n, start in enumerate(starts[:-1])} for starts in self._starts]
        for place in sorted({place for steps in places for place in steps}):
            yield [steps.get(place) for steps in places]


def _pieces(trace: Trace) -> Iterator[tuple[bytes, bytes | None]]:
    """Of each step its text, and what tells it from others without one: its name, None for the end of the document."""
    ids = trace.columns.token_id.tolist()
    ends = len(ids) - 1 if trace.header.end == "document_end" else None  # models call that token by many names
    for n, (token_id, text) in enumerate(zip(ids, trace.vocabulary.spelled(ids), strict=True)):
        yield text, None if n == ends else trace.vocabulary[token_id]


def _spell(text: bytes, name: bytes | None, symbols: dict[bytes | None, int]) -> list[int]:
    return list(text) or [256 + symbols.setdefault(name, len(symbols))]


def runs(
    settings: RunSettings, varied: Mapping[str, Sequence[Any]], ablations: Sequence[Sequence[str]] = ()
) -> list[RunSettings]:
    """The settings of each run: every combination of the varied ones; without parts, the untouched model first."""
    varied = {**varied, **({"ablate": [(), *ablations]} if ablations else {})}
    return [settings.changed(**dict(zip(varied, each, strict=True))) for each in itertools.product(*varied.values())]


def compare(
    model: Traceable,
    prompt: str,
    *,
    temperatures: Sequence[float] = COMPARED,
    ablations: Sequence[Sequence[str]] = (),
    seed: int = 0,
    **changes: Any,
) -> Comparison:
    """Run one prompt several times with the same draws. Settings as for `Model.generate`.

    temperatures: one a run. ablations: instead of them, the parts to switch off in each run, such as [["head:3.5"]];
    the untouched model comes first. Raises UsageError when one makes no sense or there is nothing to compare.
    """
    settings = RunSettings(seed=seed).changed(**changes)
    each, parts = listed(temperatures), listed(ablations)
    if not parts and len(each) < 2:
        raise UsageError("compare_count", got=len(each))
    several = runs(settings, {} if parts else {"temperature": each}, parts)
    return Comparison(tuple(model.trace(prompt, each) for each in several))
