#!/usr/bin/env python3
"""Ship a finished run as the embedded model: float16 weights, and the held-out figures of its card.

    python scripts/ship_demo.py runs/demo corpora/aozora

The first folder is the run, of which the best checkpoint is taken, the second the packed corpus it was trained on.

The figures are those of the shipped float16 file: every character of every held-out work scored once, each work by
itself.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

import manako
from manako.corpus.packed import open_packed
from manako.formats import run_folder
from manako.formats.model_folder import read_checkpoint, write_checkpoint
from manako.refs import DEMO


def main(run: Path, corpus: Path) -> None:
    source = read_checkpoint(run_folder.checkpoint(run))
    card = (DEMO / "README.md").read_text(encoding="utf-8") if (DEMO / "README.md").exists() else ""
    shutil.rmtree(DEMO, ignore_errors=True)
    halves = {name: tensor.astype(np.float16) for name, tensor in source.tensors.items()}
    write_checkpoint(DEMO, source.config, halves, source.tokenizer)
    (DEMO / "README.md").write_text(card, encoding="utf-8")

    model = manako.load("demo")
    packed = open_packed(corpus)
    held_out = [model.tokenizer.decode(ids.tolist()).decode() for ids in packed.validation.documents(packed.start_id)]
    results = [model.evaluate(text) for text in held_out]
    bits = sum(r.bits_per_character * r.characters for r in results)
    characters = sum(r.characters for r in results)
    size = sum(len(text.encode()) for text in held_out)
    figures = {
        "works": len(held_out),
        "characters": characters,
        "bits_per_character": bits / characters,
        "bits_per_byte": bits / size,
        "file_bytes": sum(f.stat().st_size for f in DEMO.iterdir()),
    }
    print(json.dumps(figures, indent=2))
    for prompt in ("私は", "吾輩は猫", "山の"):
        for t in (0.3, 0.8, 1.2):
            print(f"T={t}  {model.trace(prompt, max_new_tokens=60, temperature=t, seed=0).text!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
