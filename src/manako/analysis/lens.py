"""One step through the logit lens: what each layer would have said, and where the token that was taken comes up.

Special here: the rows are embed, 0, 1 ... n-1, as the names of weights count, though the column in the record counts
the embedding as 0. Tokens are followed by id, never by text: two tokens may read alike (davidbau/logitlenskit keys its
rows by string). Every p runs over the whole vocabulary and is the model's own, before the chain.
"""

from dataclasses import dataclass

from manako.trace.captures import LENS_TOP
from manako.trace.record import Step, Trace, Vocabulary, bytes_to_text

EMBED = "embed"
FIRST = LENS_TOP  # a token appears where it is among this many


@dataclass(frozen=True)
class LensToken:
    """A token as one layer has it."""

    id: int
    bytes: bytes
    text: str
    special: bool
    p: float
    """Over the whole vocabulary."""
    rank: int
    """Counted from 1."""


@dataclass(frozen=True)
class LensStep:
    """One step, layer by layer."""

    step: Step
    layers: tuple[str, ...]
    """[L+1] embed, then the number of each layer, counted from 0."""
    first: tuple[tuple[LensToken, ...], ...]
    """[L+1][10] the likeliest tokens of each layer, best first."""
    tracked: tuple[tuple[LensToken, ...], ...]
    """[T][L+1] the chosen token, then every other one that was first at a layer, each at all layers."""

    @property
    def chosen(self) -> tuple[LensToken, ...]:
        """[L+1] the token that was taken."""
        return self.tracked[0]

    @property
    def appears(self) -> int | None:
        """The first layer, as a place in `layers`, that has the chosen token among its first ten; None for none."""
        return next((i for i, reading in enumerate(self.chosen) if reading.rank <= FIRST), None)

    @property
    def wins(self) -> int | None:
        """The layer, as a place in `layers`, from which to the end no token is likelier than the chosen one."""
        behind = [i for i, reading in enumerate(self.chosen) if reading.rank > 1]
        after = behind[-1] + 1 if behind else 0
        return after if after < len(self.layers) else None


def lens(trace: Trace, index: int) -> LensStep:
    """The lens of one step, counted from 0. Raises CapabilityError where it is not on record."""
    found, vocabulary = trace.lens, trace.vocabulary
    ids, p = found.id[index].tolist(), found.p(index).tolist()  # [L+1, 10]
    tracked: list[int] = found.tracked_id[index].tolist()
    tracked_p, ranks = found.tracked_p(index), found.tracked_rank[index]  # [L+1, T]
    place = {i: n for n, i in reversed(list(enumerate(tracked)))}  # several layers often agree: each token once
    return LensStep(
        step=trace.steps[index],
        layers=(EMBED, *map(str, range(len(ids) - 1))),
        first=tuple(
            tuple(_reading(vocabulary, i, each, n) for n, (i, each) in enumerate(zip(*layer, strict=True), 1))
            for layer in zip(ids, p, strict=True)
        ),
        tracked=tuple(
            tuple(
                _reading(vocabulary, tracked[n], float(each), int(rank))
                for each, rank in zip(tracked_p[:, n], ranks[:, n], strict=True)
            )
            for n in sorted(place.values())
        ),
    )


def _reading(vocabulary: Vocabulary, token_id: int, p: float, rank: int) -> LensToken:
    data = vocabulary[token_id]
    return LensToken(token_id, data, bytes_to_text(data), token_id in vocabulary.special_ids, p, rank)
