"""A run at a glance: one line of numbers for each step, and what they come to.

Special here: cheap enough to follow a generation. Probability and rank are read from their columns (`manako verify`
derives them again); entropy alone asks for the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from manako.sampling import Distribution, surprisal
from manako.trace.record import Trace, bytes_to_text, derive


@dataclass(frozen=True)
class Brief:
    """One step without its candidates."""

    index: int
    """Counted from 0."""
    id: int
    bytes: bytes
    text: str
    special: bool
    p: float
    """The chosen token's probability in the draw."""
    p_model: float
    """The same by the model alone."""
    rank: int
    entropy: float
    """Of the draw, in bits."""

    @property
    def surprisal(self) -> float:
        """-log2 p_model in bits; infinite where that is 0."""
        return surprisal(self.p_model)


@dataclass(frozen=True)
class Summary:
    """What the steps of a run come to. Raises ValueError for none."""

    tokens: int
    bits: float
    """All surprisals together."""
    mean_rank: float
    hesitated: Brief
    """The step with the highest entropy."""
    surprised: Brief
    """The step with the highest surprisal."""

    @classmethod
    def of(cls, steps: Sequence[Brief]) -> "Summary":
        """Of one step or more; the first one where several are alike."""
        return cls(
            tokens=len(steps),
            bits=sum(step.surprisal for step in steps),
            mean_rank=sum(step.rank for step in steps) / len(steps),
            hesitated=max(steps, key=lambda step: step.entropy),
            surprised=max(steps, key=lambda step: step.surprisal),
        )


def brief(trace: Trace, index: int, known: Distribution | None = None) -> Brief:
    """One step at a glance. `known` saves the work where the row's distribution has just been computed."""
    columns, part, index = trace.columns, trace.columns.part, range(len(trace))[index]
    token = int(columns.token_id[index])
    data = trace.vocabulary[token]
    return Brief(
        index=index,
        id=token,
        bytes=data,
        text=bytes_to_text(data),
        special=token in trace.vocabulary.special_ids,
        p=float(columns.p[index]),
        p_model=float(columns.p_model[index]),
        rank=int(columns.rank[index]),
        entropy=float(part["entropy"][index]) if part is not None else (known or derive(trace, index)).entropy,
    )
