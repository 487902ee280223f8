"""What one step of training did: to each token of a text, and with each part of the model.

Special here: two answers to one question stand beside each other. The change of the text was measured, before and after
the step; what each part had to do with it is the gradient's answer, to first order. Their difference is what a straight
line misses: it vanishes at a small rate, and no part can be told to have caused it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PartKind = Literal["embedding", "position", "attn", "mlp", "final_norm", "head"]


@dataclass(frozen=True)
class PartMoved:
    """A part of the model: embedding, position, attention or MLP of a layer each with its norm, final norm, head."""

    kind: PartKind
    layer: int | None
    norm: float
    """Length of all its weights, before the step."""
    distance: float
    """Length of the way that they went."""
    predicted: float
    """What that changes in bits of the text, as the gradient says."""

    @property
    def relative(self) -> float:
        """The way as a share of the length before; 0 where it had none."""
        return self.distance / self.norm if self.norm else 0.0


@dataclass(frozen=True)
class TokenChange:
    """A token of the text, in bits."""

    id: int
    bytes: bytes
    text: str
    special: bool
    before: float
    after: float

    @property
    def change(self) -> float:
        """Below 0 where the model has come to expect it more."""
        return self.after - self.before


@dataclass(frozen=True)
class TrainingStep:
    """One optimizer step of a run, and a text on both sides of it."""

    run: str
    step: int
    """Steps of the run before it."""
    read: str | None
    """The sentence that was its batch; None for the next batch of the run."""
    read_tokens: int
    loss: float
    """Of the batch before the step, in nats a token."""
    gradient_norm: float
    """Of the batch, before clipping."""
    learning_rate: float
    """Of AdamW."""
    muon_rate: float | None
    """Of Muon; None where AdamW moved everything."""
    rate_from: Literal["schedule", "peak", "given"]
    """Whose rate it was: of the run's schedule, the peak of a run that is over, or a given one."""
    text: str
    tokens: tuple[TokenChange, ...]
    parts: tuple[PartMoved, ...]
    """From the embedding up."""

    @property
    def before(self) -> float:
        """Bits of the whole text."""
        return sum(token.before for token in self.tokens)

    @property
    def after(self) -> float:
        """Bits of the whole text."""
        return sum(token.after for token in self.tokens)

    @property
    def change(self) -> float:
        """As it was measured."""
        return sum(token.change for token in self.tokens)

    @property
    def predicted(self) -> float:
        """As the gradient says: the sum over the parts."""
        return sum(part.predicted for part in self.parts)

    @property
    def error(self) -> float | None:
        """How far the prediction is off, as a share of the change; None where nothing changed."""
        return abs(self.predicted - self.change) / abs(self.change) if self.change else None


def part_of(weight: str) -> tuple[PartKind, int | None]:
    """(what a weight belongs to, in which layer), by GPT-2's name of it.

    >>> part_of("wpe.weight"), part_of("h.3.ln_2.bias"), part_of("h.3.attn.c_proj.weight")
    (('position', None), ('mlp', 3), ('attn', 3))
    """
    name, *rest = weight.split(".")
    outside: dict[str, PartKind] = {
        "wte": "embedding",
        "wpe": "position",
        "ln_f": "final_norm",
        "lm_head": "head",
    }
    return (
        (outside[name], None) if name in outside else ("attn" if rest[1] in ("ln_1", "attn") else "mlp", int(rest[0]))
    )


def together(weights: Iterable[tuple[str, float, float, float]]) -> tuple[PartMoved, ...]:
    """Parts from (name, norm, distance, predicted) of each weight, in the order in which they first come."""
    found: dict[tuple[PartKind, int | None], tuple[float, float, float]] = {}
    for name, norm, distance, predicted in weights:
        part = part_of(name)
        n, d, p = found.get(part, (0.0, 0.0, 0.0))
        found[part] = n + norm**2, d + distance**2, p + predicted
    return tuple(PartMoved(*part, n**0.5, d**0.5, p) for part, (n, d, p) in found.items())
