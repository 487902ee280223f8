#!/usr/bin/env python3
"""Make the trace that `manako serve` shows where it is given none: a sentence by the embedded model.

    python scripts/make_example.py

Run it again whenever the embedded model or the schema of a trace changes; the seed was chosen for a sentence that is
whole.
"""

import manako
from manako.refs import DEMO

PROMPT, STEPS, TEMPERATURE, SEED = "私は", 15, 0.8, 27
CAPTURE = ("attention", "lens", "contributions")


def main() -> None:
    trace = manako.load("demo").trace(PROMPT, max_new_tokens=STEPS, temperature=TEMPERATURE, seed=SEED, capture=CAPTURE)
    trace.save(DEMO / "example.manako", force=True)
    print(f"{trace.text} ({(DEMO / 'example.manako').stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
