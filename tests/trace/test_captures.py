"""The captured columns as a reader sees them: which row of attention belongs to which position, lens and contributions.

All by hand; golden.py has the record.
"""

from typing import Any

import golden
import numpy as np
import pytest
from golden import LOGITS, golden_inside, golden_trace, patterns
from hypothesis import given
from hypothesis import strategies as st

from manako.trace.captures import Attention, Contributions, part_names
from manako.trace.schema import CAPTURE_COLUMNS, CAPTURES

LN2 = np.log(2)


def numbered(
    n_layer: int, n_head: int, prompt_length: int, prompt_rows: int, window: list[int]
) -> tuple[Attention, dict[tuple[int, int, int, int], float]]:
    """Attention in which every number is another one, and where each stands: (row, layer, head, token of the text)."""
    flat: list[float] = []
    where: dict[tuple[int, int, int, int], float] = {}
    starts = [window[0] if window else 0] * prompt_rows + window
    for row, start in enumerate(starts):
        position = prompt_length - 1 - prompt_rows + row
        for layer in range(n_layer):
            for head in range(n_head):
                for token in range(start, position + 1):
                    where[row, layer, head, token] = float(len(flat))
                    flat.append(float(len(flat)))
    columns = np.array(flat, dtype=np.float32), (n_layer, n_head, prompt_rows)
    return Attention.of(*columns, prompt_length, np.array(window, dtype=np.int32)), where


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.integers(0, 9), st.booleans())
def test_every_number_of_attention_is_found_where_it_was_put(
    n_layer: int, n_head: int, prompt_length: int, context: int, steps: int, prompt: bool
) -> None:
    """Windows as a generation has them: at the start while the text fits the context, then one on at each step."""
    window = [max(0, prompt_length + i - context) for i in range(steps)]
    first = max(0, prompt_length - context) if steps else 0
    prompt_rows = prompt_length - 1 - first if prompt else 0
    attention, where = numbered(n_layer, n_head, prompt_length, prompt_rows, window)
    assert len(attention) == steps
    for i in range(steps):
        assert attention.start(i) == window[i]
        row = attention[i]
        assert row.shape == (n_layer, n_head, prompt_length + i - window[i])
        for (at, layer, head, token), value in where.items():
            if at == prompt_rows + i:
                assert row[layer, head, token - window[i]] == value
        whole, size = attention.whole(i), row.shape[2]
        begin = window[i] - (prompt_length - 1 - prompt_rows)  # the row of the first token in view
        on_record = begin >= 0 and all(
            s == window[i] for s in ([first] * prompt_rows + window)[begin : prompt_rows + i]
        )
        assert (whole is not None) == on_record
        if whole is not None:
            assert whole.shape == (n_layer, n_head, size, size) and np.array_equal(whole[:, :, -1], row)
            for t in range(size):
                assert np.array_equal(whole[:, :, t, : t + 1], attention.row(begin + t))
                assert (whole[:, :, t, t + 1 :] == 0).all()


def test_steps_count_from_either_end_and_end_there() -> None:
    attention, _ = numbered(1, 1, 3, 2, [0, 0, 0])
    assert np.array_equal(attention[-1], attention[2]) and attention.start(-3) == 0
    for index in (3, -4):
        for look in (
            lambda i=index: attention[i],
            lambda i=index: attention.start(i),
            lambda i=index: attention.whole(i),
        ):
            with pytest.raises(IndexError):
                look()


@pytest.mark.parametrize(
    ("flat", "shape", "prompt_length", "window", "word"),
    [
        (4, (0, 1, 0), 4, [0], "shape"),
        (4, (1, 0, 0), 4, [0], "shape"),
        (4, (-1, -1, 0), 4, [0], "shape"),
        (4, (1, 1, -1), 4, [0], "shape"),
        (10, (1, 1, 4), 4, [0], "shape"),  # the last token of the prompt decides step 0: 3 are left
        (6, (1, 1, 3), 4, [1], "shape"),  # and of these the window shows 2
        (3, (1, 1, 0), 4, [0], "as many"),
        (5, (1, 1, 0), 4, [0], "as many"),
        (9, (1, 1, 0), 4, [0, 5], "in view"),
        (0, (2**30, 2**30, 0), 16, [0], "as many"),  # 2^64 numbers
    ],
)
def test_columns_that_do_not_fit(
    flat: int, shape: tuple[int, int, int], prompt_length: int, window: list[int], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        Attention.of(np.zeros(flat, np.float32), shape, prompt_length, np.array(window, dtype=np.int32))


def test_golden_attention_by_hand() -> None:
    trace = golden_inside(5)
    # The first step sees one token; step 3 sees four: a half, a quarter, and two eighths; the first; a quarter and
    # three; all alike.
    assert trace.attention[0].tolist() == [[[1.0], [1.0]], [[1.0], [1.0]]]
    near, first, both, alike = trace.attention[3].reshape(4, 4).tolist()
    assert near == [0.125, 0.125, 0.25, 0.5] and first == [1, 0, 0, 0] and both == [0.25, 0, 0, 0.75]
    assert alike == [0.25] * 4
    whole = trace.attention.whole(4)
    assert whole is not None and whole.shape == (2, 2, 5, 5)
    assert all(np.array_equal(whole[:, :, t, : t + 1], patterns(t + 1)) for t in range(5))
    assert (whole[:, :, *np.triu_indices(5, 1)] == 0).all()


def test_golden_attention_of_a_prompt_and_a_moving_window() -> None:
    trace = golden_inside(6, ("attention",), (9, 1, 2, 3), context=6)
    attention = trace.attention
    assert attention.prompt_rows == 3 and attention.first == 0
    assert [attention.start(i) for i in range(6)] == trace.columns.window_start.tolist() == [0, 0, 0, 1, 2, 3]
    assert [attention.whole(i) is None for i in range(6)] == [False, False, False, True, True, True]
    assert [a.shape[2] for a in (attention.row(0), attention.row(2), attention[0], attention[5])] == [1, 3, 4, 6]


def test_golden_lens_by_hand() -> None:
    trace = golden_inside()
    lens = trace.lens
    # Step 0: the embedding says what step 4 will (favourite 5), block 0 what step 2 will (favourite 3), both with a
    # weight of token 0 that the one more place has changed: by nothing, and by a factor of 2; block 1 says row 0.
    assert lens.id[0, :, 0].tolist() == [5, 3, 1] and trace.columns.token_id[0] == 2
    assert lens.tracked_id[0].tolist() == [2, 5, 3, 1]
    weights = np.array([[2.0**n for n in golden.EXPONENTS[row]] for row in (4, 2, 0)])
    weights[1, 0] *= 2
    p = weights / weights.sum(axis=1, keepdims=True)  # [3, 12]
    assert np.abs(lens.tracked_p(0) - p[:, [2, 5, 3, 1]]).max() < 1e-6
    order = np.argsort(-p, axis=1, kind="stable")
    assert np.abs(lens.p(0) - np.take_along_axis(p, order, axis=1)[:, :10]).max() < 1e-6
    assert lens.tracked_rank[0].tolist() == [[1 + int((row > row[t]).sum()) for t in (2, 5, 3, 1)] for row in p]
    assert np.abs(lens.logsumexp[0] - np.log(weights.sum(axis=1))).max() < 1e-6
    for i in range(12):  # the last layer is the row that was drawn from, bit for bit
        assert np.array_equal(lens.logit[i, -1], LOGITS[i, lens.id[i, -1]])
        assert lens.tracked_id[i, 0] == trace.columns.token_id[i]


def test_golden_contributions_by_hand() -> None:
    trace = golden_inside()
    given_ = trace.contributions
    assert given_.parts == tuple(part_names(2, 2, True, True, True, True)) and len(given_.parts) == 11
    # Step 0, token 2, logits in units of ln 2: row 4 says -2, row 2 says -4, row 0 says 4. Block 0 moves it by -2,
    # block 1 by 8; head 0 half of it, head 1 and the MLP a quarter each. The one more place is about token 0 alone.
    value = given_.of(0, 2)
    assert value is not None
    expected = [-2, 0, -1, -0.5, 0, -0.5, 4, 2, 0, 2, 0]
    assert np.abs(value / LN2 - expected).max() < 1e-5 and abs(value.sum() - 4 * LN2) < 1e-5
    end = golden_inside(12).contributions.of(11, 0)  # the last step takes token 0
    assert end is not None and np.abs(end[[1, 4, 8, 10]] / LN2 - [1, 1, -1, -1]).max() < 1e-6
    assert given_.of(0, 0) is None and given_.of(0, 99) is None  # not among the first candidates
    twice = Contributions(("embed",), np.array([[7, 3, 7]], np.int32), np.array([[[1.0, 2.0, 1.0]]], np.float32), None)
    assert twice.of(0, 7) == [1.0] and twice.of(0, 3) == [2.0]


def test_golden_inside_is_the_golden_record_with_captures() -> None:
    plain, inside = golden_trace(), golden_inside()
    for name in ("prompt_ids", "token_id", "u", "window_start", "p", "p_model", "rank", "logits"):
        assert getattr(plain.columns, name).tobytes() == getattr(inside.columns, name).tobytes(), name
    assert inside.header.end == "document_end" and inside.header.capture == CAPTURES[:3]
    assert list(inside.columns.captured) == [c for n in inside.header.capture for c in CAPTURE_COLUMNS[n]]
    for name, column in {k: v for c in inside.header.capture for k, v in CAPTURE_COLUMNS[c].items()}.items():
        array = inside.columns.captured[name]
        assert (array.dtype, array.ndim) == (column.dtype, len(column.axes))


def test_the_checks_of_the_golden_record_are_not_better_than_measured() -> None:
    recorder = golden.CaptureRecorder(golden.FakeInside(), CAPTURES)
    header = golden.golden_header(end="interrupted", self_checks=())
    run = golden.Generation(golden.FakeInside(), header, (9,), golden.golden_vocabulary(), (0,), recorder)
    while run.advance():
        pass
    measured = {check.name: check for check in run.trace().header.self_checks}
    assert len(measured) == 5 == len(golden.INSIDE_CHECKS)
    for check in golden.INSIDE_CHECKS:
        assert measured[check.name].error <= 1.01 * check.error and measured[check.name].limit == check.limit


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ((1, 2, True, True, True, True),
         ["embed", "pos_embed", "head:0.0", "head:0.1", "attn_bias:0", "mlp:0", "final_bias"]),
        ((2, 1, False, True, False, False), ["embed", "head:0.0", "mlp:0", "head:1.0", "mlp:1"]),
        ((2, 1, True, False, False, True), ["embed", "pos_embed", "mlp:0", "mlp:1", "final_bias"]),
    ],
)  # fmt: skip
def test_part_names_follow_the_stream(given_: tuple[Any, ...], expected: list[str]) -> None:
    assert part_names(*given_) == expected
