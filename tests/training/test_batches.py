"""The order of windows: every block once an epoch, the same from any position, shared among ranks, another by seed."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import Numbers, corpus_of

from manako.errors import UsageError
from manako.training.batches import Batches, pairs


@pytest.mark.parametrize("tokens", [5, 8, 9, 12, 13, 103])
def test_an_epoch_has_every_block_once_at_one_phase(tokens: int) -> None:
    batches = Batches(Numbers(tokens), 4, seed=3, start_id=0)
    phases = set()
    for epoch in range(30):
        starts = batches.windows(epoch * batches.blocks, batches.blocks)[:, 1] - 1
        phase = int(starts.min())
        assert sorted(starts) == [phase + 4 * n for n in range(batches.blocks)]
        phases.add(phase)
    assert max(phases) + 4 * batches.blocks < tokens
    assert tokens == 5 or len(phases) > 1


def test_any_position_gives_the_same_windows_whatever_was_asked_before() -> None:
    whole = Batches(Numbers(103), 4, seed=3, start_id=0).windows(0, 90)
    batches = Batches(Numbers(103), 4, seed=3, start_id=0)
    assert np.array_equal(batches.windows(50, 20), whole[50:70]) and np.array_equal(batches.windows(3, 9), whole[3:12])
    assert not np.array_equal(Batches(Numbers(103), 4, seed=4, start_id=0).windows(0, 90), whole)
    first, last = (Batches(Numbers(103), 4, seed=seed, start_id=0).windows(0, 90) for seed in (2**63, 2**64 - 1))
    assert not np.array_equal(first, last)  # of the largest seeds too every bit counts


def test_every_other_window_has_the_document_start_in_front_and_nothing_else_changed() -> None:
    batches = Batches(Numbers(103), 4, seed=3, start_id=999)
    windows = batches.windows(5, 30)
    started = np.arange(5, 35) % 2 == 0
    assert (windows[started, 0] == 999).all()
    assert (windows[~started, 0] == windows[~started, 1] - 1).all() and (np.diff(windows[:, 1:]) == 1).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_share_a_batch(size: int) -> None:
    batches = Batches(Numbers(103), 4, seed=3, start_id=0)
    whole = batches.windows(7, 8)
    parts = [batches.windows(7, 8, rank, size) for rank in range(size)]
    assert sum(map(len, parts)) == 8 and all(np.array_equal(p, whole[r::size]) for r, p in enumerate(parts))


def test_targets_are_the_ids_one_place_on(tmp_path: Path) -> None:
    windows = Batches(corpus_of(tmp_path / "c").train, 16, seed=0, start_id=0).windows(0, 5)
    parts = list(pairs(windows, 2, "cpu"))
    assert [len(ids) for ids, _ in parts] == [2, 2, 1]
    for ids, targets in parts:
        assert ids.shape[1] == targets.shape[1] == 16 and (ids[:, 1:] == targets[:, :-1]).all()


def test_a_text_shorter_than_a_block_is_refused() -> None:
    with pytest.raises(UsageError, match="block_size"):
        Batches(Numbers(16), 16, seed=0, start_id=0)
