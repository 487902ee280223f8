"""F1: a run killed at random moments always goes on, and ends with the bits of the run that nobody killed."""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import checkpoint_bytes, corpus_of, resume, timeless, train

from manako.corpus.packed import PackedCorpus
from manako.formats import run_folder

KILLS = 50
SETTINGS: dict[str, Any] = {"steps": 200, "eval_interval": 10, "keep": 3, "snapshots": 24}


def go_on_in_a_child(run: Path, corpus: PackedCorpus, seconds: float) -> bool:
    """Resume in a process of its own and kill it after some time; whether it ended before that."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with run_folder.locked(run):
                run_folder.sweep(run)
                resume(run, corpus, **SETTINGS)
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_at_50_moments_it_always_resumes_and_ends_the_same(tmp_path: Path) -> None:
    corpus, chance = corpus_of(tmp_path / "corpus"), random.Random(0)
    began = time.monotonic()
    train(tmp_path / "whole", corpus, **SETTINGS)
    longest = (time.monotonic() - began) / 4
    kills = runs_done = 0
    while kills < KILLS:
        run = tmp_path / f"killed-{runs_done}"
        train_first_step(run, corpus)
        while not go_on_in_a_child(run, corpus, chance.uniform(0.0, longest)):
            kills += 1
            assert run_folder.pointed(run, run_folder.LAST).is_dir()
        assert checkpoint_bytes(run, 200) == checkpoint_bytes(tmp_path / "whole", 200)
        assert timeless(run) == timeless(tmp_path / "whole")
        assert weights_of_all(run) == weights_of_all(tmp_path / "whole")
        assert run_folder.steps(run) == run_folder.steps(tmp_path / "whole") and not list(run.rglob(".*.tmp"))
        runs_done += 1


def weights_of_all(run: Path) -> dict[int, bytes]:
    """The weights of every checkpoint and snapshot."""
    return {n: (run_folder.step_folder(run, n) / "model.safetensors").read_bytes() for n in run_folder.steps(run)}


def train_first_step(run: Path, corpus: PackedCorpus) -> None:
    """The beginning of a run: its checkpoint of step 0."""
    from small_runs import trainer

    made, _ = trainer(run, corpus, **SETTINGS)
    made.save()
