"""The same prompt several times: under several temperatures, or with parts of the model switched off.

Special here: all runs have the same random number `u` at step t, so every difference is due to the temperature or the
ablated part alone. Up to the step where they diverge, all runs have the same text before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from manako.errors import UsageError
from manako.settings import COMPARED, RunSettings
from manako.trace.record import Step, Trace


class Traceable(Protocol):
    """What a model must be able to do."""

    def trace(self, prompt: str, settings: RunSettings) -> Trace:
        """Generate and record."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Runs of one prompt with one seed; they differ in temperature, or in what was switched off."""

    traces: tuple[Trace, ...]

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of each run."""
        return tuple(trace.header.sampling.temperature for trace in self.traces)

    @property
    def ablations(self) -> tuple[tuple[str, ...], ...]:
        """What each run was made without."""
        return tuple(trace.header.ablate for trace in self.traces)

    @property
    def diverged_at(self) -> int | None:
        """The first step, counted from 0, at which not all runs took the same token; None where they never part."""
        for i in range(min(len(t) for t in self.traces)):
            if len({int(t.columns.token_id[i]) for t in self.traces}) > 1:
                return i
        return None

    def steps(self, index: int) -> tuple[Step, ...]:
        """One step under each temperature, all with the same text before it.

        Raises UsageError for a step that does not exist or lies behind the one where the runs part.
        """
        last = self.diverged_at if self.diverged_at is not None else len(self.traces[0]) - 1
        if not 0 <= index <= last:
            raise UsageError("compare_step", got=index + 1, last=last + 1)
        return tuple(t.steps[index] for t in self.traces)


def runs(
    settings: RunSettings, temperatures: Sequence[float], ablations: Sequence[Sequence[str]] = ()
) -> list[RunSettings]:
    """The settings of each run: one a temperature, or, where parts are switched off, the untouched model first.

    Raises UsageError where there is nothing to compare.
    """
    if ablations:
        return [settings.changed(ablate=off) for off in ((), *ablations)]
    if len(temperatures) < 2:
        raise UsageError("compare_count", got=len(temperatures))
    return [settings.changed(temperature=t) for t in temperatures]


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
    the untouched model stands in front. Raises UsageError when one makes no sense or there is nothing to compare.
    """
    settings = RunSettings(seed=seed).changed(**changes)
    return Comparison(tuple(model.trace(prompt, each) for each in runs(settings, temperatures, ablations)))
