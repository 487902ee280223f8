"""Why a token: what each part of the model added to its logit, alone or rather than to another token's.

Special here: nothing is left out, so the parts sum to the logit, and what is missing to it is a number of the record. A
part may raise all tokens alike, which changes no probability; so parts are ordered by how much more they added than, on
average, to all tokens of the vocabulary. That is the centred unembedding of TransformerLens. The difference of two
tokens is free of what both get.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from manako.errors import UsageError
from manako.frozen import Frozen
from manako.messages.unseen import UNSEEN
from manako.trace.captures import logit_scale
from manako.trace.record import Candidate, Step, Trace
from manako.trace.schema import check_limit

Kind = Literal["embedding", "head", "mlp", "bias"]
Scope = tuple[int, ...]  # () for the whole model, (layer,), or (layer, head)
KINDS: tuple[Kind, ...] = ("embedding", "head", "mlp", "bias")
_DECIMALS = 4  # float32 gives no more of a logit: parts in order must not depend on the machine
_EMBEDDINGS = ("embed", "pos_embed")
_FORM = re.compile(r"head:(\d{1,4})\.(\d{1,4})|(mlp|attn_bias):(\d{1,4})", re.ASCII)


@dataclass(frozen=True)
class Part:
    """What one part of the model added."""

    name: str
    """embed, pos_embed, head:L.H, attn_bias:L, mlp:L, final_bias; heads and MLPs as `--ablate` takes them."""
    kind: Kind
    layer: int | None
    head: int | None
    value: float
    """To the raw logit."""
    over_mean: float | None
    """How much more than it added, on average, to all tokens of the vocabulary: what moved the probability. None where
    two tokens are compared, and in a record of an older version."""

    @property
    def effect(self) -> float:
        """What it is ordered and drawn by."""
        return self.value if self.over_mean is None else self.over_mean


@dataclass(frozen=True)
class Rest:
    """All parts that a list leaves out, together."""

    count: int
    value: float
    over_mean: float | None


@dataclass(frozen=True)
class LayerSum:
    """What moved the probability in one layer, as `Part.effect` counts it."""

    layer: int
    attention: float | None
    """All its heads; None in a model without attention. Its bias is a part of its own."""
    mlp: float | None


@dataclass(frozen=True)
class Why:
    """The logit of one token taken apart, or the difference of two."""

    token: Candidate
    rival: Candidate | None
    """The token that was compared with: A rather than B."""
    parts: tuple[Part, ...]
    """In the order of the residual stream."""
    allowed: float
    """How much may be missing to the logit for rounding, as the self-check has it."""

    @property
    def logit(self) -> float:
        """What the model gave the token, less what it gave the rival."""
        return self.token.logit - (self.rival.logit if self.rival else 0.0)

    @property
    def total(self) -> float:
        """What the parts add up to."""
        return sum(part.value for part in self.parts)

    @property
    def remainder(self) -> float:
        """What is missing to the logit: rounding, where the record is true."""
        return self.logit - self.total

    @property
    def groups(self) -> dict[Kind, float]:
        """The sum of each kind of part."""
        return {kind: sum(part.value for part in self.parts if part.kind == kind) for kind in KINDS}

    @property
    def layers(self) -> tuple[LayerSum, ...]:
        """The effect of each layer's heads and of its MLP."""
        numbers = sorted({part.layer for part in self.parts if part.layer is not None})
        return tuple(LayerSum(i, self._sum("head", i), self._sum("mlp", i)) for i in numbers)

    @property
    def switchable(self) -> Part | None:
        """The head or MLP that moved it most, up or down: one that `--ablate` switches off."""
        parts = (part for part in self.parts if part.kind in ("head", "mlp"))
        return max(parts, key=lambda part: abs(round(part.effect, _DECIMALS)), default=None)

    @property
    def ordered(self) -> list[Part]:
        """From what raised it most to what lowered it most; what differs by less than it is true to stays in order."""
        return _ordered(self.parts)

    @property
    def heads(self) -> int:
        """Of a layer; 0 in a model without attention."""
        return 1 + max((part.head for part in self.parts if part.head is not None), default=-1)

    def strongest(self, n: int, scope: Scope = ()) -> tuple[list[Part], Rest]:
        """The n parts of a scope that moved it most, from what raised it most to what lowered it most; all others."""
        inside = [part for part in self.parts if (part.layer, part.head)[: len(scope)] == scope]
        by_size = sorted(inside, key=lambda part: -abs(round(part.effect, _DECIMALS)))
        first, rest = by_size[:n], by_size[n:] + [part for part in self.parts if part not in inside]
        over = [part.over_mean for part in rest if part.over_mean is not None]
        together = Rest(len(rest), sum(part.value for part in rest), sum(over) if len(over) == len(rest) else None)
        return _ordered(first), together

    def _sum(self, kind: Kind, layer: int) -> float | None:
        values = [part.effect for part in self.parts if (part.kind, part.layer) == (kind, layer)]
        return sum(values) if values else None


@dataclass(frozen=True, eq=False)
class Contributed(Frozen):
    """All that is on record of one step: every part's contribution to the chosen token and the first candidates."""

    step: Step
    tokens: tuple[Candidate, ...]
    """[M] the chosen token, then the first candidates of the draw."""
    names: tuple[str, ...]
    """[N] of the parts."""
    value: npt.NDArray[np.float64]
    """[N, M]"""
    mean: npt.NDArray[np.float64] | None
    """[N] over the whole vocabulary."""
    allowed: npt.NDArray[np.float64]
    """[M] how much may be missing to each logit for rounding."""

    def why(self, token: Candidate, rival: Candidate | None = None) -> Why:
        """The logit of one of `tokens` taken apart, or how it differs from another one's. Raises UsageError for one."""
        places = {c.id: n for n, c in enumerate(self.tokens)}
        values = self.value[:, places[token.id]]  # [N]
        over: Sequence[float | None] = [None] * len(values)
        allowed = self.allowed[places[token.id]]
        if rival is not None:
            if rival.id == token.id:
                raise UsageError("why_same_token", got=self.spelling(token))
            values, allowed = values - self.value[:, places[rival.id]], allowed + self.allowed[places[rival.id]]
        elif self.mean is not None:
            over = (values - self.mean).tolist()
        named = zip(self.names, values.tolist(), over, strict=True)
        return Why(token, rival, tuple(_part(name, value, more) for name, value, more in named), float(allowed))

    def next_best(self, token: Candidate) -> Candidate | None:
        """The likeliest token on record beside this one."""
        return min((c for c in self.tokens if c.id != token.id), key=lambda c: c.rank, default=None)

    def find(self, named: str) -> Candidate:
        """A token on record by its text, or by id:NNN. Raises UsageError listing those that are."""
        number = re.fullmatch(r"id:(\d{1,9})", named, re.ASCII)
        found = [c for c in self.tokens if (c.id == int(number[1]) if number else c.text == named)]
        if len(found) != 1:
            raise UsageError("why_token", got=named, known=", ".join(map(self.spelling, self.tokens)))
        return found[0]

    def spelling(self, token: Candidate) -> str:
        """What `find` knows a token by: its text where one can type it and no other token on record reads the same."""
        text = token.text
        alone = sum(c.text == text for c in self.tokens) == 1 and not token.special
        seen = text.strip() == text and text.isprintable() and not UNSEEN.search(text)
        plain = seen and not text.startswith("id:") and "," not in text
        return text if text and alone and plain else f"id:{token.id}"


def contributions(trace: Trace, index: int) -> Contributed:
    """What is on record of one step, counted from 0. Raises CapabilityError where nothing is."""
    found, step = trace.contributions, trace.steps[index]
    places = dict(_known(step, found.id[index].tolist()))
    value = found.value[index][:, list(places.values())].astype(np.float64)  # [N, M]
    tokens = tuple(step.chosen if i == step.token_id else _listed(step, i) for i in places)
    mean = None if found.mean is None else found.mean[index].astype(np.float64)
    allowed = logit_scale(np.array([token.logit for token in tokens]))
    allowed *= check_limit("contributions_sum_to_logit", trace.header.model.dtype)
    return Contributed(step, tokens, found.parts, value, mean, allowed)


def _known(step: Step, ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(id, its first place) of each token whose logit is on record too; the chosen one is often listed twice."""
    seen = set[int]()
    listed = {step.token_id, *step.listed.id.tolist()}
    for place, i in enumerate(ids):
        if i in listed and i not in seen:
            seen.add(i)
            yield i, place


def _listed(step: Step, token_id: int) -> Candidate:
    return step.candidates[int(np.flatnonzero(step.listed.id == token_id)[0])]


def _ordered(parts: Sequence[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: -round(part.effect, _DECIMALS))


def _part(name: str, value: float, over_mean: float | None) -> Part:
    """Whatever is no embedding, head or MLP is a bias: what it adds depends on no token of the text."""
    form = _FORM.fullmatch(name)
    if form is None:
        return Part(name, "embedding" if name in _EMBEDDINGS else "bias", None, None, value, over_mean)
    layer, head, other, its_layer = form.groups()
    if head is not None:
        return Part(name, "head", int(layer), int(head), value, over_mean)
    return Part(name, "mlp" if other == "mlp" else "bias", int(its_layer), None, value, over_mean)
