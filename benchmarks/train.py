"""Training throughput as a share of what this machine's matrix products reach, at two shapes, in float32 and as chosen.

    python train.py

MFU counts 6 N_mm + 12 L d T operations a token and is a share of the float32 product of two 1024-square matrices, timed
around each round. bfloat16 can therefore pass 1: the share of its own product stands beside it.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import ROUNDS, calibration, report, seconds

from manako.corpus.documents import Document
from manako.corpus.packing import Vocabulary, pack
from manako.families.gpt2 import ModelConfig
from manako.tokenizer import start_id_of, train_characters
from manako.training import machine
from manako.training.config import TrainingConfig
from manako.training.loop import Trainer
from manako.training.processes import Processes

VOCABULARY = 3_554
SHAPES = {
    "4/4/128/256, batch 32": ((4, 4, 128, 256, 32), 0.55),
    "6/8/256/512, batch 8": ((6, 8, 256, 512, 8), 0.70),
}
SIDES: dict[str, dict[str, Any]] = {
    "adamw float32": {"optimizer": "adamw", "dtype": "float32"},
    "muon float32": {"optimizer": "muon", "dtype": "float32"},
    "adamw auto": {"optimizer": "adamw", "dtype": "auto"},
    "muon auto": {"optimizer": "muon", "dtype": "auto"},
}


def main() -> None:
    start = calibration()
    with tempfile.TemporaryDirectory() as place:
        corpus = pack([Document("random", random_text())], Path(place) / "corpus", characters, validation_share=0.1)
        assert corpus.vocab_size == VOCABULARY
        results = {name: shape_result(Path(place), corpus, *given) for name, given in SHAPES.items()}
    target = "MFU >= 0.55 at 4/4/128/256, >= 0.70 at 6/8/256/512"
    report("training throughput", target, start, torch=torch.__version__, threads=torch.get_num_threads(), **results)


def shape_result(place: Path, corpus: Any, shape: tuple[int, ...], target: float) -> dict[str, Any]:
    n_layer, n_head, n_embd, block_size, batch = shape
    config = ModelConfig(n_layer, n_head, n_embd, block_size, corpus.vocab_size, start_id=corpus.start_id)
    work = machine.flops_per_token(config) * batch * block_size
    trainers = {
        name: Trainer(place, config, TrainingConfig(steps=1000, batch_size=batch, **s), corpus, Processes(), quiet)
        for name, s in SIDES.items()
    }
    for t in trainers.values():
        t.update()
    shares: dict[str, list[float]] = {name: [] for name in SIDES}
    own: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(ROUNDS):
        for name, t in trainers.items():
            before = machine.product_rate("cpu", torch.float32)
            took = seconds(t.update)
            rate = max(before, machine.product_rate("cpu", torch.float32))
            shares[name].append(work / took / rate)
            own[name].append(work / took / machine.product_rate("cpu", t.dtype))
    return {
        "target_mfu": target,
        **{
            name: {
                "dtype": str(trainers[name].dtype),
                "mfu": round(statistics.median(values), 3),
                "rounds": [round(v, 3) for v in values],
                "share_of_its_own_product": round(statistics.median(own[name]), 3),
            }
            for name, values in shares.items()
        },
    }


def characters(texts: Any) -> Vocabulary:
    t = train_characters(texts, min_count=1)
    return Vocabulary(t.source, t.vocab_size, start_id_of(t) or 0, t.encode_documents)


def random_text() -> str:
    """Every character of the vocabulary, in no order."""
    return "".join(chr(0x4E00 + int(i)) for i in np.random.default_rng(0).permutation(400_000) % (VOCABULARY - 257))


def quiet(key: str, **values: object) -> None: ...


if __name__ == "__main__":
    main()
