"""`watch --view lines` against generation alone: the same text and seed, in this process, output to a file.

Two lengths: 250 tokens, which stay in the context, so that printing has its largest share; and 1,000, most of which are
exact windows past it. Times are of the processor, since a busy machine stretches the clock. Target: <= 1.2 times.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from measure import calibration, ratio, report

import manako
from manako.cli.output import Screen
from manako.cli.showing import Show
from manako.engines.generation import Generation

ROUNDS = {250: 9, 1_000: 1}


def alone(run: Generation) -> None:
    while run.advance():
        pass
    run.trace()


def in_lines(run: Generation) -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        show = Show(Screen(10, False, "never"), "lines", "p")
        show.begin(run.record().header)
        index = 0
        while run.advance():
            show.step(run.record(), index, lambda: run.step, run.last)
            index += 1
        show.end(run.trace())


def main() -> None:
    model, start, found = manako.load("demo"), calibration(), {}

    def taken(action: Callable[[Generation], None], count: int) -> float:
        began = time.process_time()
        action(model.generate("私は", max_new_tokens=count, seed=1))
        return time.process_time() - began

    taken(in_lines, 20)  # what is done once
    for count, rounds in ROUNDS.items():
        pairs = [(taken(in_lines, count), taken(alone, count)) for _ in range(rounds)]
        found[f"tokens_{count}"] = ratio(*zip(*pairs, strict=True)) | {"pairs": pairs}
    report("lines", "<= 1.2", start, **found, load_average=os.getloadavg()[0])


if __name__ == "__main__":
    main()
