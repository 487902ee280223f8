"""A tiny corpus and tiny runs, for every test of training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from manako import messages
from manako.corpus.documents import Document
from manako.corpus.packed import PackedCorpus, Shards, open_packed
from manako.corpus.packing import Vocabulary, pack
from manako.families.gpt2 import ModelConfig
from manako.formats import run_folder
from manako.formats.model_folder import read_checkpoint
from manako.tokenizer import start_id_of, train_characters
from manako.training.config import TrainingConfig
from manako.training.loop import Trainer
from manako.training.processes import Processes
from manako.training.state import keep_lines

TEXT = "私は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 40
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16}
SETTINGS = {
    "steps": 60,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "warmup_steps": 10,
    "eval_interval": 20,
    "snapshots": 0,
}


def corpus_of(folder: Path, *texts: str, validation: float = 0.1) -> PackedCorpus:
    """A packed corpus of these texts, or the one that is there."""
    if folder.exists():
        return open_packed(folder)

    def characters(given: Any) -> Vocabulary:
        t = train_characters(given, min_count=1)
        return Vocabulary(t.source, t.vocab_size, start_id_of(t) or 0, t.encode_documents)

    documents = [Document(str(n), text) for n, text in enumerate(texts or (TEXT,))]
    return pack(documents, folder, characters, validation_share=validation)


def trainer(
    run: Path,
    corpus: PackedCorpus,
    shape: Any = None,
    here: Processes | None = None,
    watch: Any = None,
    **settings: Any,
) -> tuple[Trainer, list[str]]:
    """A trainer of a new run, and the lines that it reports."""
    config = ModelConfig(
        **(SHAPE | (shape or {})), vocab_size=corpus.vocab_size, start_id=corpus.start_id, end_ids=(corpus.start_id,)
    )
    lines: list[str] = []

    def note(key: str, **values: object) -> None:
        lines.extend(messages.text(key, lang, **values) for lang in messages.LANGUAGES)  # every line can be said

    wanted = {"dtype": "float32"} | SETTINGS | settings
    run.mkdir(parents=True, exist_ok=True)
    return Trainer(run, config, TrainingConfig(**wanted), corpus, here or Processes(), note, watch), lines


def train(run: Path, corpus: PackedCorpus | None = None, **more: Any) -> list[str]:
    """A whole tiny run; returns what was reported."""
    made, lines = trainer(run, corpus or corpus_of(run.parent / "corpus"), **more)
    made.plan()
    made.save()
    made.go()
    return lines


def resume(run: Path, corpus: PackedCorpus | None = None, **more: Any) -> Trainer:
    """Go on with a run to its end."""
    made, _ = trainer(run, corpus or corpus_of(run.parent / "corpus"), **more)
    folder = run_folder.pointed(run, run_folder.LAST)
    made.restore(read_checkpoint(folder), folder)
    run_folder.rewind(run, made.progress.step, made.progress.best_step)
    keep_lines(run / "metrics.jsonl", made.progress.step)
    made.go()
    return made


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def timeless(run: Path) -> list[dict[str, Any]]:
    """The same without what a clock or the memory says."""
    own = ("seconds", "tokens_s", "mfu", "memory")
    return [{k: v for k, v in line.items() if k not in own} for line in metrics(run)]


def checkpoint_bytes(run: Path, step: int) -> dict[str, bytes]:
    """The weights and the training arrays of a checkpoint, to the bit."""
    folder = run_folder.step_folder(run, step)
    return {name: (folder / name).read_bytes() for name in ("model.safetensors", run_folder.STATE_ARRAYS)}


class Numbers(Shards):
    """Ids 0, 1, 2 ..., so that a window tells where it lies."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def windows(self, starts: object, length: int) -> np.ndarray:
        places = np.asarray(starts)[:, None] + np.arange(length)
        assert not places.size or (places.min() >= 0 and places.max() < self.count)
        return places
