"""What a sweep costs over its trainings one by one, and how two Ray workers on two cores compare with no Ray.

    python sweep.py [STEPS]

Each is a whole command with a process of its own, and trains the same four models. Without Ray the last figure is null.
"""

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from dynamics import measured
from measure import calibration, report
from train import characters, random_text

from manako.corpus.documents import Document
from manako.corpus.packing import pack

SEEDS = range(4)


def main(steps: str = "200") -> None:
    start = calibration()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pack([Document("random", random_text())], place / "corpus", characters, validation_share=0.1)
        alike = ("--data", str(place / "corpus"), "--steps", steps)
        bare = sum(
            measured("-m", "manako", "train", *alike, "--seed", str(n), "-o", str(place / f"run{n}"))["wall_s"]
            for n in SEEDS
        )
        varied = ("-m", "manako", "sweep", *alike, "--vary", f"seed={','.join(map(str, SEEDS))}")
        here = measured(*varied, "-o", str(place / "here"))["wall_s"]
        ray = measured(*varied, "-o", str(place / "ray"), "--ray", "local")["wall_s"] if find_spec("ray") else None
    found = {"bare_s": bare, "sweep_s": here, "ray_s": ray, "sweep_over_bare": round(here / bare, 3)}
    found["ray_over_sweep"] = None if ray is None else round(ray / here, 3)
    report("sweep", "sweep / bare <= 1.05; Ray / sweep <= 1.15 on two cores", start, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
