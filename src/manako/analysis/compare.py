"""The same prompt under several temperatures: one step side by side, and where the continuations part.

Special here: all runs have the same luck, `u` at step t being the same number in each, so whatever differs is due to
the temperature alone. Up to the step where they part, all runs have the same text before them and are comparable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from manako.errors import UsageError
from manako.trace import Step, Trace


class Traceable(Protocol):
    """What a model must be able to do."""

    def trace(self, prompt: str, **settings: Any) -> Trace:
        """Generate and record."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Runs of one prompt with one seed, a temperature each."""

    temperatures: tuple[float, ...]
    traces: tuple[Trace, ...]

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


def compare(
    model: Traceable, prompt: str, *, temperatures: Sequence[float] = (0.3, 0.8, 1.2), seed: int = 0, **settings: Any
) -> Comparison:
    """Run one prompt under each temperature with the same draws. Settings as for `Model.generate`.

    Raises UsageError when a temperature makes no sense or fewer than two are given.
    """
    if len(temperatures) < 2:
        raise UsageError("compare_count", got=len(temperatures))
    traces = tuple(model.trace(prompt, temperature=t, seed=seed, **settings) for t in temperatures)
    return Comparison(tuple(float(t) for t in temperatures), traces)
