"""Which tokens the model saw at each step: what an engine does, and what a record of it must say.

Special here: a generation sees the last n_positions tokens. A score reads windows that overlap by half, so each token
is scored once, with at least half a context before it but at the start of the text.
"""

from collections.abc import Iterator

_LOGITS = 2**26  # of one window of a score, 256 MB: a context of 131,072 tokens would take many gigabytes
_SHORTEST = 1024


def generation_start(tokens: int, n_positions: int) -> int:
    """The first token that the model saw of so many.

    >>> generation_start(5, 8), generation_start(10, 8)
    (0, 2)
    """
    return max(0, tokens - n_positions)


def score_context(n_positions: int, vocab_size: int) -> int:
    """How many tokens a window of a score has at most."""
    return min(n_positions, max(_SHORTEST, _LOGITS // vocab_size))


def score_windows(tokens: int, context: int, given: int = 1) -> Iterator[tuple[int, int, int]]:
    """(first token seen, first scored, end of those) of each window over so many tokens; `given` are not scored.

    A token's window is the same however many stand before it as given.

    >>> list(score_windows(9, 4)), list(score_windows(9, 4, given=6))
    ([(0, 1, 5), (2, 5, 7), (4, 7, 9)], [(2, 6, 7), (4, 7, 9)])
    """
    hop = max(1, context // 2)
    start, done = 0, 0
    while done < tokens:
        stop = min(start + context + 1, tokens)  # the last token of a window is scored, not seen
        if stop > given:
            yield start, max(done, given), stop
        done = stop
        start = max(0, done - 1 - (context - hop))
