#!/usr/bin/env python3
"""Make the trace that `manako serve` shows where it is given none: a sentence by each embedded model.

    python scripts/make_example.py

Run it again whenever an embedded model or the schema of a trace changes; a seed was chosen for a sentence that is
whole.
"""

import manako
from manako.refs import EMBEDDED, installed

TEMPERATURE = 0.8
WRITTEN = {"demo": ("私は", 27, 15), "demo-en": ("The old man", 19, 15)}  # prompt, seed, tokens
CAPTURE = ("attention", "lens", "contributions")


def main() -> None:
    for name in installed():
        prompt, seed, steps = WRITTEN[name]
        told = {"max_new_tokens": steps, "temperature": TEMPERATURE, "seed": seed}
        trace = manako.load(name).trace(prompt, capture=CAPTURE, **told)
        path = EMBEDDED[name] / "example.manako"
        trace.save(path, force=True)
        print(f"{trace.text} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
