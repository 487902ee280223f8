"""The lens of one step: rows worked out by hand, tokens followed by id, where the answer appears and where it wins."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import EXPONENTS, golden_inside, golden_trace, large_inside
from toy import toy_model

import manako
from manako.analysis.lens import FIRST, LensStep, lens
from manako.errors import CapabilityError


def row_of(step: int, ahead: int, extra: int = 0) -> list[float]:
    """Probabilities that the golden model has `ahead` steps later; extra: ln 2 on token 0 that many times."""
    weights = [2.0 ** (n + extra * (i == 0)) for i, n in enumerate(EXPONENTS[(step + ahead) % 12])]
    return [w / sum(weights) for w in weights]


def with_ranks(found: LensStep, *ranks: int) -> LensStep:
    """The same step, its chosen token with other ranks."""
    chosen = tuple(replace(found.chosen[0], rank=rank) for rank in ranks)
    return replace(found, layers=("embed", *map(str, range(len(ranks) - 1))), tracked=(chosen,))


def test_rows_by_hand() -> None:
    """The embedding says what step i + 4 would say, layer 0 what step i + 2 would, layer 1 the answer."""
    trace = golden_inside()
    for index in range(12):
        found = lens(trace, index)
        assert found.layers == ("embed", "0", "1")
        for layer, (ahead, extra) in enumerate(((4, 0), (2, 1), (0, 0))):
            expected = row_of(index, ahead, extra)
            best = sorted(range(12), key=lambda i: (-expected[i], i))  # noqa: B023
            assert sorted(r.id for r in found.first[layer][:1]) == best[:1]
            for place, reading in enumerate(found.first[layer], 1):
                assert reading.p == pytest.approx(expected[reading.id], abs=1e-6) and reading.rank == place
            for row in found.tracked:
                assert row[layer].p == pytest.approx(expected[row[layer].id], abs=1e-6)
                assert row[layer].rank == 1 + sum(p > expected[row[layer].id] * (1 + 1e-5) for p in expected)


def test_the_last_layer_is_the_models_own_answer() -> None:
    for trace in (
        golden_inside(),
        large_inside(),
        toy_model().trace("私は", max_new_tokens=5, seed=1, capture=["lens"]),
    ):
        for step in trace:
            chosen = lens(trace, step.index).chosen[-1]
            assert chosen.id == step.token_id and chosen.p == pytest.approx(step.chosen.p_model, rel=1e-4)


def test_tracked_are_the_chosen_token_and_every_first_one_each_once() -> None:
    for trace in (golden_inside(), toy_model(n_layer=5).trace("猫", max_new_tokens=8, seed=1, capture=["lens"])):
        for index in range(len(trace)):
            found = lens(trace, index)
            ids = [row[0].id for row in found.tracked]
            assert ids[0] == trace.steps[index].token_id and len(ids) == len(set(ids))
            assert set(ids) == {ids[0], *(row[0].id for row in found.first)}
            assert all(len(row) == len(found.layers) and len({r.id for r in row}) == 1 for row in found.tracked)


@pytest.mark.parametrize(
    ("ranks", "appears", "wins"),
    [
        ((90, 11, 10, 3, 1), 2, 4),
        ((1, 1, 1), 0, 0),
        ((1, 2, 1), 0, 2),  # first, lost, and first again: wins at the last return
        ((50, 1, 1, 2), 1, None),
        ((50, 40, 11), None, None),
        ((50, 1), 1, 1),
    ],
)
def test_where_it_appears_and_wins(ranks: tuple[int, ...], appears: int | None, wins: int | None) -> None:
    found = with_ranks(lens(golden_inside(1), 0), *ranks)
    assert (found.appears, found.wins) == (appears, wins)


def test_it_appears_where_it_is_listed() -> None:
    """A rank among the first ten and a place in the list are the same thing, but for ties at its end."""
    trace = toy_model(n_layer=4, seed=2).trace("猫", max_new_tokens=12, seed=5, capture=["lens"])
    for index in range(len(trace)):
        found = lens(trace, index)
        listed = [any(r.id == found.chosen[n].id for r in row) for n, row in enumerate(found.first)]
        assert listed == [reading.rank <= FIRST for reading in found.chosen]


def test_two_tokens_that_read_alike_stay_two() -> None:
    trace = golden_inside(1)
    names = [b"x"] * 12
    twins = replace(trace, vocabulary=type(trace.vocabulary)(names, 12, frozenset({0})))
    found = lens(twins, 0)
    assert len({row[0].id for row in found.tracked}) == len(found.tracked) > 1
    assert {row[0].text for row in found.tracked} == {"x"}


def test_a_saved_record_reads_the_same(tmp_path: Path) -> None:
    for trace in (golden_inside(), large_inside()):
        trace.save(tmp_path / "t.manako", force=True)
        opened = manako.open(tmp_path / "t.manako")
        for index in range(len(trace)):
            ours, theirs = lens(trace, index), lens(opened, index)
            assert (ours.layers, ours.first, ours.tracked) == (theirs.layers, theirs.first, theirs.tracked)


def test_not_on_record() -> None:
    with pytest.raises(CapabilityError, match="this trace has no lens"):
        lens(golden_trace(), 0)


def test_p_runs_over_the_whole_vocabulary() -> None:
    model = toy_model()
    trace = model.trace("私は", max_new_tokens=3, seed=0, capture=["lens", "residual"])
    for index in range(3):
        rows = model.engine.unembed(trace.residual[index]).astype(np.float64)  # [L+1, V]
        p = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
        for layer, row in enumerate(lens(trace, index).first):
            assert [r.p for r in row] == pytest.approx(np.sort(p[layer])[::-1][: len(row)].tolist(), rel=1e-5)
