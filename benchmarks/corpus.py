"""Packing a corpus: wall time, characters a second and peak memory, in a process of its own.

    python benchmarks/corpus.py PATH [options of `manako corpus build`]

Target: 70 million characters in <= 180 s with a peak of <= 2 GB. The parts are timed by the lines that it reports.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import calibration, report

from manako.corpus.packed import open_packed


def main() -> None:
    start = calibration()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "corpus"
        words = [sys.executable, "-m", "manako", "corpus", "build", *sys.argv[1:], "-o", str(out), "--lang", "en"]
        began = time.perf_counter()
        build = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, encoding="utf-8")
        assert build.stderr is not None
        lines = [(time.perf_counter() - began, line) for line in build.stderr]
        _, status, usage = os.wait4(build.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            sys.exit("".join(line for _, line in lines))
        began = time.perf_counter()
        corpus = open_packed(out)
        corpus.verify()
        verify_seconds = time.perf_counter() - began
        sides = {side: corpus.header.statistics[side] for side in ("train", "validation")}
        marks = {
            "read": "documents; encodings",
            "vocabulary": "making the vocabulary",
            "encoding": "encoding the texts",
        }
        characters = sum(side["characters"] for side in sides.values())
        report(
            "corpus",
            "70 M characters in <= 180 s, peak <= 2 GB",
            start,
            seconds=seconds,
            seconds_at={name: next((t for t, line in lines if text in line), None) for name, text in marks.items()},
            characters=characters,
            characters_a_second=characters / seconds,
            peak_rss_mb=usage.ru_maxrss / 1024,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            verify_seconds=verify_seconds,
            bytes_on_disk=sum(f.stat().st_size for f in out.iterdir()),
            works=corpus.header.statistics["works"],
            near_duplicates=corpus.header.statistics["near_duplicates"],
            sides=sides,
            arguments=[json.dumps(word) for word in sys.argv[2:]],
        )


if __name__ == "__main__":
    main()
