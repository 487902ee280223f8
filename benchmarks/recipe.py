"""Bits per character of an embedded model beside nanoGPT's own recipe at its size, on as many tokens of the same text.

    python recipe.py NANOGPT PACKED [--model demo-en] [--steps 5361] [--batch 16] [--characters 12000]

NANOGPT is a clone of karpathy/nanoGPT, PACKED what the model was trained on, steps and batch what its card says. The
recipe is nanoGPT's for characters (config/train_shakespeare_char.py: AdamW at 1e-3, 100 steps of warm-up, a cosine to
a tenth) without dropout, since hardly any text is read twice, and its products are in bfloat16, as ours were. Both are
scored on the first characters of each held-out work, each character once.

Special here: nanoGPT knows no document, so works follow each other behind one line feed, in training and in scoring.
The embedded model did not begin from random weights, as its card says: this compares what is shipped, not two recipes.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import calibration, report
from nanogpt import imported, prepare, timed, unpack

import manako
from manako.corpus.packed import open_packed
from manako.refs import Ref

LOWER = """
import runpy, sys, torch
sys.argv[0] = "train.py"
with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # else every step would have the first weights
    runpy.run_path("train.py", run_name="__main__")
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("nanogpt", type=Path)
    options.add_argument("packed", type=Path)
    options.add_argument("--model", default="demo-en")
    options.add_argument("--steps", type=int, default=5361)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--characters", type=int, default=12_000, help="of each held-out work, from its start")
    given = options.parse_args()
    start, ours, corpus = calibration(), manako.load(given.model), open_packed(given.packed)
    decode = Ref.parse(str(given.packed)).tokenizer().decode
    texts = [decode(ids.tolist()).decode()[: given.characters] for ids in corpus.validation.documents(corpus.start_id)]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        unpack(given.nanogpt, place)
        prepare(corpus, place / "data" / "packed")
        taken = theirs(place, ours.config, given.steps, given.batch)
        other = manako.load(imported(place, 0))
    text = "\n".join(texts)
    bits = {"ours": ours.evaluate(text).bits_per_character, "nanogpt": other.evaluate(text).bits_per_character}
    assert bits["nanogpt"] < math.log2(other.config.vocab_size), f"nanoGPT has learnt nothing: {bits}"
    tokens = given.steps * given.batch * ours.config.block_size
    report(
        f"{given.model} beside nanoGPT's recipe",
        "below nanoGPT's",
        start,
        bits_per_character=bits,
        ratio=bits["ours"] / bits["nanogpt"],
        parameters={"ours": ours.engine.n_parameters, "nanogpt": other.engine.n_parameters},
        tokens=tokens,
        scored_characters=len(text),
        seconds=taken,
    )


def theirs(place: Path, shape: Any, steps: int, batch: int) -> dict[str, Any]:
    """A run of nanoGPT's recipe at a shape; its last weights are in place/out/ckpt.pt."""
    settings = {"dataset": "packed", "out_dir": "out", "always_save_checkpoint": True, "eval_interval": steps}
    settings |= {"eval_iters": 20, "max_iters": steps, "lr_decay_iters": steps, "batch_size": batch, "dropout": 0.0}
    settings |= {name: getattr(shape, name) for name in ("n_layer", "n_head", "n_embd", "block_size")}
    settings |= {"device": "cpu", "compile": False}
    words = [f"--{name}={value}" for name, value in settings.items()]
    return timed([sys.executable, "-c", LOWER, "config/train_shakespeare_char.py", *words], place)


if __name__ == "__main__":
    main()
