"""What if: the same row of logits and the same random number under other settings.

Special here: nothing is asked of the model, so this needs the whole row on record; a trace that holds only the first
candidates of each step says so. The penalties see the text as it stood before the step.
"""

from dataclasses import replace

from manako.sampling import Sampling, distribution, draw
from manako.trace.record import Step, Trace, step_of


def what_if(trace: Trace, index: int, sampling: Sampling, u: float | None = None) -> Step:
    """A step as it would have been with `sampling`: other probabilities, perhaps another token.

    index: of the step, as in `trace.steps`. u: the random number to draw with, by default the one on record; a score
    has none, and keeps its token.
    Raises ManakoError where whole rows are not on record.

    >>> import manako
    >>> trace = manako.load("demo").trace("私は", max_new_tokens=3, seed=1)
    >>> what_if(trace, 2, Sampling(temperature=0)).chosen.rank
    1
    """
    d = distribution(trace.logits[index], sampling, trace.ids_before(index))
    step = step_of(trace, index, d)
    u = step.u if u is None else u
    if u is None:
        return step
    token_id = draw(d, u).token_id
    return replace(step, u=u, token_id=token_id, chosen=step.candidates[d.rank(token_id) - 1])
