"""What the snapshots of a training cost: the time of one, times as many as a run has, as a share of the run's time.

    python snapshots.py

At the shape and length of each laptop preset, with a vocabulary of the size that Japanese characters need.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from measure import ROUNDS, calibration, report, seconds
from train import characters, quiet, random_text

from manako.corpus.documents import Document
from manako.corpus.packing import pack
from manako.families.gpt2 import ModelConfig
from manako.formats import run_folder
from manako.training.config import PRESETS, SHAPE, TrainingConfig
from manako.training.loop import Trainer
from manako.training.processes import Processes


def main() -> None:
    start = calibration()
    with tempfile.TemporaryDirectory() as place:
        corpus = pack([Document("random", random_text())], Path(place) / "corpus", characters, validation_share=0.1)
        results = {name: cost(Path(place) / name, corpus, PRESETS[name]) for name in ("laptop-5min", "laptop-1h")}
    report("snapshots", "<= 3 % of the training time", start, **results)


def cost(run: Path, corpus: Any, preset: dict[str, Any]) -> dict[str, Any]:
    shape = {name: preset[name] for name in SHAPE}
    config = ModelConfig(**shape, vocab_size=corpus.vocab_size, start_id=corpus.start_id)
    trainer = Trainer(run, config, TrainingConfig(max_minutes=preset["max_minutes"]), corpus, Processes(), quiet)
    took = []
    for step in range(ROUNDS):
        trainer.progress.step = step
        took.append(seconds(trainer.snapshot))
    size = sum(path.stat().st_size for path in run_folder.step_folder(run, 0).iterdir())
    count, each = TrainingConfig.snapshots, statistics.median(took)
    return {
        "one_snapshot_s": round(each, 3),
        "rounds": [round(t, 3) for t in took],
        "one_snapshot_MB": round(size / 1e6, 1),
        "snapshots": count,
        "share_of_the_run": round(count * each / (60 * preset["max_minutes"]), 4),
    }


if __name__ == "__main__":
    main()
