"""Ranks as torchrun starts them: what they share, what they add up, what is left of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manako.errors import UsageError
from manako.training.processes import processes
from tests.support.commands import environment

TASKS = Path("/proc/self/task")
ADDS_UP = """
import json, sys
from pathlib import Path

import torch

from manako.training.processes import processes

with processes("cpu") as here:
    weight, unused = torch.nn.Parameter(torch.full((2, 3), float(here.rank))), torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.full((2, 3), 10.0 + here.rank)
    here.share([weight, unused])
    here.sum_gradients([weight, unused])
    found = {"weight": weight.tolist(), "gradient": weight.grad.tolist(), "total": here.total(here.rank, 5)}
(Path(sys.argv[1]) / f"{here.rank}.json").write_text(json.dumps(found))
"""
TRAINS = """
import json, os, sys
from pathlib import Path

from manako.training.run import train

folder = Path(sys.argv[1])
small = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8, "batch_size": 2, "steps": 2}
train(folder / "data.txt", folder / "run", device="cpu", **small)
threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
(folder / f"{os.environ['RANK']}.json").write_text(json.dumps(threads))
"""


def of_two_ranks(script: str, folder: Path) -> list[Any]:
    """What each of two ranks left in its file, in their order."""
    (folder / "rank.py").write_text(script, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command, env = [*torchrun, str(folder / "rank.py"), str(folder)], environment(PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(("given", "lacking"), [
    ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT"),
    ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}, "RANK"),
    ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": ""}, "MASTER_PORT"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
], ids=str)  # fmt: skip
def test_several_processes_that_nothing_brings_together(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], lacking: str
) -> None:
    """As in images for clusters, which set WORLD_SIZE alone."""
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as refused, processes("cpu"):
        pass
    assert refused.value.key == "train_no_group" and refused.value.values["lacking"] == lacking


@pytest.mark.slow
def test_ranks_take_the_weights_of_the_first_and_add_up(tmp_path: Path) -> None:
    for found in of_two_ranks(ADDS_UP, tmp_path):
        assert found == {"weight": [[0.0] * 3] * 2, "gradient": [[21.0] * 3] * 2, "total": [1.0, 10.0]}


@pytest.mark.slow
@pytest.mark.skipif(not TASKS.is_dir(), reason="the threads of a process are listed elsewhere")
def test_a_training_leaves_no_thread_of_its_group(tmp_path: Path) -> None:
    """One that is still there as Python ends may abort a process whose work is done."""
    (tmp_path / "data.txt").write_text("私は猫である。名前はまだ無い。\n" * 60, encoding="utf-8")
    for threads in of_two_ranks(TRAINS, tmp_path):
        assert threads and not [name for name in threads if "gloo" in name], threads
