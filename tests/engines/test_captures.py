"""What is captured is what the model did: attention (N7), lens and contributions (N8), the same bits with and without
(N17), whole records after an interruption, refusals before the first step, and self-checks that can go red.

Tolerances: attention 1e-6, since it lies in [0, 1]; float32 logits 1e-5, absolutely or relatively; float64 1e-12.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import louder, toy_checkpoint, toy_config, toy_model, toy_weights, worst

import manako
from manako.analysis.contributions import contributions
from manako.analysis.verification import verify
from manako.engines import captures as engine_captures
from manako.engines.captures import CaptureRecorder, best_of, ranks_of
from manako.engines.generation import Recorder
from manako.errors import CapabilityError, ManakoError, UsageError
from manako.families.activations import Activations
from manako.families.attention import QUERY_BLOCK, Cache
from manako.families.gpt2 import NumpyGPT2
from manako.families.readout import Readout
from manako.model import Model
from manako.trace.captures import CONTRIBUTION_TOP, LENS_TOP
from manako.trace.record import Trace
from manako.trace.schema import CAPTURES

SWITCHES: list[dict[str, Any]] = [
    {},
    {"residual": False},
    {"norm": "post"},
    {"attention": False},
    {"norm": "post", "residual": False},
    {"norm": "post", "attention": False},
]
SHAPES: list[dict[str, Any]] = [
    {"tie_word_embeddings": tied, "activation_function": activation, **more}
    for tied in (True, False)
    for activation in ("gelu_new", "gelu", "relu")
    for more in ({}, {"n_layer": 3, "n_head": 3, "n_embd": 15}, {"n_layer": 1, "n_head": 1, "n_embd": 5})
]
PROMPTS = (
    "私",
    "私猫犬。",
    "私猫犬。あいうえおかきくけこ",
    "私猫犬。あいうえおかきくけこ、私犬abc",
)  # 1, 4, 14 and 20 of 16
GREEN = ("attention_rows_sum_to_1", "lens_last_equals_logits", "contributions_sum_to_logit")


def engine(dtype: str = "float32", seed: int = 0, **changes: Any) -> NumpyGPT2:
    config = toy_config(**changes)
    return NumpyGPT2(config, toy_weights(config, seed, dtype))


def some_ids(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 270, length).tolist()


def seen(model: NumpyGPT2, ids: Sequence[int]) -> tuple[np.ndarray, Activations]:
    """(logits [T, V], everything of one pass over a window)."""
    keep = Activations(attention=True)
    return model.forward(ids, model.new_cache(), last_only=False, keep=keep), keep


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(start_id=None)


# --- attention --------------------------------------------------------------------------------------------------------


def softmax_of_products(model: NumpyGPT2, i: int, resid_pre: np.ndarray) -> np.ndarray:
    """[nh, T, T] of block i from its input [T, C], one number at a time."""
    c, w = model.config, {n: t.astype(np.float64) for n, t in model.weights.items()}
    x = resid_pre.astype(np.float64)
    if c.norm == "pre":
        centred = x - x.mean(axis=1, keepdims=True)
        x = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + c.layer_norm_epsilon)
        x = x * w[f"h.{i}.ln_1.weight"] + w[f"h.{i}.ln_1.bias"]
    q, k, _ = np.split(x @ w[f"h.{i}.attn.c_attn.weight"] + w[f"h.{i}.attn.c_attn.bias"], 3, axis=1)
    size = c.n_embd // c.n_head
    found = np.zeros((c.n_head, len(x), len(x)))
    for h in range(c.n_head):
        part = slice(h * size, (h + 1) * size)
        for t in range(len(x)):
            scores = np.array([q[t, part] @ k[s, part] / np.sqrt(size) for s in range(t + 1)])
            weights = np.exp(scores - scores.max())
            found[h, t, : t + 1] = weights / weights.sum()
    return found


@pytest.mark.parametrize("changes", [*[s for s in SWITCHES if s.get("attention", True)], *SHAPES[1:3]], ids=str)
def test_attention_is_the_softmax_of_queries_and_keys(changes: dict[str, Any]) -> None:
    model = engine(**changes)
    _, keep = seen(model, some_ids(16))
    stream = keep.residual()
    for i, pattern in enumerate(keep.pattern):
        assert np.abs(pattern - softmax_of_products(model, i, stream[i])).max() <= 1e-6
        assert (pattern[:, *np.triu_indices(16, 1)] == 0).all()  # the future: exactly nothing
        assert np.abs(pattern.sum(axis=2, dtype=np.float64) - 1).max() <= 1e-6


@settings(max_examples=60)
@given(st.integers(0, 70), st.integers(1, 2 * QUERY_BLOCK + 5), st.booleans(), st.booleans())
@pytest.mark.slow
def test_rows_do_not_depend_on_what_is_cached_or_returned(
    cached: int, given_: int, last_only: bool, last_attention: bool
) -> None:
    model = engine(block_size=2 * QUERY_BLOCK + 80)
    ids, cache = some_ids(cached + given_), model.new_cache()
    expected = seen(model, ids)[1]
    if cached:
        model.forward(ids[:cached], cache)
    keep = Activations(attention=True, last_attention=last_attention)
    model.forward(ids[cached:], cache, last_only, keep)
    rows, returned = keep.pattern[0].shape[1], 1 if last_only else given_
    assert rows == (returned if last_attention else given_)
    for pattern, whole in zip(keep.pattern, expected.pattern, strict=True):
        assert pattern.shape == (2, rows, cached + given_)
        assert np.abs(pattern - whole[:, -rows:]).max() <= 1e-6
        assert ((pattern == 0) == (whole[:, -rows:] == 0)).all()
    for name in ("embed", "z", "mlp_out", "resid_post"):
        for ours, whole in zip(getattr(keep, name), getattr(expected, name), strict=True):
            assert ours.shape[0] == returned and worst(ours, whole[-returned:]) <= 1e-5


# --- every captured number against one pass over the step's window ----------------------------------------------------


def by_hand(model: NumpyGPT2, row: np.ndarray, chosen: int) -> dict[str, np.ndarray]:
    """The lens of one step from its stream [L+1, C], with plain sorting."""
    logits = np.array([model.unembed(x[None])[0] for x in row])  # [L+1, V]
    order = np.argsort(-logits, axis=1, kind="stable")
    tracked = [chosen, *order[:, 0].tolist()]
    return {
        "id": order[:, :LENS_TOP],
        "logit": np.take_along_axis(logits, order[:, :LENS_TOP], axis=1),
        "logsumexp": np.log(np.exp(logits.astype(np.float64)).sum(axis=1)),
        "tracked_id": np.array(tracked),
        "tracked_logit": logits[:, tracked],
    }


def check_step(model: NumpyGPT2, trace: Trace, i: int) -> None:
    """All that is on record of one step against one uncached pass over what it saw."""
    captured, before = trace.header.capture, trace.all_ids[: len(trace.columns.prompt_ids) + i]
    rows, keep = seen(model, before[trace.columns.window_start[i] :].tolist())
    stream = keep.residual()[:, -1]  # [L+1, C]
    if "attention" in captured:
        expected = np.array([pattern[:, -1] for pattern in keep.pattern])
        assert trace.attention[i].shape == expected.shape and np.abs(trace.attention[i] - expected).max() <= 1e-6
        if (whole := trace.attention.whole(i)) is not None:
            assert np.abs(whole - np.array(keep.pattern)).max() <= 1e-6
    if "lens" in captured:
        lens, expected = trace.lens, by_hand(model, stream, int(trace.columns.token_id[i]))
        for name, values in expected.items():
            assert worst(getattr(lens, name)[i], values) <= 1e-5, name
        ranks = [[1 + int((row > row[t]).sum()) for t in expected["tracked_id"]] for row in model.unembed(stream)]
        assert lens.tracked_rank[i].tolist() == ranks
        assert np.abs(lens.p(i)[-1] - np.exp(expected["logit"][-1] - expected["logsumexp"][-1])).max() <= 1e-6
        assert np.array_equal(lens.tracked_p(i)[:, 0] <= lens.p(i)[:, 0], np.ones(len(stream), dtype=bool))
    if "contributions" in captured:
        ids = trace.contributions.id[i]
        assert ids[0] == trace.columns.token_id[i] and ids[1:].tolist() == [
            c.id for c in trace.steps[i].candidates[:CONTRIBUTION_TOP]
        ]
        assert np.abs(trace.contributions.value[i].sum(axis=0) - rows[-1, ids]).max() <= 1e-4
    if "residual" in captured:
        assert worst(trace.residual[i], stream) <= 1e-5


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_a_generation_records_what_each_step_saw(model: Model, prompt: str) -> None:
    """Before, across and past the border of the context."""
    trace = model.trace(prompt, max_new_tokens=20, temperature=1.2, seed=3, capture=CAPTURES)
    for i in range(len(trace)):
        check_step(model.engine, trace, i)
    start = trace.columns.window_start  # once it has moved, rows before do not show what this step sees
    assert [trace.attention.whole(i) is None for i in range(20)] == (start != start[0]).tolist()
    prompt_ids = trace.columns.prompt_ids.tolist()
    assert trace.attention.prompt_rows == min(len(prompt_ids), 16) - 1
    first = seen(model.engine, prompt_ids[-16:])[1]
    for t in range(trace.attention.prompt_rows):  # the prompt's own rows, in front of the first step's
        expected = np.array([pattern[:, t, : t + 1] for pattern in first.pattern])
        assert np.abs(trace.attention.row(t) - expected).max() <= 1e-6
    found = verify(trace)
    assert found.ok and len(found.checks) == 4 and all(check.ok for check in trace.header.self_checks)
    assert {check.name for check in trace.header.self_checks} >= set(GREEN)


@pytest.mark.parametrize(
    "text", ["私は", "私は猫。犬かもあいうえおかきく", "私は猫。犬かも、いいえ龘😀\n" * 4], ids=len
)
def test_a_score_records_what_each_token_was_scored_from(model: Model, text: str, tmp_path: Path) -> None:
    trace = model.score(text, capture=CAPTURES)
    for i in range(len(trace)):
        check_step(model.engine, trace, i)
    assert trace.attention.prompt_rows == 0 and verify(trace).ok
    assert {check.name for check in trace.header.self_checks} == set(GREEN)
    assert all(check.ok for check in trace.header.self_checks)
    trace.save(tmp_path / "score.manako")
    again = manako.open(tmp_path / "score.manako")
    assert again.header == trace.header and verify(again).ok
    plain = model.score(text)
    assert plain.logits.tobytes() == trace.logits.tobytes() and plain.header.capture == ()


@pytest.mark.parametrize("capture", [(name,) for name in CAPTURES], ids=str)
def test_one_capture_alone_is_the_same_numbers(model: Model, capture: tuple[str, ...], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 18, "seed": 4}
    every, one = model.trace("私は", capture=CAPTURES, **settings), model.trace("私は", capture=capture, **settings)
    assert one.header.capture == capture and bool(one.header.parts) == (capture == ("contributions",))
    for name, column in one.columns.captured.items():
        assert column.tobytes() == every.columns.captured[name].tobytes(), name
    one.save(tmp_path / "one.manako")
    assert verify(manako.open(tmp_path / "one.manako")).ok


def test_a_large_vocabulary_keeps_the_bytes_of_every_token_that_a_layer_named(tmp_path: Path) -> None:
    large = toy_model(vocab_size=16_385, start_id=None, n_embd=8)
    trace = large.trace("私は", max_new_tokens=6, seed=3, capture=CAPTURES)
    trace.save(tmp_path / "t.manako", force=True)
    again = manako.open(tmp_path / "t.manako")
    assert not again.exact and verify(again).ok
    for i in range(6):
        check_step(large.engine, again, i)
    assert [again.vocabulary[int(t)] for t in trace.lens.id.ravel()] == [
        large._vocabulary[int(t)] for t in trace.lens.id.ravel()
    ]


# --- contributions ----------------------------------------------------------------------------------------------------


def parts_by_hand(model: NumpyGPT2, keep: Activations) -> dict[str, np.ndarray]:
    """Name -> what each part added to the last row of the stream, [C]."""
    c, w = model.config, model.weights
    found = {"embed": keep.embed[0][-1], "pos_embed": keep.embed[1][-1]}
    for i in range(c.n_layer):
        if c.attention:
            size = c.n_embd // c.n_head
            for h in range(c.n_head):
                found[f"head:{i}.{h}"] = keep.z[i][-1, h] @ w[f"h.{i}.attn.c_proj.weight"][h * size : (h + 1) * size]
            found[f"attn_bias:{i}"] = w[f"h.{i}.attn.c_proj.bias"]
        found[f"mlp:{i}"] = keep.mlp_out[i][-1]
    return found


@pytest.mark.parametrize("changes", [*SHAPES, {"attention": False}], ids=str)
def test_a_contribution_is_what_the_logit_loses_without_the_part(changes: dict[str, Any]) -> None:
    """At the one scale of the final norm a logit is linear in the stream: take a part out and see what is missing."""
    model = toy_model(start_id=None, **changes)
    trace = model.trace("私は猫", max_new_tokens=6, seed=1, capture=("contributions",))
    exact = engine("float64", start_id=None, **changes)
    w, b = exact.weights["ln_f.weight"], exact.weights["ln_f.bias"]
    for i in range(len(trace)):
        rows, keep = seen(exact, trace.all_ids[: len(trace.columns.prompt_ids) + i].tolist())
        last = keep.resid_post[-1][-1]
        scale = 1 / np.sqrt(last.var() + exact.config.layer_norm_epsilon)
        parts, ids = parts_by_hand(exact, keep), trace.contributions.id[i]
        assert [*parts, "final_bias"] == list(trace.contributions.parts)
        assert worst(sum(parts.values()), last) <= 1e-12  # nothing else is in the stream
        streams = np.array([last, np.zeros_like(last), *[last - part for part in parts.values()]])  # [2 + N, C]
        logits = ((streams - streams.mean(axis=1, keepdims=True)) * scale * w + b) @ exact.readout.head[ids].T
        assert worst(logits[0], rows[-1, ids]) <= 1e-12
        lost = [*(logits[0] - logits[2:]), logits[1]]
        assert np.abs(trace.contributions.value[i] - np.array(lost)).max() <= 1e-5
        assert np.abs(trace.contributions.value[i].sum(axis=0) - rows[-1, ids]).max() <= 1e-4
    check = {c.name: c for c in trace.header.self_checks}["contributions_sum_to_logit"]
    assert check.ok and check.limit == 1e-4


def test_rounding_is_allowed_for_by_the_size_of_the_logits() -> None:
    loud = Model("loud", louder(toy_checkpoint(start_id=None), 1000))
    trace = loud.score("私は猫、犬。あい私は猫", capture=("contributions",))
    found = trace.contributions
    logits = np.take_along_axis(trace.logits, found.id, axis=1).astype(np.float64)
    errors = np.abs(found.value.sum(axis=1, dtype=np.float64) - logits)
    assert errors.max() > 1e-4 and np.abs(logits).max() > 1000  # more than is allowed of a small logit
    (ours,) = (c for c in trace.header.self_checks if c.name == "contributions_sum_to_logit")
    (again,) = verify(trace).checks
    assert verify(trace).ok and ours.ok and 0 < ours.error <= again.error <= 1e-4  # the second looks at means too
    for index in range(len(trace)):
        on_record = contributions(trace, index)
        first, second, *_ = on_record.tokens
        assert abs((why := on_record.why(first)).remainder) <= why.allowed < 0.01
        assert on_record.why(first, second).allowed == why.allowed + on_record.why(second).allowed
    for column, place in (("contribution", (0, 0, 0)), ("contribution_mean", (0, 0))):
        array = trace.columns.captured[column].copy()
        array[place] += 3e-6 * np.abs(logits[0]).max()
        changed = replace(trace.columns, captured={**trace.columns.captured, column: array})
        assert not verify(replace(trace, columns=changed)).ok


# --- what a model cannot give -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_an_ablated_model_gives_what_it_has_and_names_what_it_lacks(switches: dict[str, Any]) -> None:
    model = toy_model(start_id=None, **switches)
    lacks = {"attention"} if not switches.get("attention", True) else set()
    if not switches.get("residual", True) or switches.get("norm") == "post":
        lacks |= {"contributions"}
    assert set(CAPTURES) - set(model.captures) == lacks
    for name in lacks:
        for call in (
            lambda name=name: model.trace("私", capture=(name,)),
            lambda name=name: model.score("私は", capture=(name,)),
        ):
            with pytest.raises(CapabilityError) as caught:
                call()
            assert caught.value.exit_code == 4 and name in str(caught.value) and "lens" in str(caught.value)
    trace = model.trace("私は猫", max_new_tokens=20, seed=2, capture=model.captures)
    assert all(check.ok for check in trace.header.self_checks) and verify(trace).ok
    for i in (0, 5, 19):
        check_step(model.engine, trace, i)


def test_captures_are_named_once_in_one_order_or_refused(model: Model) -> None:
    trace = model.trace("私", max_new_tokens=1, seed=0, capture=["residual", "lens", "residual"])
    assert trace.header.capture == ("lens", "residual")
    assert model.trace("私", max_new_tokens=1, seed=0, capture="lens").header.capture == ("lens",)
    for wrong in (("Lens",), ("lens", ""), ("attn",), "everything"):
        with pytest.raises(UsageError, match="attention, lens, contributions, residual"):
            model.generate("私", capture=wrong)


# --- the search for the best ------------------------------------------------------------------------------------------

levels = st.sampled_from([0.0, -0.0, 1.0, 1.5, -3.0, 1e30, -1e30])  # few, so that ties are the rule


@settings(max_examples=300)
@given(
    st.integers(1, 4), st.integers(1, 3000), st.integers(1, 12), st.integers(1, 30), st.randoms(use_true_random=False)
)
@pytest.mark.slow
def test_best_of_and_ranks_of_are_plain_sorting(rows: int, size: int, n: int, values: int, random: Any) -> None:
    rng = np.random.default_rng(random.getrandbits(32))
    table = rng.integers(-values, values, (rows, size)).astype(np.float32)  # from all tied to hardly ever
    ids, logits = best_of(table, n)
    expected = np.argsort(-table, axis=1, kind="stable")[:, :n]
    assert np.array_equal(ids, expected) and np.array_equal(logits, np.take_along_axis(table, expected, axis=1))
    some = np.take_along_axis(table, rng.integers(0, size, (rows, 5)), axis=1)
    assert ranks_of(table, some).tolist() == [
        [1 + sum(v > x for v in row.tolist()) for x in wanted] for row, wanted in zip(table, some.tolist(), strict=True)
    ]


@given(st.lists(levels, min_size=1, max_size=400))
def test_best_of_signed_zeros_and_far_numbers(row: list[float]) -> None:
    table = np.array([row, row[::-1]], dtype=np.float32)
    assert np.array_equal(best_of(table, 10)[0], np.argsort(-table, axis=1, kind="stable")[:, :10])


def test_best_of_a_row_of_no_numbers_takes_none_of_another() -> None:
    table = np.array([[1, 2, 3], [np.nan, np.nan, np.nan], [3, 2, 1], [np.nan, 1, np.nan]], dtype=np.float32)
    ids, logits = best_of(table, 3)
    assert ids.tolist()[:3] == [[2, 1, 0], [0, 1, 2], [0, 1, 2]]
    assert np.array_equal(np.sort(logits, axis=1), np.sort(table, axis=1), equal_nan=True)


# --- N17: watching changes nothing ------------------------------------------------------------------------------------


def check_seed(model: Model, seed: int) -> None:
    prompt, capture = PROMPTS[seed % 4], ((name,) if (name := CAPTURES[seed // 4 % 4]) and seed % 3 else CAPTURES)
    settings: dict[str, Any] = {"max_new_tokens": 22, "temperature": 1.1, "seed": seed}
    plain, watched = model.trace(prompt, **settings), model.trace(prompt, capture=capture, **settings)
    for name in ("token_id", "u", "window_start", "p", "p_model", "rank", "logits"):
        assert getattr(plain.columns, name).tobytes() == getattr(watched.columns, name).tobytes(), name


@pytest.mark.slow
def test_the_same_bits_with_and_without_capture(model: Model) -> None:
    for seed in range(40):
        check_seed(model, seed)


@pytest.mark.slow
def test_a_thousand_runs_with_and_without_capture(model: Model) -> None:
    for seed in range(40, 1040):
        check_seed(model, seed)


def test_the_lens_in_pieces_is_the_same_lens(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 20, "seed": 8, "capture": CAPTURES}
    whole = model.trace("私は", **settings)
    for chunk in (1, 3 * 276 * 7):  # every step alone; seven at a time
        monkeypatch.setattr(engine_captures, "_CHUNK", chunk)
        pieces = model.trace("私は", **settings)
        assert pieces.columns.captured.keys() == whole.columns.captured.keys()
        for name, column in pieces.columns.captured.items():
            assert column.dtype == whole.columns.captured[name].dtype
            assert worst(column, whole.columns.captured[name]) <= 1e-5, name
        often = model.generate("私は", **settings)
        while often.advance():
            assert verify(often.trace()).ok  # a record taken at any time is whole, and disturbs nothing
        for name, column in often.trace().columns.captured.items():
            assert worst(column, whole.columns.captured[name]) <= 1e-5, name


# --- interruptions ----------------------------------------------------------------------------------------------------

PLACES: list[tuple[Any, str, int]] = [  # where Ctrl-C comes, at which call after the sixth step
    (Cache, "put", 2),
    (CaptureRecorder, "add", 1),
    (engine_captures.AttentionRecorder, "_row", 1),
    (Activations, "residual", 1),
    (Recorder, "add", 1),
    (engine_captures, "lens_columns", 1),
    (engine_captures, "ranks_of", 1),
    (engine_captures, "contribution_values", 1),
]


INTERRUPTED: dict[str, Any] = {"max_new_tokens": 12, "seed": 5, "capture": CAPTURES}


@pytest.fixture(scope="module")
def undisturbed(model: Model) -> Trace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_captures, "_CHUNK", 1)
        return model.trace("私は猫", **INTERRUPTED)


@pytest.mark.parametrize(("owner", "name", "call"), PLACES, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize(("steps", "looked"), [(0, True), (0, False), (1, True), (1, False), (6, True)])
def test_ctrl_c_while_a_step_is_captured(
    model: Model,
    undisturbed: Trace,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    call: int,
    steps: int,
    looked: bool,
    tmp_path: Path,
) -> None:
    """The record so far is whole, and the run goes on, whether or not somebody looked at it in between."""
    monkeypatch.setattr(engine_captures, "_CHUNK", 1)  # the lens is read at every step
    run, expected = model.generate("私は猫", **INTERRUPTED), undisturbed
    for _ in range(steps):
        run.advance()
    original, left = getattr(owner, name), [call]

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        try:
            run.advance()
        except KeyboardInterrupt:
            pass
        else:
            assert steps == 0 and owner is engine_captures  # nothing waits yet, so nothing is read
            return
    if not looked:
        assert run.advance() and verify(run.trace()).ok and len(run.trace()) == steps + 1
        check_step(model.engine, run.trace(), steps)
        assert run.trace().attention.prompt_rows == 4
        return
    part = run.trace()
    assert len(part) == steps and part.header.end == "interrupted"
    part.save(tmp_path / "part.manako")
    opened = manako.open(tmp_path / "part.manako")
    assert verify(opened).ok and opened.header.capture == (CAPTURES if steps else ())
    for i in range(steps):
        check_step(model.engine, opened, i)
    while run.advance():  # and the run goes on as if nothing had been
        pass
    whole = run.trace()
    assert whole.columns.token_id.tolist() == expected.columns.token_id.tolist() and verify(whole).ok
    for column, values in whole.columns.captured.items():
        assert values.shape == expected.columns.captured[column].shape
        assert worst(values, expected.columns.captured[column]) <= 1e-5, column


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAPTURES)
def test_a_step_takes_what_was_estimated(model: Model, name: str) -> None:
    trace = model.trace(PROMPTS[3], max_new_tokens=10, seed=0, capture=(name,))
    recorder = CaptureRecorder(model.engine, (name,))
    taken = sum(a.nbytes for a in trace.columns.captured.values())
    if name == "attention":  # the prompt's own rows and the shape are not of any step
        taken -= 12 + 4 * 2 * 2 * 15 * 16 // 2
    assert recorder.step_bytes(16) == recorder.step_bytes(10**6)  # the context bounds what a row can see
    assert taken <= 10 * recorder.step_bytes(30) <= 1.2 * taken


def test_a_record_too_large_is_refused_before_the_first_step(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr("manako.engines.generation.available_memory", lambda: 3_000_000)
    assert model.generate("私", max_new_tokens=2000)  # fits without captures
    monkeypatch.setattr(NumpyGPT2, "forward", computed)
    for call in (
        lambda: model.generate("私", max_new_tokens=2000, capture=CAPTURES),
        lambda: model.score("私" * 2000, capture=CAPTURES),
    ):
        with pytest.raises(ManakoError) as caught:
            call()
        assert caught.value.key == "trace_too_large" and caught.value.exit_code == 1
    for count in (10**9, 10**15):
        with pytest.raises(ManakoError):
            model.generate("私", max_new_tokens=count, capture=("attention",))


def test_of_a_long_prompt_only_the_deciding_row_is_kept_and_computed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    attention = NumpyGPT2.attention

    def counted(self: NumpyGPT2, i: int, x: Any, cache: Any, wanted: int, keep: Any = None) -> Any:
        out = attention(self, i, x, cache, wanted, keep)
        if keep is not None:
            rows.append(keep.pattern[-1].shape[1])
        return out

    monkeypatch.setattr(NumpyGPT2, "attention", counted)
    limit = 4 * 2 * 2 * 13 * 14 // 2  # bytes of the 13 rows before the last of 14 tokens
    for given_bytes, expected in ((limit, 13), (limit - 1, 0)):
        rows.clear()
        monkeypatch.setattr(engine_captures, "PROMPT_ROWS_BYTES", given_bytes)
        trace = model.trace(PROMPTS[2], max_new_tokens=2, seed=0, capture=("attention",))
        assert trace.attention.prompt_rows == expected and rows == [expected + 1] * 2
        assert (trace.attention.whole(0) is None) == (expected == 0)
        check_step(model.engine, trace, 0)
        assert verify(trace).ok


# --- faults -----------------------------------------------------------------------------------------------------------


def test_the_steps_before_an_overflow_keep_what_was_captured(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model.generate("私は", max_new_tokens=20, seed=0, capture=CAPTURES)
    for _ in range(4):
        run.advance()
    with monkeypatch.context() as patch:
        bad = {n: t * np.float32(np.inf) if n == "h.0.mlp.c_fc.bias" else t for n, t in model.engine.weights.items()}
        patch.setattr(model.engine, "weights", bad)
        with pytest.raises(ManakoError, match="at step 5, first in layer 1"):
            run.advance()
    trace = run.trace()
    assert len(trace) == 4 and verify(trace).ok and all(check.ok for check in trace.header.self_checks)
    for i in range(4):
        check_step(model.engine, trace, i)


@pytest.mark.parametrize("factor", [1e38, 1e19, 1e10])
def test_no_warning_and_no_unreadable_record_from_absurd_weights(factor: float, tmp_path: Path) -> None:
    """Warnings are errors here. What comes out is a record that opens, its self-checks red or not, or a clear error."""
    checkpoint = toy_checkpoint(start_id=None)
    model = Model("toy", checkpoint)
    for name in checkpoint.tensors:
        tensors = dict(checkpoint.tensors)
        tensors[name] = tensors[name] * np.float32(factor)
        model.engine = NumpyGPT2(checkpoint.config, tensors)
        try:
            trace = model.trace("私は", max_new_tokens=2, seed=0, capture=CAPTURES)
        except ManakoError as error:
            assert error.key == "logits_not_finite_at", name
            continue
        trace.save(tmp_path / "t.manako", force=True)
        opened = manako.open(tmp_path / "t.manako")
        assert opened.header.self_checks == trace.header.self_checks
        verify(opened)


# --- self-checks, with their negative controls ------------------------------------------------------------------------


def red(trace: Trace) -> set[str]:
    """Names of the self-checks that failed, which must be those that the file alone shows too."""
    failed = {check.name for check in trace.header.self_checks if not check.ok}
    again = {check.name for check in verify(trace).checks if not check.ok}
    assert failed == again
    return failed


def rotated(model: NumpyGPT2, i: int) -> np.ndarray:
    return np.roll(model.weights[f"h.{i}.attn.c_proj.weight"], model.config.n_embd // model.config.n_head, axis=0)


def unnormed(self: Readout, x: np.ndarray) -> np.ndarray:
    """Every layer at the scale that the others have on average: what TransformerLens#1076 did."""
    scale = self.scale(x).mean()
    return ((x - x.mean(axis=-1, keepdims=True)) * scale * self.weight + self.bias) @ self.head.T


def attention_times(factor: float) -> Callable[..., Any]:
    attention = NumpyGPT2.attention

    def changed(self: NumpyGPT2, i: int, x: Any, cache: Any, rows: int, keep: Any = None) -> Any:
        out = attention(self, i, x, cache, rows, keep)
        if keep is not None:
            keep.pattern[-1] *= np.float32(factor)
        return out

    return changed


scale_of, constant_of, directions_of = Readout.scale, Readout.constant, Readout.directions
BROKEN: list[tuple[str, Any, str, Any, str]] = [  # what breaks, in what, under which name, how, the check that sees it
    ("norm scale 1 % off", Readout, "scale", lambda s, x: scale_of(s, x) * np.float32(1.01),
     "contributions_sum_to_logit"),
    ("no centring", Readout, "directions", lambda s, ids: s.head[ids] * s.weight, "contributions_sum_to_logit"),
    ("norm bias dropped", Readout, "constant", lambda s, ids: 0 * constant_of(s, ids), "contributions_sum_to_logit"),
    ("heads rotated", NumpyGPT2, "output_weight", rotated, "contributions_sum_to_logit"),
    ("attention bias dropped", NumpyGPT2, "output_bias", lambda s, i: 0 * s.weights[f"h.{i}.attn.c_proj.bias"],
     "contributions_sum_to_logit"),
    ("one scale for all layers", NumpyGPT2, "unembed", lambda s, x: unnormed(s.readout, x), "lens_last_equals_logits"),
    ("no final norm", NumpyGPT2, "unembed", lambda s, x: x @ s.readout.head.T, "lens_last_equals_logits"),
    ("attention not normalised", NumpyGPT2, "attention", attention_times(1 + 1e-5), "attention_rows_sum_to_1"),
    ("attention is no number", NumpyGPT2, "attention", attention_times(np.nan), "attention_rows_sum_to_1"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "broken", "check"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_negative_controls_a_broken_part_turns_its_check_red(
    model: Model, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, broken: Any, check: str
) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 5, "seed": 1, "capture": CAPTURES}
    assert red(model.trace("私は猫", **settings)) == set()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        trace = model.trace("私は猫", **settings)
    assert red(trace) == {check}
    assert trace.logits.tobytes() == model.trace("私は猫", **settings).logits.tobytes()  # only what is shown was wrong
