"""A record of twelve steps over twelve tokens, made without any model: every number in it can be worked out by hand.

The logits are whole multiples of ln 2, so a token's weight is a power of two: in row 0 the favourite has 2^5 of a total
of 72.9375, its p_model is 32 / 72.9375. At temperature 0.5 the weights are powers of four: with the chain below, 1024,
256, 64 and 64 of 1408 are left. Eight of the twelve tokens are hostile to a screen, a page or a parser.

`golden_inside` is the same record with what was seen inside an imagined model of two layers with two heads, whose
layers say what later steps would say: see `FakeInside`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.engines.captures import CaptureRecorder
from manako.engines.generation import Generation
from manako.families.activations import Activations
from manako.families.readout import Readout
from manako.sampling import Sampling, distribution, draw, uniform
from manako.trace.record import Columns, Header, ModelInfo, SelfCheck, Trace, Vocabulary
from manako.trace.schema import CAPTURE_COLUMNS, CAPTURES

HOSTILE = (
    b"</script>",
    b"[bold]",
    b"\x1b[2J",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj".encode(),
    "猫".encode()[:2],
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}".encode(),
    b"",
    "\N{IDEOGRAPHIC SPACE}".encode(),
)
TOKENS = (b"<|endoftext|>", *HOSTILE, "あ".encode(), "い".encode(), "。".encode())  # id 0 is special
END_ID = 0
PROMPT = "あ"
PROMPT_IDS = (9,)
SAMPLING = Sampling(temperature=0.5, top_k=8, top_p=0.98)
SEED = 7  # with it the draws meet all hostile tokens, take ranks 1, 2 and 3, and end with token 0

EXPONENTS = [  # row i is what step i draws from; column j belongs to token j; weight 2^n, logit n ln 2
    [-4, 5, 4, 3, 3, 2, 1, 0, 0, -1, -2, -3],
    [-3, -4, 5, 4, 3, 3, 2, 1, 0, 0, -1, -2],
    [-2, -3, -4, 5, 4, 3, 3, 2, 1, 0, 0, -1],
    [-1, -2, -3, -4, 5, 4, 3, 3, 2, 1, 0, 0],
    [0, -1, -2, -3, -4, 5, 4, 3, 3, 2, 1, 0],
    [0, 0, -1, -2, -3, -4, 5, 4, 3, 3, 2, 1],
    [1, 0, 0, -1, -2, -3, -4, 5, 4, 3, 3, 2],
    [2, 1, 0, 0, -1, -2, -3, -4, 5, 4, 3, 3],
    [3, 2, 1, 0, 0, -1, -2, -3, -4, 5, 4, 3],
    [3, 3, 2, 1, 0, 0, -1, -2, -3, -4, 5, 4],
    [4, 3, 3, 2, 1, 0, 0, -1, -2, -3, -4, 5],
    [5, 4, 3, 3, 2, 1, 0, 0, -1, -2, -3, -4],
]
LOGITS: npt.NDArray[np.float32] = (np.array(EXPONENTS) * np.log(2)).astype(np.float32)  # [12, 12]
LOGITS.setflags(write=False)

MODEL = ModelInfo(
    ref="golden",
    model_type="gpt2",
    config={"n_layer": 1, "n_head": 1, "n_embd": 4, "n_positions": 32, "vocab_size": 12, "layer_norm_epsilon": 1e-5},
    switches=(),
    weights_sha256="0" * 64,
    tokenizer_sha256="1" * 64,
    engine="none",
    device="cpu",
    dtype="float32",
    stored_dtype="float32",
    threads=None,
    versions={"manako": "0.1.0", "numpy": "2.0.0"},
)
SELF_CHECKS = (SelfCheck("probabilities_sum_to_1", 2.2e-16, 1e-9), SelfCheck("cached_equals_uncached", 0.0, 1e-5))
INSIDE = ("attention", "lens", "contributions")
INSIDE_MODEL = replace(MODEL, config={**MODEL.config, "n_layer": 2, "n_head": 2, "n_embd": 13})
INSIDE_CHECKS = (
    *SELF_CHECKS,
    SelfCheck("attention_rows_sum_to_1", 4.5e-8, 1e-6),
    SelfCheck("lens_last_equals_logits", 0.0, 1e-5),
    SelfCheck("contributions_sum_to_logit", 2.4e-7, 1e-4),
)


def golden_header(**changes: Any) -> Header:
    """The header of the golden record, with some fields changed."""
    header = Header(
        kind="generation",
        model=MODEL,
        prompt=PROMPT,
        sampling=SAMPLING,
        seed=SEED,
        stop=(),
        end="document_end",
        max_new_tokens=15,
        window="exact",
        special_ids=(END_ID,),
        self_checks=SELF_CHECKS,
    )
    return replace(header, **changes)


def golden_vocabulary(special_ids: Sequence[int] = (END_ID,)) -> Vocabulary:
    """The twelve tokens."""
    return Vocabulary(TOKENS, len(TOKENS), frozenset(special_ids))


def made_once(make: Callable[..., Trace]) -> Callable[..., Trace]:
    """The same record for all who ask for the same; as it is shared, nothing can be written into its arrays."""

    @cache
    def made(*given: Any, **changes: Any) -> Trace:
        trace = make(*given, **changes)
        c = trace.columns
        for array in (*vars(c).values(), *(c.part or {}).values(), *c.captured.values()):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)
        return trace

    @wraps(make)
    def ask(*given: Any, **changes: Any) -> Trace:
        try:
            return made(*given, **changes)
        except TypeError:  # a change that cannot be a key
            return make(*given, **changes)

    return ask


@made_once
def golden_trace(steps: int = 12, **changes: Any) -> Trace:
    """The golden record, or one like it: fewer steps, or a header with other fields (sampling, seed, end, ...)."""
    header = golden_header(**({"end": "interrupted"} if steps < 12 else {}) | changes)
    assert header.seed is not None  # a generation has one; for scores see golden_score
    ids, rows = list(PROMPT_IDS), []
    for i in range(steps):
        d, u = distribution(LOGITS[i], header.sampling, ids), uniform(header.seed, header.first_step + i)
        token_id = draw(d, u).token_id
        rows.append((token_id, u, 0, d.p[token_id], d.p_model[token_id], d.rank(token_id)))
        ids.append(token_id)
    return Trace(header, _columns(rows, PROMPT_IDS, LOGITS[:steps]), golden_vocabulary(header.special_ids))


@made_once
def golden_score(ids: Sequence[int] = (9, 1, 5, 10, 7, 11)) -> Trace:
    """The record of a given text: the first id is context, each other one is scored with the row of its place."""
    rows = []
    for i, token_id in enumerate(ids[1:]):
        d = distribution(LOGITS[i], Sampling(temperature=1))
        rows.append((token_id, np.nan, 0, d.p[token_id], d.p_model[token_id], d.rank(token_id)))
    changes: dict[str, Any] = {"kind": "score", "sampling": Sampling(temperature=1), "seed": None, "end": "text"}
    header = golden_header(**changes, max_new_tokens=len(rows), self_checks=())
    return Trace(header, _columns(rows, ids[:1], LOGITS[: len(rows)]), golden_vocabulary())


def _columns(rows: Sequence[tuple[Any, ...]], prompt_ids: Sequence[int], logits: npt.NDArray[np.float32]) -> Columns:
    token_id, u, window_start, p, p_model, rank = zip(*rows, strict=True) if rows else ((),) * 6
    return Columns(
        prompt_ids=np.array(prompt_ids, dtype=np.int32),
        token_id=np.array(token_id, dtype=np.int32),
        u=np.array(u, dtype=np.float64),
        window_start=np.array(window_start, dtype=np.int32),
        p=np.array(p, dtype=np.float64),
        p_model=np.array(p_model, dtype=np.float64),
        rank=np.array(rank, dtype=np.int32),
        logits=np.array(logits, dtype=np.float32),
    )


class FakeSession:
    """An engine with fixed rows: row i follows a text of i + 1 tokens, the last row every longer one."""

    def __init__(self, rows: npt.NDArray[np.float32] = LOGITS) -> None:
        self.rows = rows

    def next_logits(self, ids: Sequence[int], keep: object = None) -> tuple[npt.NDArray[np.float32], int]:
        return self.uncached_logits(ids), 0

    def uncached_logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self.rows[min(len(ids), len(self.rows)) - 1]

    def first_bad_layer(self, ids: Sequence[int]) -> int:
        return 1


class PlainReadout(Readout):
    """An output matrix behind no norm at all, so that every sum can be done by hand."""

    def normed(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return x + self.bias

    def scale(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ones((*x.shape[:-1], 1), dtype=x.dtype)

    def directions(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self.head[ids]

    def mean_direction(self) -> npt.NDArray[Any]:
        return self.head.mean(axis=0)


class FakeInside(FakeSession):
    """The same rows out of an engine with 2 layers and 2 heads, of which every captured number is known by hand.

    The stream has a place for each row, and one more. In step i the embedding puts 1 into the place of row i + 4, so
    the lens of layer 0 says what step i + 4 would say (past the last row it starts over); block 0 moves that 1 to the
    place of row i + 2, block 1 to row i: its head 0 does half of it, head 1 and the MLP a quarter each. The one more
    place adds ln 2 to token 0: the position puts 1 into it, block 0's attention bias another 1, block 1's bias takes
    that back, and the final bias the first. `patterns` has the attention.
    """

    captures = CAPTURES
    lacks: Mapping[str, str] = {}

    def __init__(self, rows: npt.NDArray[np.float32] = LOGITS, context: int = 32) -> None:
        super().__init__(rows)
        count, size = rows.shape
        self.context = context
        self.config = SimpleNamespace(n_layer=2, n_head=2, n_embd=count + 1, block_size=context, vocab_size=size)
        more = np.zeros((1, size), dtype=np.float32)
        more[0, 0] = np.log(2)
        self.unit = np.eye(count + 1, dtype=np.float32)
        head = np.concatenate([rows, more]).T  # [V, C]
        self.readout = PlainReadout(np.ones(count + 1, np.float32), -self.unit[-1], 0.0, head)

    def next_logits(self, ids: Sequence[int], keep: object = None) -> tuple[npt.NDArray[np.float32], int]:
        seen = min(len(ids), self.context)
        if isinstance(keep, Activations):
            self._fill(keep, min(len(ids), len(self.rows)) - 1, seen)
        return self.uncached_logits(ids), len(ids) - seen

    def _fill(self, keep: Activations, i: int, seen: int) -> None:
        count, keep.returned = len(self.rows), 1
        says = [self.unit[(i + ahead) % count] for ahead in (4, 2, 0)]  # after embedding, block 0 and block 1
        keep.embed += [says[0][None], self.unit[-1:]]
        first = 0 if not keep.last_attention else seen - 1
        for n, extra in enumerate((1, 0)):
            moved = says[n + 1] - says[n]
            keep.z.append(np.stack([moved / 2, moved / 4])[None])
            keep.mlp_out.append(moved[None] / 4)
            keep.resid_post.append((says[n + 1] + (1 + extra) * self.unit[-1])[None])
            keep.pattern.append(np.zeros((2, seen - first, seen), dtype=np.float32))
            for t in range(first, seen):
                keep.pattern[n][:, t - first, : t + 1] = patterns(t + 1)[n]

    def unembed(self, resid: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self.readout.logits(resid)

    def output_weight(self, i: int) -> npt.NDArray[Any]:
        return np.concatenate([self.unit, self.unit])

    def output_bias(self, i: int) -> npt.NDArray[Any]:
        return -self.unit[-1] if i else self.unit[-1]


def patterns(keys: int) -> npt.NDArray[np.float32]:
    """[layer, head, key] of the golden model: four habits that are easy to tell apart."""
    nearer, first, both = np.zeros((3, keys), dtype=np.float32)
    nearer[:] = 0.5 ** np.minimum(np.arange(keys)[::-1] + 1, keys - 1)  # 1/2 to itself, 1/4 to the one before ...
    first[0] = 1  # the first token alone
    both[0], both[-1] = 0.25, 0.75  # a quarter to the first token, the rest to itself
    if keys == 1:
        nearer[0] = both[0] = 1
    return np.array([[nearer, first], [both, np.full(keys, 1 / keys)]], dtype=np.float32)


def golden_generation(**changes: Any) -> Generation:
    """The golden record as a run in progress, for what reads steps while they are made."""
    header = golden_header(**{"end": "interrupted", "self_checks": ()} | changes)
    return Generation(FakeSession(), header, PROMPT_IDS, golden_vocabulary(), (END_ID,))


@cache
def _numbered(count: int) -> tuple[bytes, ...]:
    return tuple(f"<{i}>".encode() for i in range(count))


def large_generation(vocab_size: int = 20_000, steps: int = 6, seed: int = 1, **changes: Any) -> Generation:
    """A run over a vocabulary above the limit for whole rows; flat rows, so that ranks above 256 are drawn."""
    rng = np.random.default_rng(7)
    rows = rng.normal(0, 1.5, size=(steps, vocab_size)).astype(np.float32)  # [S, V]
    names = [*TOKENS, *_numbered(vocab_size)[len(TOKENS) :]]
    settings: dict[str, Any] = {"sampling": Sampling(temperature=0.7), "special_ids": (), "self_checks": ()}
    header = golden_header(**settings | {"seed": seed, "max_new_tokens": steps, "end": "interrupted"} | changes)
    vocabulary = Vocabulary(names, vocab_size, frozenset(header.special_ids))
    return Generation(FakeSession(rows), header, PROMPT_IDS, vocabulary, ())


@made_once
def golden_inside(
    steps: int = 12, capture: Sequence[str] = INSIDE, prompt_ids: Sequence[int] = PROMPT_IDS, **changes: Any
) -> Trace:
    """The golden record with attention, lens and contributions on record; with other captures, another prompt, ..."""
    session = FakeInside(context=changes.pop("context", 32))
    return _inside(session, steps, capture, prompt_ids, golden_vocabulary(), changes)


@made_once
def large_inside(vocab_size: int = 20_000, steps: int = 6, capture: Sequence[str] = INSIDE, **changes: Any) -> Trace:
    """`large_generation` by such an engine: a partial record with captures."""
    plain = large_generation(vocab_size, steps)
    session, vocabulary = FakeInside(plain._session.rows), plain._vocabulary  # pyright: ignore
    changes = {"sampling": Sampling(temperature=0.7), "special_ids": (), "seed": 1} | changes
    return _inside(session, steps, capture, PROMPT_IDS, vocabulary, changes)


def of_version(trace: Trace, version: int) -> Trace:
    """What a writer of that version of the format would have put on record: without the columns that came later."""
    known = {name for each in CAPTURE_COLUMNS.values() for name, column in each.items() if column.since <= version}
    captured = {name: array for name, array in trace.columns.captured.items() if name in known}
    return replace(trace, columns=replace(trace.columns, captured=captured))


def with_number(trace: Trace, column: str, index: int, value: int) -> Trace:
    """The record with one number of a column replaced."""
    array = getattr(trace.columns, column).copy()
    array[index] = value
    return replace(trace, columns=replace(trace.columns, **{column: array}))


def with_candidates(trace: Trace, count: int) -> Trace:
    """A partial record as an export writes it that keeps only so many candidates of each step."""
    part = dict(trace.columns.part or {})
    left = {name: part[name][:, count:] for name in ("part_p", "part_p_model", "part_logit")}
    part |= {n: part[n][:, :count] for n in ("part_id", "part_logit", "part_p", "part_p_model", "part_cut_by")}
    part["rest_p"] = part["rest_p"] + left["part_p"].sum(axis=1)
    part["rest_p_model"] = part["rest_p_model"] + left["part_p_model"].sum(axis=1)
    part["rest_logit_max"] = np.maximum(part["rest_logit_max"], left["part_logit"].max(axis=1, initial=-np.inf))
    return replace(trace, columns=replace(trace.columns, part=part))


def _inside(
    session: FakeInside,
    steps: int,
    capture: Sequence[str],
    prompt_ids: Sequence[int],
    vocabulary: Vocabulary,
    changes: dict[str, Any],
) -> Trace:
    model = replace(INSIDE_MODEL, config={**INSIDE_MODEL.config, "n_positions": session.context})
    header = golden_header(**{"end": "interrupted", "self_checks": (), "model": model} | changes)
    recorder = CaptureRecorder(session, capture)
    generation = Generation(session, header, prompt_ids, vocabulary, (END_ID,), recorder)
    for _ in range(steps):
        generation.advance()
    trace = generation.trace()
    names = [check.name for check in trace.header.self_checks]
    checks = tuple(check for check in INSIDE_CHECKS if check.name in names)  # no digit of them differs by machine
    return replace(trace, header=replace(trace.header, **{"self_checks": checks} | changes))
