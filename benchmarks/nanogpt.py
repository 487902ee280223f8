"""Bits per character after equal processor time: one of our presets, and nanoGPT as its README says for a CPU.

    python nanogpt.py NANOGPT PACKED... [--preset laptop-5min] [--seconds 300] [--seeds 3] [--first-seed 0]

NANOGPT is a clone of karpathy/nanoGPT, PACKED what `manako corpus build` made. Both sides are whole processes, start
included, and `manako eval` scores them on the same first characters of the held-out side: each character once, with at
least half of the model's own context before it.

Special here: ours trains first, and nanoGPT gets the processor time that it took, by the time that two short runs need;
the time by the clock stands beside it. Ours stops by the clock, so an idle machine is needed all the same. Of the
README's settings only the number of iterations is another, and its evaluations in between are left out, which gives it
more steps. It has no setting for its seed, so the one that it asks for is moved. Its vocabulary is made as its own
prepare.py does: all characters of both sides.
"""

import argparse
import json
import os
import pickle
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import calibration, report

from manako.corpus.packed import PackedCorpus, open_packed
from manako.tokenizer import Tokenizer
from manako.training.config import PRESETS

README = "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12 --n_layer=4"
README += " --n_head=4 --n_embd=128 --dropout=0.0"
TARGETS = {"laptop-5min": 0.97, "laptop-1h": 0.95}  # preset -> at most so much of nanoGPT's bits
SCORED = 100_000  # characters
SHORT = (50, 450)  # iterations of the two runs that tell what nanoGPT needs
SEEDED = """
import runpy, sys, torch
own, seed = torch.manual_seed, int(sys.argv.pop(1))
torch.manual_seed = lambda number: own(number + seed)
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""
PASSIVE = os.environ | {"OMP_WAIT_POLICY": "passive"}  # as manako sets it: waiting is no processor time


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("nanogpt", type=Path)
    options.add_argument("packed", type=Path, nargs="+")
    options.add_argument("--preset", choices=TARGETS, default="laptop-5min")
    options.add_argument("--seconds", type=float, help="another time than the preset's own")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--first-seed", type=int, default=0, help="where a run of three is done in parts")
    given = options.parse_args()
    seconds = given.seconds or 60 * PRESETS[given.preset]["max_minutes"]
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    start, results = calibration(), {}
    for packed in given.packed:
        with tempfile.TemporaryDirectory() as place:
            unpack(given.nanogpt, Path(place))
            results[packed.name] = compared(Path(place), packed, given.preset, seconds, seeds)
    report(
        f"bits per character beside nanoGPT, {given.preset}",
        f"<= {TARGETS[given.preset]} of nanoGPT's",
        start,
        **results,
    )


def unpack(nanogpt: Path, place: Path) -> None:
    """Put nanoGPT as it was committed last into a folder."""
    archive = subprocess.run(["git", "-C", nanogpt, "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", place], input=archive, check=True)


def compared(place: Path, packed: Path, preset: str, seconds: float, seeds: range) -> dict[str, Any]:
    """The runs of all seeds on one corpus, in pairs."""
    corpus = open_packed(packed)
    text = prepare(corpus, place / "data" / "packed")
    (place / "held_out.txt").write_bytes(text.encode())
    small, large = (theirs(place, iterations, 0)["processor"] for iterations in SHORT)
    each = (large - small) / (SHORT[1] - SHORT[0])
    pairs: list[dict[str, Any]] = []
    for seed in seeds:
        run = place / f"ours-{seed}"
        command = ["manako", "train", "--data", packed.resolve(), "--out", run, "--preset", preset]
        ours = timed([sys.executable, "-m", *command, "--max-minutes", seconds / 60, "--seed", seed], place)
        ours["bits"] = scored(run, place)
        other = theirs(place, max(1, round((ours["processor"] - small) / each) + SHORT[0]), seed)
        other["bits"] = scored(imported(place, seed), place)
        pairs.append({"ours": ours, "nanogpt": other, "ratio": ours["bits"] / other["bits"]})
        print(packed.name, seed, pairs[-1], file=sys.stderr, flush=True)
    return {"ratio": statistics.mean(p["ratio"] for p in pairs), "scored_characters": len(text), "runs": pairs}


def prepare(corpus: PackedCorpus, folder: Path) -> str:
    """Write the corpus as nanoGPT's data; returns the text to score."""
    tokenizer = Tokenizer(corpus.tokenizer_source)
    texts = [
        "\n".join(tokenizer.decode(ids.tolist()).decode() for ids in side.documents(corpus.start_id))
        for side in (corpus.train, corpus.validation)
    ]
    characters = sorted(set("".join(texts)))
    stoi = {character: i for i, character in enumerate(characters)}
    folder.mkdir()
    for name, text in zip(("train", "val"), texts, strict=True):
        np.array([stoi[character] for character in text], np.uint16).tofile(folder / f"{name}.bin")
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return texts[1][:SCORED]


def theirs(place: Path, iterations: int, seed: int) -> dict[str, Any]:
    """A run of nanoGPT; its last weights are in place/out/ckpt.pt."""
    settings = ["--dataset=packed", "--out_dir=out", "--always_save_checkpoint=True", f"--eval_interval={iterations}"]
    settings += [f"--max_iters={iterations}", f"--lr_decay_iters={iterations}", *README.split()]
    command = [sys.executable, "-c", SEEDED, seed, "config/train_shakespeare_char.py", *settings]
    return timed(command, place) | {"iterations": iterations}


def imported(place: Path, seed: int) -> Path:
    """The last weights of nanoGPT as a model folder."""
    shutil.copy(place / "data" / "packed" / "meta.pkl", place / "out")
    folder = place / f"nanogpt-{seed}"
    timed([sys.executable, "-m", "manako", "import", place / "out" / "ckpt.pt", "-o", folder], place)
    return folder


def timed(command: list[Any], place: Path) -> dict[str, Any]:
    """What a process takes, in seconds: of the processor, and by the clock."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(list(map(str, command)), cwd=place, env=PASSIVE, check=True, capture_output=True)
    clock, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "clock": clock}


def scored(model: Path, place: Path) -> float:
    """Bits per character of the held-out text."""
    command = [sys.executable, "-m", "manako", "eval", "-m", str(model), "--data", "held_out.txt", "--json"]
    quiet = PASSIVE | {"OPENBLAS_NUM_THREADS": "1"}  # two threads on a busy machine wait for each other for minutes
    made = subprocess.run(command, cwd=place, env=quiet, check=True, capture_output=True).stdout
    return json.loads(made)["bits_per_character"]


if __name__ == "__main__":
    main()
