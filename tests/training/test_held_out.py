"""Which tokens an evaluation scores: each once, with half a context before it, and no document start."""

from typing import Any

import numpy as np
import pytest
import torch
from small_runs import Numbers

from manako.tokenizer import train_characters
from manako.training import held_out
from manako.training.held_out import UNSCORED, HeldOut

START = 0


class Side(Numbers):
    """Ids 1, 2, 3 ... with a document start where asked."""

    def __init__(self, count: int, starts: tuple[int, ...] = (0,)) -> None:
        super().__init__(count)
        self.starts = starts

    def windows(self, starts: object, length: int) -> Any:
        places = super().windows(starts, length)
        return np.where(np.isin(places, self.starts), START, places % 300 + 1)


class Unknown(Side):
    """One of them the token that stands for what is not in the vocabulary."""

    def __init__(self, count: int, unknown: int) -> None:
        super().__init__(count)
        self.unknown = unknown

    def windows(self, starts: object, length: int) -> Any:
        ids = super().windows(starts, length)
        return np.where(ids == 3, self.unknown, ids)


def made(side: Side, block_size: int) -> HeldOut:
    return HeldOut(
        side, block_size, train_characters(["あい" * 99 + "".join(map(chr, range(0x4E00, 0x4E60)))], 1), START
    )


@pytest.mark.parametrize("count", [2, 3, 16, 17, 18, 24, 25, 26, 103])
@pytest.mark.parametrize("block_size", [1, 2, 7, 16])
def test_each_token_is_scored_once_with_half_a_context_before_it(count: int, block_size: int) -> None:
    side = Side(count)
    whole = side.windows([0], count)[0]
    found = made(side, block_size)
    scored = found.targets != UNSCORED
    assert found.targets[scored].tolist() == whole[1:].tolist() and found.tokens == count - 1
    for row in torch.nonzero(scored.any(1)).flatten().tolist():
        first = int(torch.nonzero(scored[row])[0])
        assert row == 0 or first >= block_size - max(1, block_size // 2)
        for place in torch.nonzero(scored[row]).flatten().tolist():
            at = whole.tolist().index(int(found.targets[row, place]))
            assert found.ids[row, : place + 1].tolist() == whole[at - place - 1 : at].tolist()


def test_document_starts_are_seen_and_not_scored() -> None:
    found = made(Side(40, (0, 10, 39)), 16)
    assert found.tokens == 40 - 3 and START not in found.targets and (found.ids[:, 1:] == START).any()


def test_less_than_two_tokens_are_nothing() -> None:
    assert made(Side(1), 16).tokens == 0 and len(made(Side(1), 16).ids) == 0


def test_a_long_text_is_scored_at_evenly_spread_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "MOST_TOKENS", 80)
    found = made(Side(1000), 16)
    assert found.ids.shape == (10, 16) and 80 <= found.tokens <= 88
    firsts = [int(row[0]) for row in found.ids]
    assert firsts[0] == START and len(set(firsts)) == 10


def test_an_unknown_token_is_seen_and_not_scored() -> None:
    """It stands for no character that anybody knows."""
    tokenizer = train_characters(["あいう"], 1)
    unknown = tokenizer.unknown_id = len(tokenizer.token_bytes) - 1
    found = HeldOut(Unknown(5, unknown), 16, tokenizer, START)
    assert found.ids[0, :4].tolist() == [START, 2, unknown, 4]
    assert found.targets[0, :4].tolist() == [2, UNSCORED, 4, 5] and found.tokens == 3
