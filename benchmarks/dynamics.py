"""`manako dynamics` at the shape of the embedded model: 60 tokens under 48 snapshots, whole command; and n-gram counts.

    python dynamics.py [PACKED]

The snapshots have random weights: what is measured does not depend on what they have learned. PACKED: a packed corpus
of some size, whose n-grams are counted for as many places as `manako dynamics` looks at.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import calibration, report
from train import VOCABULARY, characters, random_text

from manako.corpus.documents import Document
from manako.corpus.packing import pack
from manako.families.gpt2 import ModelConfig
from manako.formats import run_folder
from manako.tokenizer import Tokenizer
from manako.training.run import keep_settings

SNAPSHOTS, TOKENS = 48, 60
COUNT = """
import sys
from pathlib import Path
from manako.analysis.ngrams import ngrams
from manako.corpus.packed import open_packed
ngrams(open_packed(Path(sys.argv[1])), 256, 1024)
"""


def main(packed: str | None = None) -> None:
    start, found = calibration(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as place:
        run, text = made_run(Path(place)), random_text()[:TOKENS]
        file = Path(place) / "d.manako"
        found["whole_command"] = measured("-m", "manako", "dynamics", str(run), text, "--save", str(file))
        found["file_MB"] = round(file.stat().st_size / 1e6, 2)
    if packed:
        found["ngrams"] = measured("-c", COUNT, packed)
    report("dynamics", "<= 15 s, <= 1 GB, <= 6 MB; n-grams of 64 M tokens <= 60 s, <= 2 GB", start, **found)


def made_run(place: Path) -> Path:
    corpus = pack([Document("random", random_text())], place / "corpus", characters, validation_share=0.1)
    assert corpus.vocab_size == VOCABULARY
    config = ModelConfig(4, 4, 256, 256, VOCABULARY, start_id=corpus.start_id, end_ids=(corpus.start_id,))
    generator, tokenizer, run = np.random.default_rng(0), Tokenizer(corpus.tokenizer_source), place / "run"
    for step in range(SNAPSHOTS):
        shapes = config.parameters()
        weights = {name: 0.02 * generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
        run_folder.save_snapshot(run, step, config, weights, tokenizer)
    last = run_folder.step_folder(run, SNAPSHOTS - 1)
    (last / run_folder.STATE).write_text(json.dumps({"corpus": corpus.digest}))
    run_folder.point(run, run_folder.LAST, last)
    keep_settings(run, {}, [str(place / "corpus")])
    return run


def measured(*words: str) -> dict[str, float]:
    """Wall and processor seconds, and the most memory of a process of its own."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0
    wall, processor = time.perf_counter() - began, used.ru_utime + used.ru_stime
    return {"wall_s": round(wall, 1), "processor_s": round(processor, 1), "memory_MB": round(used.ru_maxrss / 1e3)}


if __name__ == "__main__":
    main(*sys.argv[1:])
