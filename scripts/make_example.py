#!/usr/bin/env python3
"""Make the trace that `manako serve` shows where it is given none: a sentence by each embedded model.

    python scripts/make_example.py

Run it again whenever an embedded model or the schema of a trace changes: it is the first text of the lessons, which
scripts/lesson_texts.py finds.
"""

import json

import manako
from manako.refs import EMBEDDED, installed
from manako.views.html import WEB

LESSONS = json.loads((WEB / "lessons/lessons.json").read_text(encoding="utf-8"))
CAPTURE = ("attention", "lens", "contributions")


def main() -> None:
    for name in installed():
        text = LESSONS["models"][name]["texts"]["example"]
        told = {"max_new_tokens": text["count"], "temperature": LESSONS["temperature"], "seed": text["seed"]}
        trace = manako.load(name).trace(text["prompt"], capture=CAPTURE, **told)
        path = EMBEDDED[name] / "example.manako"
        trace.save(path, force=True)
        print(f"{trace.text} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
