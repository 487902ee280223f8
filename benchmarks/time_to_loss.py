"""Wall time to the validation loss that plain AdamW with the article's settings has after 1,000 steps.

    python time_to_loss.py corpora/aozora

Both sides are whole `manako train` processes, start included, on one model shape (4/4/128, context 256) and one packed
corpus. The plain side has the article's rate, decay, clipping and batch of 32, in float32, through our loop, which is
faster than the article's own; ours is what `manako train` does when left alone.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import calibration, report

SHAPE = ["--n-layer", "4", "--n-head", "4", "--n-embd", "128", "--block-size", "256"]
PLAIN = ["--optimizer", "adamw", "--learning-rate", "3e-4", "--weight-decay", "0.1", "--schedule", "wsd"]
PLAIN += ["--batch-size", "32", "--dtype", "float32", "--steps", "1000", "--eval-interval", "1000"]
OURS = ["--steps", "350", "--eval-interval", "25"]


def main(corpus: str) -> None:
    start = calibration()
    with tempfile.TemporaryDirectory() as place:
        plain = run(corpus, Path(place) / "plain", PLAIN, None)
        ours = run(corpus, Path(place) / "ours", OURS, plain["validation_loss"])
    target = "<= 1/3 of the wall time"
    report("time to a validation loss", target, start, plain=plain, ours=ours, ratio=ours["wall"] / plain["wall"])


def run(corpus: str, out: Path, settings: list[str], until: float | None) -> dict[str, Any]:
    """Train; the first evaluation that reaches `until` (or the last one), and the wall time since the process began."""
    command = [sys.executable, "-m", "manako", "train", "--data", corpus, "--out", str(out), *SHAPE, *settings]
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while True:
            ended = process.poll() is not None
            lines = (out / "metrics.jsonl").read_text().splitlines(True) if (out / "metrics.jsonl").exists() else []
            found = [json.loads(x) for x in lines if x.endswith("\n") and "validation_loss" in x]
            reached = [e for e in found if until is not None and e["validation_loss"] <= until]
            if reached or ended:
                process.terminate()
                wall = time.monotonic() - began
                break
            time.sleep(0.2)
    last = reached[0] if reached else found[-1]
    wanted = ("step", "tokens", "validation_loss", "bits_per_character", "seconds", "tokens_s")
    reaches = until is None or bool(reached)
    return {"settings": " ".join(settings), "reached": reaches, "wall": wall} | {k: last[k] for k in wanted}


if __name__ == "__main__":
    main(sys.argv[1])
