"""One text under two models, aligned by its characters: how many bits each needs for each stretch of it.

Special here: their tokens differ, so what compares is what lies between two borders that both have, which is whole
characters. The surprisal of a token belongs to all of it; only the tint of a page spreads it over its characters.
"""

from dataclasses import dataclass
from itertools import pairwise

from manako.errors import UsageError
from manako.sampling import surprisal
from manako.trace.record import Trace


@dataclass(frozen=True)
class ScoredToken:
    """A token in its place, in bytes of the text."""

    start: int
    end: int
    bits: float | None
    """Its surprisal; None where it is context alone."""


@dataclass(frozen=True)
class Stretch:
    """A part of the text between two borders that both models have, and what each needs for it."""

    text: str
    tokens: tuple[int, int]
    bits: tuple[float, float]

    @property
    def difference(self) -> float:
        """Bits of the second model more than of the first."""
        return self.bits[1] - self.bits[0]


@dataclass(frozen=True)
class Aligned:
    """A text under two models."""

    refs: tuple[str, str]
    given: str
    """What stands before the first stretch: context alone, for one of them at least."""
    stretches: tuple[Stretch, ...]

    @property
    def characters(self) -> int:
        """Of all stretches."""
        return sum(len(stretch.text) for stretch in self.stretches)

    def tokens(self, model: int) -> int:
        """Of a model, in all stretches."""
        return sum(stretch.tokens[model] for stretch in self.stretches)

    def bits(self, model: int) -> float:
        """Surprisal of all stretches."""
        return sum(stretch.bits[model] for stretch in self.stretches)

    def bits_per_character(self, model: int) -> float:
        """The figure that no tokenizer changes."""
        return self.bits(model) / self.characters


def aligned(given: str, one: Trace, other: Trace) -> Aligned:
    """Two scores of a given text. Raises UsageError where a tokenizer read another one, or nothing is left of it."""
    text = given.encode("utf-8")
    for trace in (one, other):
        if trace.vocabulary.join(trace.all_ids) != text:
            raise UsageError("aligned_other_text", ref=trace.header.model.ref)
    sides = [scored_tokens(trace) for trace in (one, other)]
    begin = max(next(token.start for token in tokens if token.bits is not None) for tokens in sides)
    first, second = ({0, *(token.end for token in tokens)} for tokens in sides)
    borders = sorted(at for at in first & second if at >= begin and (at == len(text) or not 0x80 <= text[at] < 0xC0))
    if len(borders) < 2:
        raise UsageError("score_too_short")
    places = [{token.start: n for n, token in enumerate(tokens)} for tokens in sides]  # each border but the last
    found = list[Stretch]()
    for start, end in pairwise(borders):
        inside = [
            [token.bits or 0.0 for token in tokens[place[start] : place.get(end)]]
            for tokens, place in zip(sides, places, strict=True)
        ]
        counts, bits = (len(inside[0]), len(inside[1])), (sum(inside[0]), sum(inside[1]))
        found.append(Stretch(text[start:end].decode("utf-8"), counts, bits))
    refs = (one.header.model.ref, other.header.model.ref)
    return Aligned(refs, text[: borders[0]].decode("utf-8"), tuple(found))


def scored_tokens(trace: Trace) -> list[ScoredToken]:
    """The tokens of a scored text with their surprisal, in order; what stands before the text is none of it."""
    context, p_model = len(trace.columns.prompt_ids), trace.columns.p_model.tolist()
    found, at = list[ScoredToken](), 0
    for n, spelled in enumerate(trace.vocabulary.spelled(trace.all_ids)):
        if spelled:
            bits = None if n < context else surprisal(p_model[n - context])
            found.append(ScoredToken(at, at + len(spelled), bits))
            at += len(spelled)
    return found
