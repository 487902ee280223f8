"""Which steps of a run leave a snapshot: a model folder without the state of training, to see how the model came to be.

Special here: a quarter of them follows the doubling of the steps (0, 1, 2, 4, 8 ...), for what a model learns first it
learns in few steps; the others divide the run evenly. "Evenly" goes by the share of the run that is over, which is on
record for each step, not by a number of steps: so a run whose length is given in time has its snapshots evenly over
that time, and a run that was resumed or replayed has the same ones as the run that never stopped.
"""

from collections.abc import Sequence

_ROUNDING = 1e-9  # 3/12 of 12 parts is the third of them, whatever the last bit says


def due(step: int, before: float, after: float, count: int) -> bool:
    """Whether the weights after `step` steps are a snapshot, of at most `count` in a whole run (0: none).

    before, after: the share of the run that was over as the last step began, and that is over now.

    >>> [step for step in range(13) if due(step, (step - 1) / 12, step / 12, 8)]
    [0, 1, 2, 4, 6, 8, 10, 12]
    """
    if not count:
        return False
    early = max(1, count // 4)
    even = count - early
    doubling = step == 0 or (step & (step - 1) == 0 and step.bit_length() < early)
    return doubling or int(after * even + _ROUNDING) > int(before * even + _ROUNDING)


def all_due(shares: Sequence[float], done: float, count: int) -> set[int]:
    """The snapshots of a run so far. shares: of each step, what was over as it began; done: what is over now."""
    known = [*shares, done]
    return {0} | {n for n in range(1, len(known)) if due(n, known[n - 1], known[n], count)} if count else set()
