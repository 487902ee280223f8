"""Several temperatures on the same luck: the same u, the right step of divergence, and nothing compared beyond it."""

from dataclasses import replace

import numpy as np
import pytest
from golden import golden_trace
from toy import toy_model

import manako
from manako.analysis.compare import Comparison, compare
from manako.errors import UsageError
from manako.model import Model
from manako.sampling import Sampling
from manako.trace.record import Trace, Vocabulary


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model()


def tokens(comparison: Comparison) -> list[list[int]]:
    return [trace.columns.token_id.tolist() for trace in comparison.traces]


def test_all_runs_have_the_same_luck(model: Model) -> None:
    found = manako.compare(model, "私は", temperatures=(0.3, 0.8, 1.2), seed=5, max_new_tokens=8)
    assert found.temperatures == (0.3, 0.8, 1.2)
    assert [trace.header.sampling.temperature for trace in found.traces] == [0.3, 0.8, 1.2]
    shortest = min(map(len, found.traces))
    for trace in found.traces:
        assert trace.columns.u[:shortest].tolist() == found.traces[0].columns.u[:shortest].tolist()
        assert trace.header.seed == 5


@pytest.mark.parametrize("seed", range(30))
def test_diverged_at_is_the_first_difference(model: Model, seed: int) -> None:
    found = compare(model, "猫", temperatures=(0.2, 0.9, 2.0), seed=seed, max_new_tokens=6)
    each = tokens(found)
    expected = next((i for i, column in enumerate(zip(*each, strict=False)) if len(set(column)) > 1), None)
    assert found.diverged_at == expected
    last = len(each[0]) - 1 if expected is None else expected
    for index in range(last + 1):
        steps = found.steps(index)
        assert len({step.bytes_before for step in steps}) == 1 and len({step.u for step in steps}) == 1
        rows = [trace.logits[index] for trace in found.traces]  # the same text before: the same row
        assert all(np.array_equal(row, rows[0]) for row in rows)
    with pytest.raises(
        UsageError, match=f"step {last + 2} cannot be compared: the runs share their text only up to step {last + 1}"
    ):
        found.steps(last + 1)
    with pytest.raises(UsageError):
        found.steps(-1)


def test_equal_temperatures_never_part(model: Model) -> None:
    found = compare(model, "あ", temperatures=(0.8, 0.8), seed=1, max_new_tokens=10)
    assert found.diverged_at is None and tokens(found)[0] == tokens(found)[1]


def test_temperature_zero_is_greedy_beside_others(model: Model) -> None:
    found = compare(model, "あ", temperatures=(0, 1.0), seed=2, max_new_tokens=5)
    assert found.temperatures == (0.0, 1.0)
    for i, trace in enumerate(found.traces[:1]):
        assert all(trace.logits[j].argmax() == t for j, t in enumerate(trace.columns.token_id)), i


def test_nothing_to_draw(model: Model) -> None:
    found = compare(model, "あ", temperatures=(0.5, 1.0), max_new_tokens=0)
    assert found.diverged_at is None and [len(t) for t in found.traces] == [0, 0]
    with pytest.raises(UsageError):
        found.steps(0)


def test_a_run_that_ends_early_has_parted_there() -> None:
    """The first run ends its document at step 2 (counted from 0); the other goes on."""
    short, long = golden_trace(3), golden_trace(6)
    short = replace(short, columns=replace(short.columns, token_id=np.array([*short.columns.token_id[:2], 0])))
    assert Comparison((short, long)).diverged_at == 2


def test_other_settings_reach_every_run(model: Model) -> None:
    found = compare(model, "あ", temperatures=(0.5, 1.5), seed=0, max_new_tokens=4, top_k=3, stop=("zzz",))
    assert {trace.header.sampling.top_k for trace in found.traces} == {3}
    assert {trace.header.stop for trace in found.traces} == {("zzz",)}
    assert found.traces[1].header.sampling == Sampling(temperature=1.5, top_k=3)


@pytest.mark.parametrize(("temperatures", "got"), [((), 0), ((0.8,), 1)])
def test_fewer_than_two_temperatures(model: Model, temperatures: tuple[float, ...], got: int) -> None:
    with pytest.raises(UsageError, match=f"at least two runs, got {got}"):
        compare(model, "あ", temperatures=temperatures)


def test_a_temperature_that_makes_no_sense(model: Model) -> None:
    with pytest.raises(UsageError, match="temperature must be 0 or a positive finite number such as 0.8, got -1"):
        compare(model, "あ", temperatures=(0.8, -1))


def test_each_run_is_measured_against_the_one_it_agrees_with_longest(model: Model) -> None:
    for seed in range(20):
        found = compare(model, "猫", temperatures=(0.2, 0.9, 2.0), seed=seed, max_new_tokens=6)
        each = tokens(found)
        for a in range(3):
            for b in range(3):
                expected = next((i for i, (x, y) in enumerate(zip(each[a], each[b], strict=False)) if x != y), None)
                assert found.parts(a, b) == found.common(a, b) == expected
        lengths = [found.common(2, other) for other in (0, 1)]
        best = max((float("inf") if n is None else n) for n in lengths)
        near = lengths[found.nearest(2, [0, 1])]
        assert (float("inf") if near is None else near) == best


def in_pieces(pieces: list[str], name: str, special: tuple[int, ...] = ()) -> Trace:
    """A made-up run that wrote these tokens, with a tokenizer of its own."""
    trace = golden_trace(len(pieces))
    spelled = [piece.encode() for piece in pieces] + [b"?"] * (trace.vocabulary.size - len(pieces))
    columns = replace(trace.columns, token_id=np.arange(len(pieces), dtype=np.int32), prompt_ids=np.array([], np.int32))
    made_by = replace(trace.header.model, tokenizer_sha256=name)
    vocabulary = Vocabulary(spelled, trace.vocabulary.size, frozenset(special))
    return replace(trace, header=replace(trace.header, model=made_by), columns=columns, vocabulary=vocabulary)


def test_other_tokenizers_are_aligned_by_their_text() -> None:
    found = Comparison((in_pieces(["ab", "c", "de"], "one"), in_pieces(["a", "b", "cd", "f"], "two")))
    assert found.common(0, 1) == 4  # "abcd", then "e" against "f"
    assert (found.parts(0, 1), found.parts(1, 0)) == (2, 3)
    assert found.diverged_at == 1  # behind "ab", the last place before it where both have a token
    assert [(run, step.index) for run, step in found.at(1)] == [(0, 1), (1, 2)]
    assert [run for run, _ in found.at(2)] == [0]  # "abc" is no place of the other one
    assert list(found.rows()) == [[0, 0], [None, 1], [1, 2], [2, None], [None, 3]]
    same = Comparison((in_pieces(["ab"], "one"), in_pieces(["a", "b", "c"], "two")))
    assert same.diverged_at is None and same.parts(1, 0) is None


def test_a_token_that_is_no_text_has_its_place_between_other_tokenizers() -> None:
    """A special token, or one without bytes: no step of it is lost, and the runs part at one step, whoever asks."""
    found = Comparison((in_pieces(["ab", "<s>", "c"], "one", special=(1,)), in_pieces(["a", "b", "c", "d"], "two")))
    assert (found.common(0, 1), found.parts(0, 1), found.parts(1, 0), found.diverged_at) == (2, 1, 2, 1)
    assert [[(run, step.index) for run, step in found.at(n)] for n in (1, 2)] == [[(0, 1), (1, 2)], [(0, 2)]]
    assert list(found.rows()) == [[0, 0], [None, 1], [1, 2], [2, 3]]
    empty = Comparison((in_pieces(["ab", "", "", "c"], "one"), in_pieces(["ab", "", "c"], "two")))
    assert empty.parts(0, 1) == empty.diverged_at == 2
    assert list(empty.rows()) == [[0, 0], [1, 1], [2, 2], [3, None]]
    said = in_pieces(["ab", "<s>"], "one", special=(1,))
    assert Comparison((said, in_pieces(["<s>", "<s>"], "two", special=(1,)))).parts(0, 1) == 0  # a text is none
    other = Comparison((said, in_pieces(["a", "b", "</s>"], "two", special=(2,))))
    assert other.parts(0, 1) == 1
    ended = [replace(trace, header=replace(trace.header, end="document_end")) for trace in other.traces]
    assert Comparison((ended[0], ended[1])).diverged_at is None  # by whatever name each of them ends a document
