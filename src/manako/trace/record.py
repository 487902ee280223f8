"""The record of a run: which tokens a model could have chosen, with what probability, what was drawn, and why.

Special here: ids and bytes instead of text. For vocabularies up to 16,384 the whole row of logits of every step is on
record, so every number a view shows is derived here, by the very functions that drew the token; nothing is stored
twice. For larger ones the 256 first candidates are, with the exact rest. What was seen inside the model, where somebody
asked for it, is described in captures.py; file.py is the record's file, schema.json what that may hold.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from manako.errors import CapabilityError, ManakoError
from manako.frozen import Frozen, sealed
from manako.sampling import Distribution, Sampling, StageResult, distribution, surprisal
from manako.trace.captures import CLASSES, Attention, Capture, Contributions, Lens, Residual
from manako.trace.model_name import model_name

if TYPE_CHECKING:
    from manako.analysis.attention import StepAttention
    from manako.analysis.contributions import Why
    from manako.analysis.lens import LensStep

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]
Kind = TypeVar("Kind", bound=Capture)


@dataclass(frozen=True)
class ModelInfo:
    """Which model it was, and how it ran."""

    ref: str = field(repr=False)
    """The reference it was loaded by, such as "demo"; it may be a path, which is nobody else's business: see `name`."""
    model_type: str
    config: Mapping[str, Any]
    """Its shape, in the names of config.json."""
    switches: tuple[str, ...]
    """Ablation switches that differ from a plain GPT-2."""
    weights_sha256: str
    tokenizer_sha256: str
    engine: str
    device: str
    dtype: str
    """What it computed in; `stored_dtype` is what lay in the file."""
    stored_dtype: str
    threads: int | None
    """Threads of the linear algebra, None where the library does not tell."""
    versions: Mapping[str, str]

    @property
    def name(self) -> str:
        """What it is called where people see it, without a path."""
        return model_name(self.ref)

    def trained_on(self, lang: str) -> str | None:
        """What text it was trained on, as its author says it: in this language, else in the first that there is."""
        found: Any = self.config.get("trained_on")
        if not isinstance(found, Mapping):
            return None
        said = cast(Mapping[str, Any], found)
        text = said.get(lang, next(iter(said.values()), None))
        return text if isinstance(text, str) else None


@dataclass(frozen=True)
class SelfCheck:
    """One thing that must hold for the record to be true, with the error that was measured."""

    name: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        """Whether the error lies within the limit."""
        return self.error <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. It has no number for an error that is not finite: null, which is read as infinite."""
        return asdict(self) | ({} if math.isfinite(self.error) else {"error": None})


@dataclass(frozen=True)
class Header:
    """All of a record that is not a column of numbers."""

    kind: Literal["generation", "score"]
    model: ModelInfo
    prompt: str
    sampling: Sampling
    seed: int | None
    """None for a score, which draws nothing."""
    stop: tuple[str, ...]
    end: Literal["length", "stop", "document_end", "interrupted", "text"]
    """Why the record ends there; "text" for a score."""
    max_new_tokens: int
    window: Literal["exact"]
    """What happens past the context: the last n_positions tokens, recomputed."""
    special_ids: tuple[int, ...]
    self_checks: tuple[SelfCheck, ...]
    capture: tuple[str, ...] = ()
    """What else is on record of every step, names out of `schema.CAPTURES`."""
    parts: tuple[str, ...] = ()
    """The parts of the model whose contributions are on record."""
    ablate: tuple[str, ...] = ()
    """Parts that were switched off during the run, such as "head:3.5"."""
    first_step: int = 0
    """How many tokens at the end of `prompt_ids` count as steps already taken since the text's own prompt.

    Step i drew with `uniform(seed, first_step + i)`. More than 0 where the record goes on from another one.
    """
    rounded: Mapping[str, float] = field(default_factory=dict[str, float])
    """Captured column -> the largest relative error that a compact export put on it. Empty in the record of a run."""
    prompt_rewritten: bool = True
    """Whether the tokenizer may have made another text of the prompt; False where `prompt_ids` spell it as it is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ref = self.model.ref.encode("utf-8", "backslashreplace").decode()  # a folder's name need not be Unicode
        model = replace(self.model, ref=ref, config=dict(self.model.config), versions=dict(self.model.versions))
        plain = asdict(replace(self, model=model, rounded=dict(self.rounded)))
        checks = [check.to_dict() for check in self.self_checks]
        return plain | {"sampling": self.sampling.to_dict(), "self_checks": checks}


@dataclass(frozen=True)
class Candidate:
    """One token that could have come next."""

    id: int
    bytes: bytes
    text: str
    """Its bytes as text; bytes that are no whole character stand in ‹hex›."""
    logit: float
    """As the model gave it."""
    p_model: float
    """Its probability by the model alone: T = 1, whole vocabulary."""
    p: float
    """Its probability in the draw, after the whole chain."""
    rank: int
    """Place by `p`, then, among cut tokens, by the model's logit; counted from 1."""
    cut_by: str | None
    """The stage that cut it, if one did."""
    special: bool = False
    """A special token, never the same as a text of the same letters."""


@dataclass(frozen=True)
class Other:
    """All tokens that a list leaves out, together."""

    count: int
    p: float
    p_model: float


@dataclass(frozen=True, eq=False)
class Listed(Frozen):
    """What is on record of one row, best first: [K] columns, and what the rest adds up to."""

    id: Ids
    logit: npt.NDArray[np.float32]
    p_model: Floats
    p: Floats
    cut_by: npt.NDArray[np.int8]
    rest: Other
    """Tokens that are not among the K; none where whole rows are kept."""
    entropy: float
    stages: tuple[StageResult, ...]

    @classmethod
    def of(cls, d: Distribution, n: int | None = None) -> "Listed":
        """The n first tokens of a distribution (all by default) and the sum of the others."""
        size = len(d.p)
        ids = d.top(size if n is None else min(n, size))
        left = np.ones(size, dtype=bool)
        left[ids] = False
        rest = Other(size - len(ids), float(d.p[left].sum()), float(d.p_model[left].sum()))
        logit = d.logits[ids].astype(np.float32)
        return cls(ids.astype(np.int32), logit, d.p_model[ids], d.p[ids], d.cut_by[ids], rest, d.entropy, d.stages)


class Candidates(Sequence[Candidate]):
    """The candidates of one step, best first; each is built only when it is looked at."""

    def __init__(self, listed: Listed, vocabulary: "Vocabulary") -> None:
        self._listed, self._vocabulary = listed, vocabulary

    def __len__(self) -> int:
        return len(self._listed.id)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> list[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | list[Candidate]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        row, i = self._listed, int(self._listed.id[place])
        stage = int(row.cut_by[place])
        return Candidate(
            id=i,
            bytes=self._vocabulary[i],
            text=bytes_to_text(self._vocabulary[i]),
            logit=float(row.logit[place]),
            p_model=float(row.p_model[place]),
            p=float(row.p[place]),
            rank=place + 1,
            cut_by=row.stages[stage].name if stage >= 0 else None,
            special=i in self._vocabulary.special_ids,
        )


class Vocabulary:
    """The bytes of each token id on record."""

    def __init__(
        self, token_bytes: Mapping[int, bytes] | Sequence[bytes], size: int, special_ids: frozenset[int]
    ) -> None:
        self._token_bytes = token_bytes
        self.size = size
        """How many logits a row has, which may be more than there are tokens."""
        self.special_ids = special_ids

    def __getitem__(self, token_id: int) -> bytes:
        """Empty for an id that the model can draw but the tokenizer does not have."""
        try:
            return self._token_bytes[token_id]
        except (KeyError, IndexError):
            return b""

    def join(self, ids: Sequence[int] | Ids) -> bytes:
        """The bytes of a text; special tokens are not part of it."""
        return b"".join(self.spelled(ids))

    def spelled(self, ids: Sequence[int] | Ids) -> list[bytes]:
        """The bytes of each token of a text, empty for a special one."""
        return [b"" if i in self.special_ids else self[i] for i in map(int, ids)]


@dataclass(frozen=True, eq=False)
class Step(Frozen):
    """One choice. Everything in it is derived from the record; nothing is stored twice."""

    index: int
    """Counted from 0."""
    bytes_before: bytes
    """The whole text so far; it may end inside a character."""
    window_start: int
    """The first token, counted from the start of the text, that the model saw."""
    token_id: int
    u: float | None
    """The number in [0, 1) that the token was drawn with; None in a score."""
    vocabulary: Vocabulary
    listed: Listed
    chosen: Candidate
    trace: "Trace" = field(repr=False)
    """The record that it is a step of."""

    def content(self) -> tuple[Any, ...]:
        """A step is its place in a record, which all else follows from."""
        return self.index, self.trace

    def attention(self) -> "StepAttention":
        """Where the model looked: every head's weights over the tokens in view, and attention rollout.

        per_head: [n_layer, n_head, K], each row sums to 1; `keys` are the K tokens. Raises CapabilityError where
        attention was not captured. Sources: `manako.analysis.attention`.

        >>> import manako
        >>> step = manako.load("demo").trace("私は", max_new_tokens=1, seed=0, capture=["attention"]).steps[0]
        >>> step.attention().per_head.shape, [key.text for key in step.attention().keys][-1]
        ((5, 6, 2), 'は')
        """
        from manako.analysis.attention import attention  # what a reader asks of a step; analysis knows it, not this

        return attention(self.trace, self.index)

    def lens(self) -> "LensStep":
        """The logit lens: what each layer would have said, with probability over the whole vocabulary and rank.

        `first` has the likeliest tokens of each of `layers`, `tracked` the chosen token and each layer's first through
        all of them. Raises CapabilityError where the lens was not captured.

        >>> import manako
        >>> step = manako.load("demo").trace("私は", max_new_tokens=1, seed=0, capture=["lens"]).steps[0]
        >>> step.lens().layers, step.lens().tracked[0][-1].text == step.chosen.text
        (('embed', '0', '1', '2', '3', '4'), True)
        """
        from manako.analysis.lens import lens  # as above

        return lens(self.trace, self.index)

    def why(self, token: str | None = None, *, rather_than: str | None = None) -> "Why":
        """Direct logit attribution: what each part of the model added to the logit of a token (nats).

        token: its text, or id:NNN; the chosen one where it is None. rather_than: another token; then each value is the
        difference of the two logits. Raises UsageError for a token that was not taken apart, CapabilityError where
        contributions were not captured. Source: Elhage et al. 2021, "A Mathematical Framework for Transformer
        Circuits".

        >>> import manako
        >>> step = manako.load("demo").trace("私は", max_new_tokens=1, seed=0, capture=["contributions"]).steps[0]
        >>> abs(sum(part.value for part in step.why().parts) - step.chosen.logit) < 1e-4
        True
        """
        from manako.analysis.contributions import contributions  # as above

        known = contributions(self.trace, self.index)
        rival = None if rather_than is None else known.find(rather_than)
        return known.why(self.chosen if token is None else known.find(token), rival)

    @property
    def number(self) -> int:
        """Counted from 1, steps of the text that were not computed included."""
        return self.index + 1 + (self.trace.excerpt.before if self.trace.excerpt else 0)

    @property
    def text_before(self) -> str:
        """The text so far; bytes of an unfinished character stand in ‹hex›."""
        return bytes_to_text(self.bytes_before)

    @property
    def candidates(self) -> Candidates:
        """All candidates on record, best first."""
        return Candidates(self.listed, self.vocabulary)

    @property
    def entropy(self) -> float:
        """Entropy of the draw in bits, over the whole vocabulary."""
        return self.listed.entropy

    @property
    def surprisal(self) -> float:
        """-log2 of the chosen token's `p_model`, in bits; infinite when that is 0."""
        return surprisal(self.chosen.p_model)

    @property
    def stages(self) -> tuple[StageResult, ...]:
        """What each stage of the chain kept and removed."""
        return self.listed.stages

    @property
    def certain(self) -> bool:
        """Whether the chain left a single token, so that `u` decided nothing (greedy, or top_k 1)."""
        return bool(self.stages) and self.stages[-1].kept == 1

    @property
    def interval(self) -> tuple[float, float]:
        """Where the chosen token lies on the cumulative line, likeliest first: low <= u < high.

        Of a token that is not on record with its place, the stretch of all tokens outside the record.
        """
        line, place = np.cumsum(self.listed.p), self.chosen.rank - 1
        low = float(line[min(place, len(line)) - 1]) if place else 0.0
        return low, float(line[place]) if place < len(line) else 1.0

    def other(self, shown: Sequence[Candidate]) -> Other:
        """All tokens that are not among `shown`, together; `shown` may hold the chosen one though it is not listed."""
        row, each = self.listed, {c.id: c for c in shown}.values()
        left = np.ones(len(row.id), dtype=bool)
        left[[c.rank - 1 for c in each if c.rank <= len(left)]] = False
        outside = [c for c in each if c.rank > len(left)]
        return Other(
            self.vocabulary.size - len(each),
            float(row.p[left].sum()) + max(0.0, row.rest.p - sum(c.p for c in outside)),
            float(row.p_model[left].sum()) + max(0.0, row.rest.p_model - sum(c.p_model for c in outside)),
        )


@dataclass(frozen=True, eq=False)
class Columns(Frozen):
    """The arrays of a record; S steps, P prompt tokens, V logits, K candidates: `PART`, or fewer after an export."""

    prompt_ids: Ids
    """[P]"""
    token_id: Ids
    """[S] the token that was taken."""
    u: Floats
    """[S] what it was drawn with; NaN in a score."""
    window_start: Ids
    """[S] first token the model saw."""
    p: Floats
    """[S] probability of the token in the draw."""
    p_model: Floats
    """[S] the same by the model alone."""
    rank: Ids
    """[S] its place, counted from 1."""
    logits: npt.NDArray[np.float32] | None = None
    """[S, V] whole rows, for small vocabularies."""
    part: Mapping[str, npt.NDArray[Any]] | None = None
    """For large ones: see "part" in schema.json."""
    captured: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict[str, npt.NDArray[Any]])
    """What was seen inside the model: see "captures" in schema.json."""


def part_of(d: Distribution, token_id: int, count: int) -> dict[str, Any]:
    """What the columns of a part hold of one step: its `count` first candidates and the exact rest.

    token_id: the chosen one.
    """
    listed = Listed.of(d, count)
    top = d.logits.max()
    return {
        "part_id": listed.id,
        "part_logit": listed.logit,
        "part_p": listed.p,
        "part_p_model": listed.p_model,
        "part_cut_by": listed.cut_by,
        "logsumexp": top + np.log(np.exp(d.logits - top).sum()),
        "rest_p": listed.rest.p,
        "rest_p_model": listed.rest.p_model,
        "rest_logit_max": np.delete(d.logits, listed.id).max(),
        "entropy": listed.entropy,
        "stage_kept": [s.kept for s in d.stages],
        "stage_removed_mass": [s.removed_mass for s in d.stages],
        "chosen_logit": d.logits[token_id],
    }


@dataclass(frozen=True)
class Excerpt:
    """What a record of one step is a step of."""

    text: str
    """The whole text."""
    before: int
    """Its steps before the one on record."""


@dataclass(frozen=True)
class Typed:
    """How somebody typed a text: a record has its tokens, of which special ones have no text, and a template's too."""

    text: str
    special: bool = False
    """Whether names of special tokens in it are those tokens."""
    chat: bool = False
    """Whether a chat template took it in."""
    system: str = ""
    """What the template says before it."""


@dataclass(frozen=True, eq=False)
class Trace(Frozen):
    """A whole record. `manako.open` reads one, `Model.trace` and `Model.score` make one."""

    header: Header
    columns: Columns
    vocabulary: Vocabulary
    excerpt: Excerpt | None = None
    """There where one step of a text was asked for, and no other was computed; no file keeps it."""
    typed: Typed | None = field(default=None, compare=False)
    """There where a command has just made it; no file keeps it."""

    def __len__(self) -> int:
        return len(self.columns.token_id)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __repr__(self) -> str:
        return f"<Trace {self.header.kind} {self.header.model.name!r} {len(self)} steps {self.text!r}>"

    def content(self) -> tuple[Any, ...]:
        """What its file would hold, all of the header included: with what versions it was made, and on what."""
        from manako.trace.file import content  # the file knows the record, not the other way round

        return content(self)

    @property
    def steps(self) -> Sequence[Step]:
        """One `Step` for each token, derived when it is looked at."""
        return _Steps(self)

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """[S, V]: row i is what token i was drawn from or scored with. Raises ManakoError where only a part is kept."""
        if self.columns.logits is None:
            assert self.columns.part is not None  # a record has either whole rows or parts
            raise ManakoError("trace_partial", kept=self.columns.part["part_id"].shape[1])
        return self.columns.logits

    @property
    def exact(self) -> bool:
        """Whether whole rows are on record."""
        return self.columns.logits is not None

    @cached_property
    def all_ids(self) -> Ids:
        """[P + S] the prompt's ids and then the taken ones."""
        return sealed(np.concatenate([self.columns.prompt_ids, self.columns.token_id]))

    def ids_before(self, index: int) -> Ids:
        """The whole text so far at a step, counted as in `steps`: from the end where negative. Raises IndexError."""
        return self.all_ids[: len(self.columns.prompt_ids) + range(len(self))[index]]

    @cached_property
    def attention(self) -> Attention:
        """`attention[step]` is [layer, head, key]. Raises CapabilityError where it is not on record."""
        return self._read(Attention)

    @cached_property
    def lens(self) -> Lens:
        """What each layer would have said. Raises CapabilityError where it is not on record."""
        return self._read(Lens)

    @cached_property
    def contributions(self) -> Contributions:
        """What each part added to a logit. Raises CapabilityError where it is not on record."""
        return self._read(Contributions)

    @property
    def residual(self) -> npt.NDArray[np.float32]:
        """[S, n_layer + 1, C]. Raises CapabilityError where it is not on record."""
        return self._read(Residual).values

    def captured(self, name: str) -> Capture:
        """What was captured, by its name in the header. Raises CapabilityError where it is not on record."""
        return self._read(CLASSES[name])

    def _read(self, kind: type[Kind]) -> Kind:
        if kind.name not in self.header.capture:
            raise CapabilityError("trace_without_capture", got=kind.name, can=", ".join(self.header.capture) or "-")
        return kind.read(self)

    @property
    def text(self) -> str:
        """Prompt and continuation; bytes that are no whole character stand in ‹hex›."""
        return self.text_of(0, len(self.all_ids))

    def text_of(self, start: int, stop: int) -> str:
        """The text of some tokens of the record, counted from the start of the prompt, as a slice counts."""
        return bytes_to_text(self.bytes_of(start, stop))

    def bytes_of(self, start: int, stop: int) -> bytes:
        """The bytes of the same, special tokens left out; past the end there are none."""
        text, places = self._spelled
        start, stop, _ = slice(start, stop).indices(len(places) - 1)
        return text[places[start] : places[stop]]

    @cached_property
    def _spelled(self) -> tuple[bytes, list[int]]:
        """(all bytes of the record, where each token begins in them, and the end): a step's text is then a slice."""
        pieces = self.vocabulary.spelled(self.all_ids)
        return b"".join(pieces), [0, *accumulate(map(len, pieces))]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """All steps, where rich prints it: `rich.print(trace)`."""
        from manako.views.terminal.steps import (  # a record shows itself; the views know it, not the reverse
            Look,
            trace_lines,
        )

        yield from trace_lines(self, Look(columns=options.max_width))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The page, where a notebook shows it; the short form for everything else."""
        from manako.views.html import notebook  # as above

        return {"text/plain": repr(self), "text/html": notebook(self)}

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write the trace to one file, whole or not at all.

        force: whether a file that is there is replaced. Raises UsageError for one that is not to be, ManakoError for
        the rest.
        """
        from manako.trace.file import save  # the file knows the record, not the other way round

        save(self, Path(path), force)


class _Steps(Sequence[Step]):
    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __len__(self) -> int:
        return len(self._trace)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | Sequence[Step]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return step_of(self._trace, range(len(self))[index])


def step_of(trace: Trace, index: int, known: Distribution | None = None, before: bytes | None = None) -> Step:
    """Derive one step, counted as in `steps`.

    known and before save the work where its distribution and the text before it are at hand.
    """
    columns, index = trace.columns, range(len(trace))[index]
    listed = _listed_part(trace, index) if columns.logits is None else Listed.of(known or derive(trace, index))
    token_id, u = int(columns.token_id[index]), float(columns.u[index])
    return Step(
        index=index,
        bytes_before=trace.bytes_of(0, len(columns.prompt_ids) + index) if before is None else before,
        window_start=int(columns.window_start[index]),
        token_id=token_id,
        u=None if np.isnan(u) else u,
        vocabulary=trace.vocabulary,
        listed=listed,
        chosen=_chosen(trace, index, listed),
        trace=trace,
    )


def derive(trace: Trace, index: int) -> Distribution:
    """The distribution of one step, from its recorded logits. Raises ManakoError where only a part is kept."""
    return distribution(trace.logits[index], trace.header.sampling, trace.ids_before(index))


def _chosen(trace: Trace, index: int, listed: Listed) -> Candidate:
    columns, i = trace.columns, int(trace.columns.token_id[index])
    places = np.flatnonzero(listed.id == i)  # by id, not by the recorded rank: what is marked is what was taken
    if len(places):
        return Candidates(listed, trace.vocabulary)[int(places[0])]
    assert columns.part is not None  # whole rows list every token
    data, rank = trace.vocabulary[i], int(columns.rank[index])
    logit, p_model, p = columns.part["chosen_logit"][index], columns.p_model[index], columns.p[index]
    special = i in trace.vocabulary.special_ids
    return Candidate(i, data, bytes_to_text(data), float(logit), float(p_model), float(p), rank, None, special)


def _listed_part(trace: Trace, index: int) -> Listed:
    part = trace.columns.part
    assert part is not None  # a record has either whole rows or parts
    ids = part["part_id"][index]
    rest = Other(trace.vocabulary.size - len(ids), float(part["rest_p"][index]), float(part["rest_p_model"][index]))
    kept, removed = part["stage_kept"][index], part["stage_removed_mass"][index]
    names = trace.header.sampling.active
    stages = tuple(StageResult(n, int(k), float(m)) for n, k, m in zip(names, kept, removed, strict=True))
    return Listed(
        ids,
        part["part_logit"][index],
        part["part_p_model"][index],
        part["part_p"][index],
        part["part_cut_by"][index],
        rest,
        float(part["entropy"][index]),
        stages,
    )


def bytes_to_text(data: bytes) -> str:
    """Bytes as text, losing nothing: whole characters as they are, other bytes in ‹hex›.

    >>> bytes_to_text("猫".encode() + b"\\xe3\\x81")
    '猫‹E3 81›'
    """

    def bracket(found: re.Match[str]) -> str:
        return f"‹{found[0].encode('utf-8', 'surrogateescape').hex(' ').upper()}›"

    # Python's own stand-ins for bytes that are no text, U+DC80 to U+DCFF, which no UTF-8 can spell: one pass, whatever
    # the length. A stray byte begins a bracket; continuation bytes (80 to BF) join the one before them.
    return re.sub("[\udc80-\udcff][\udc80-\udcbf]*", bracket, data.decode("utf-8", "surrogateescape"))
