"""Head scores by hand: heads that look at one place alone, and one that looks at all alike."""

import numpy as np

from manako.analysis.heads import chance, head_scores, repeated


def test_each_kind_of_head_scores_one_and_the_even_head_chance() -> None:
    n, size = 3, 7  # a start, three tokens, the same three
    heads = np.zeros((1, 4, size, size))
    for i in range(size):
        heads[0, 0, i, max(0, i - 1)] = 1
        heads[0, 1, i, max(0, i - n)] = 1
        heads[0, 2, i, max(0, i - n + 1)] = 1
        heads[0, 3, i, : i + 1] = 1 / (i + 1)
    scores = head_scores(heads, n)
    assert scores.shape == (1, 4, 3)
    assert scores[0, 0, 0] == scores[0, 1, 1] == scores[0, 2, 2] == 1
    assert scores[0, 1, 2] == scores[0, 2, 1] == scores[0, 0, 1] == 0
    assert np.allclose(scores[0, 3], chance(size, n))


def test_the_tokens_come_twice_behind_the_start() -> None:
    ids = repeated(range(5, 100), 40, [0])
    assert ids[0] == 0 and ids[1:41] == ids[41:] and len(set(ids[1:41])) == 40
    assert ids == repeated(range(5, 100), 40, [0]) != repeated(range(5, 100), 40, [0], seed=1)
