"""The log of a run on a disk that is full for a while: no line is joined to half of another, and it is said once."""

import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import corpus_of, metrics, timeless, train, trainer

from manako.training.log import Log

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be kept from large files there")


@pytest.fixture
def full() -> Iterator[object]:
    """What makes the disk full at a size of a file, as far as this process goes; at None there is room again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def at(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))

    yield at
    at(None)
    signal.signal(signal.SIGXFSZ, handler)


def test_half_a_line_is_taken_back_and_it_is_said_once(tmp_path: Path, full: object) -> None:
    assert callable(full)
    path, told = tmp_path / "metrics.jsonl", list[tuple[str, object]]()
    log = Log(path, lambda key, **values: told.append((key, values)))
    log.add({"step": 1})
    full(path.stat().st_size + 5)
    log.add({"step": 2})
    log.add({"step": 3})
    full(None)
    log.add({"step": 4})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 4}]
    assert told == [("train.log_not_written", {"file": path, "reason": os.strerror(errno.EFBIG)})]


def test_a_training_outlives_its_log(tmp_path: Path) -> None:
    """Every step is taken, and to the same bits."""
    corpus = corpus_of(tmp_path / "corpus")
    train(tmp_path / "whole", corpus, steps=12, eval_interval=6)
    made, lines = trainer(tmp_path / "m", corpus, steps=12, eval_interval=6)
    made.save()
    log = tmp_path / "m" / "metrics.jsonl"
    log.mkdir()  # what cannot be opened at all
    made.tick = lambda loss: log.rmdir() if made.progress.step == 8 else None
    made.go()
    said = [line for line in lines if str(log) in line]
    assert len(said) == 2 and os.strerror(errno.EISDIR) in said[0]  # one in each language
    assert [line["step"] for line in metrics(tmp_path / "m")] == [10, 12]
    assert timeless(tmp_path / "m") == timeless(tmp_path / "whole")[-2:]
