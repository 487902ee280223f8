"""What a reader adds to playing: where it stops by itself, and guesses with their score."""

import re
from dataclasses import dataclass, field
from math import log2

from manako.errors import UsageError
from manako.trace.record import Candidate, Step

_FORM = re.compile(r"(entropy|rank) *(?:>=?|=)? *(\d+(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True)
class Stop:
    """Where playing stops: at a choice this open, a drawn token of this rank or a later one, or one with this text."""

    entropy: float | None = None
    rank: float | None = None
    text: str | None = None

    @classmethod
    def parse(cls, said: str) -> "Stop | None":
        """What somebody typed; None for nothing. A \\n stands for a new line. Raises UsageError for half a condition.

        >>> Stop.parse("entropy 3"), Stop.parse("rank >= 5").rank, Stop.parse("。").text
        (Stop(entropy=3.0, rank=None, text=None), 5.0, '。')
        """
        said = said.strip()
        if not said:
            return None
        if found := _FORM.fullmatch(said.lower()):
            least = float(found[2])
            return cls(entropy=least) if found[1] == "entropy" else cls(rank=least)
        if said.lower() in ("entropy", "rank"):
            raise UsageError("step_stop", got=said)
        return cls(text=said.replace("\\n", "\n"))

    def met(self, step: Step) -> bool:
        """Whether it stops before this choice."""
        return bool(
            (self.entropy is not None and step.entropy >= self.entropy)
            or (self.rank is not None and step.chosen.rank >= self.rank)
            or (self.text is not None and self.text in step.chosen.text)
        )


@dataclass
class Guesses:
    """A reader's guesses. A guess costs -log2 of its probability in the draw: few bits for what the model expects."""

    right: int = 0
    bits: list[float] = field(default_factory=list[float])
    drawn_bits: list[float] = field(default_factory=list[float])
    """The same of the tokens that were drawn."""
    guess: Candidate | None = None
    """At the place that is shown, once it is made."""

    def make(self, guess: Candidate, drawn: Candidate) -> None:
        """One more."""
        self.guess = guess
        self.right += guess.id == drawn.id
        self.bits.append(-log2(guess.p))
        self.drawn_bits.append(-log2(drawn.p))

    @property
    def mean(self) -> tuple[float, float]:
        """Bits of a guess, and of a drawn token."""
        n = max(1, len(self.bits))
        return sum(self.bits) / n, sum(self.drawn_bits) / n
