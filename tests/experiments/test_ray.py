"""A sweep on a Ray cluster that the test starts: nothing is lost when a worker is."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manako.analysis.sweep import Outcome
from manako.errors import ManakoError
from manako.experiments.grid import Grid
from manako.experiments.on_ray import LOCAL, on_ray
from manako.experiments.sweep import sweep

node = pytest.importorskip("ray._private.node", reason="Ray is not installed: pip install 'manako[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of which there are many
]
BASE: dict[str, Any] = {
    "n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8, "batch_size": 2, "eval_interval": 20, "steps": 400,
    "validation": 0.2, "device": "cpu", "dtype": "float32",
}  # fmt: skip


class Patience:
    """The clock by which Ray gives a node thirty seconds to start, of which a busy machine takes some for one."""

    monotonic = staticmethod(lambda: time.monotonic() / 10)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "time", Patience())


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    (tmp_path / "a.txt").write_text("私は猫である。名前はまだ無い。\n" * 80, encoding="utf-8")
    before = os.environ.get("OMP_NUM_THREADS")
    yield Grid([str(tmp_path / "a.txt")], BASE, {"seed": [0, 1, 2]})
    os.environ.pop("OMP_NUM_THREADS", None) if before is None else os.environ.update(OMP_NUM_THREADS=before)


def kill_the_worker_of(run: Path, found: list[int]) -> None:
    """SIGKILL for the process that holds the lock of a run, when it has come to its third checkpoint."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if len(list(run.glob("checkpoints/step-*"))) >= 3:
            holders = subprocess.run(["fuser", str(run / "lock")], capture_output=True, text=True).stdout.split()
            if holders and not (run / "checkpoints" / "step-000400").exists():
                found.append(int(holders[0]))
                os.kill(found[0], signal.SIGKILL)
            return
        time.sleep(0.005)


def test_a_lost_worker_loses_nothing(grid: Grid, tmp_path: Path) -> None:
    killed: list[int] = []
    watch = threading.Thread(target=kill_the_worker_of, args=(tmp_path / "s" / "runs" / "1_seed=0", killed))
    watch.start()
    told: list[str] = []
    spread = on_ray(LOCAL, False, lambda key, **_: told.append(key))
    found = sweep(grid, tmp_path / "s", spread=spread, report=lambda key, **_: told.append(key))
    watch.join()
    assert killed and told.count("sweep.done") == 3 and "sweep.on_ray" in told, (killed, told)
    plain = sweep(grid, tmp_path / "plain")
    for one, other in zip(found, plain, strict=True):
        assert isinstance(one, Outcome) and isinstance(other, Outcome), (one, other)
        assert replace(one, seconds=0) == replace(other, seconds=0)


def test_a_cluster_that_does_not_answer_is_one_line(grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(ManakoError) as refused:
        sweep(grid, tmp_path / "s", spread=on_ray("127.0.0.1:1", False, lambda key, **_: None))
    assert refused.value.key == "ray_unreachable" and "\n" not in str(refused.value)
