"""What the record of a training tells: the life of each token, milestones, and whether it agrees with itself.

Special here: a milestone is a step that is on record, so what happened between two snapshots counts at the later one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.analysis.ngrams import ORDERS
from manako.analysis.verification import Verification, verify
from manako.frozen import Frozen
from manako.trace.dynamics import SCORES, Dynamics, attention_starts, ids_on_record
from manako.trace.record import bytes_to_text
from manako.trace.schema import check_limit

GUESSES = ("uniform", *ORDERS[:2])
"""What `guess_bits` has, in this order."""


@dataclass(frozen=True, eq=False)
class TokenLife(Frozen):
    """One token of the text through the whole training."""

    id: int
    bytes: bytes
    text: str
    special: bool
    p: npt.NDArray[np.float64]
    """[Z] its probability at each snapshot."""
    first_place: int | None
    """After how many steps it became the likeliest and stayed so."""


@dataclass(frozen=True)
class Milestone:
    """A step at which something was so, and how much."""

    name: str
    step: int | None
    """None where it never was."""
    value: float


@dataclass(frozen=True)
class HeadLife:
    """The head that scores highest of its kind at any snapshot."""

    kind: str
    layer: int
    head: int
    step: int
    score: float
    chance: float


def lives(found: Dynamics) -> tuple[TokenLife, ...]:
    """Each token of the text."""
    p, vocabulary = found.p_model, found.vocabulary
    return tuple(
        TokenLife(i, vocabulary[i], bytes_to_text(vocabulary[i]), i in vocabulary.special_ids, p[:, n], first)
        for n, (i, first) in enumerate(zip(found.tokens, found.first_place, strict=True))
    )


def passed(found: Dynamics) -> tuple[Milestone, ...]:
    """From which snapshot on the model needs fewer bits a token of held-out text than each way of guessing."""
    if "ngrams" not in found.header.groups:
        return ()
    bits, guesses = found.columns["held_out_bits"], found.columns["guess_bits"].tolist()
    return tuple(Milestone(n, _from(found, bits < guess), guess) for n, guess in zip(GUESSES, guesses, strict=True))


def nearest(found: Dynamics) -> tuple[Milestone, ...]:
    """At which snapshot the model was nearest to the shares of each n-gram, and how many bits from them."""
    if "ngrams" not in found.header.groups:
        return ()
    distances = found.columns["ngram_kl"]  # [Z, G]
    places: list[int] = distances.argmin(axis=0).tolist()
    least: list[float] = distances.min(axis=0).tolist()
    return tuple(Milestone(n, found.steps[z], value) for n, z, value in zip(ORDERS, places, least, strict=True))


def strongest_heads(found: Dynamics) -> tuple[HeadLife, ...]:
    """Of each kind the head with the highest score."""
    if "heads" not in found.header.groups:
        return ()
    scores, chances = found.columns["head_score"], found.columns["head_chance"].tolist()  # [Z, L, H, 3]
    result = list[HeadLife]()
    for k, kind in enumerate(SCORES):
        z, layer, head = np.unravel_index(scores[..., k].argmax(), scores.shape[:3])
        score = float(scores[z, layer, head, k])
        result.append(HeadLife(kind, int(layer), int(head), found.steps[int(z)], score, chances[k]))
    return tuple(result)


@dataclass(frozen=True)
class DynamicsVerification:
    """What was found: columns that contradict others, and each continuation drawn again."""

    contradictions: tuple[str, ...]
    continuations: tuple[Verification, ...]

    @property
    def ok(self) -> bool:
        """Whether all of it holds."""
        return not self.contradictions and all(each.ok for each in self.continuations)


def verify_dynamics(found: Dynamics) -> DynamicsVerification:
    """Derive what follows from other numbers of the record, and draw every token of the continuations again."""
    wrong = [name for name, holds in _rules(found).items() if not holds]
    return DynamicsVerification(tuple(wrong), tuple(verify(trace) for trace in found.continuations))


def _rules(found: Dynamics) -> dict[str, bool]:
    """Column or field of the header -> whether it agrees with the others."""
    c, tokens = found.columns, len(found.tokens)
    top, logit = c["top_logit"].astype(np.float64), c["logit"].astype(np.float64)
    count, vocab = top.shape[2], found.vocabulary.size
    own = c["top_id"] == c["token_id"][:, None]  # [Z, S, K]
    place = np.where(own.any(axis=2), own.argmax(axis=2) + 1, 0)
    at_place = np.take_along_axis(top, np.maximum(place - 1, 0)[:, :, None], axis=2)[:, :, 0]
    listed_right = (place > 0) & (place == found.rank) & (at_place == logit)
    below_right = (place == 0) & (found.rank > count) & (logit <= top[..., -1])
    largest = top[..., :1]
    listed = np.exp(top - largest).sum(axis=2)
    least = largest[..., 0] + np.log(listed)
    most = largest[..., 0] + np.log(listed + (vocab - count) * np.exp(top[..., -1:] - largest)[..., 0])
    scale = np.maximum(1, np.abs(largest[..., 0]))
    limit = check_limit("lens_last_equals_logits", "float32")
    lens: npt.NDArray[Any] = np.abs(c["lens_logit"][..., -1] - largest[..., 0]) <= limit * scale
    lens &= np.abs(c["lens_logsumexp"][..., -1] - c["logsumexp"]) <= limit * scale
    near = (c["top_id"] == c["lens_id"][..., -1:]) & (largest - top <= limit * scale[..., None])  # computed apart
    rules = {
        "rank": bool((listed_right | below_right).all()),
        "top_logit": bool((np.diff(top, axis=2) <= 0).all()),
        "top_id": bool((np.diff(np.sort(c["top_id"], axis=2), axis=2) > 0).all()),
        "logsumexp": bool(((c["logsumexp"] >= least - 1e-9) & (c["logsumexp"] <= most + 1e-9)).all()),
        "lens_logit": bool(np.all(lens)) and bool((c["lens_logit"] <= c["lens_logsumexp"] + 1e-9).all()),
        "lens_id": bool(near.any(axis=2).all()),
        **_rules_of_traces(found),
    }
    if "heads" in found.header.groups:
        starts = attention_starts(len(c["prompt_ids"]), tokens, found.header.attention_step)[:-1]
        sums = np.add.reduceat(c["attention"], starts, axis=3, dtype=np.float64)
        error = np.abs(sums - 1).max()
        rules["attention"] = bool(error <= check_limit("attention_rows_sum_to_1", "float32"))
    return rules


def _rules_of_traces(found: Dynamics) -> dict[str, bool]:
    """What the continuations have too: each begins with the text, as its own trace proves it."""
    header, vocabulary, traces = found.header, found.vocabulary, found.continuations
    front, tokens, made = found.columns["prompt_ids"].tolist(), list(found.tokens), traces[0].header.model
    own: list[int] = traces[0].columns.prompt_ids.tolist()
    is_start = own == tokens and front == [made.config.get("start_id")]  # which a score has before the text
    begin, whole = (vocabulary.join(ids).decode("utf-8", "ignore") for ids in ([] if is_start else front, own))
    rewritten = any(t.header.prompt_rewritten for t in traces)
    named: list[int] = ids_on_record(found.columns).tolist()
    return {
        "weights_sha256": [t.header.model.weights_sha256 for t in traces] == list(header.weights_sha256),
        "model": all(value == _listed(getattr(made, name)) for name, value in header.model.items()),
        "vocab_size": all(t.vocabulary.size == vocabulary.size for t in traces),
        "special_ids": all(t.header.special_ids == header.special_ids for t in traces),
        "vocab_bytes": all(t.vocabulary[i] in (b"", vocabulary[i]) for t in traces for i in named),
        "token_id": (is_start or own == [*front, *tokens])
        and all(t.columns.prompt_ids.tolist() == own for t in traces),
        "text": all(t.header.prompt == header.text for t in traces) and (rewritten or whole == header.text),
        "characters": rewritten or header.characters == max(1, len(whole) - len(begin)),
        "seed": len({t.header.seed for t in traces}) == 1,
    }


def _listed(value: Any) -> Any:
    return [*value] if type(value) is tuple else value  # as JSON has them


def _from(found: Dynamics, holds: npt.NDArray[np.bool_]) -> int | None:
    """The step from which on something holds to the end."""
    if not holds[-1]:
        return None
    return found.steps[len(holds) - int(np.argmin(holds[::-1])) if not holds.all() else 0]
