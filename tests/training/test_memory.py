"""Memory: what cannot fit is refused before it is taken, and what runs out ends with one line and nothing lost."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import SHAPE, corpus_of, trainer
from toy import toy_config

import manako
from manako.cli import main
from manako.errors import CapabilityError, ManakoError
from manako.formats import run_folder
from manako.training import machine, memory
from manako.training.config import TrainingConfig

TEXT = "私は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 60
POINTS = 15
MB = 2**20


@pytest.mark.parametrize("shape", [
    {"n_layer": 96, "n_head": 96, "n_embd": 12_288},
    {"batch_size": 10**12},
    {"block_size": 10**7, "n_embd": 192},
], ids=str)  # fmt: skip
def test_what_cannot_fit_is_refused_with_the_sum_before_any_text_is_read(tmp_path: Path, shape: dict[str, int]) -> None:
    with pytest.raises(ManakoError) as refused:
        manako.train(tmp_path / "never read.txt", tmp_path / "m", **SHAPE | {"device": "cpu"} | shape)
    assert refused.value.key == "train_too_large" and not (tmp_path / "m").exists()


def test_the_vocabulary_counts_once_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path / "c")
    monkeypatch.setattr(memory, "free", lambda device: memory.needed(config, TrainingConfig(batch_size=8)) - 1)
    config = toy_config(**SHAPE, vocab_size=corpus.vocab_size)
    with pytest.raises(ManakoError) as refused:
        trainer(tmp_path / "m", corpus)
    assert refused.value.key == "train_too_large"


def test_the_sum_is_a_floor(tmp_path: Path) -> None:
    """What is counted is there: weights, gradients, what the optimizer keeps."""
    for optimizer in ("muon", "adamw"):
        made, _ = trainer(tmp_path / optimizer, corpus_of(tmp_path / "c"), optimizer=optimizer)
        made.update()
        state = sum(v.numel() for v in made.optimizers.state().values())
        kept = 4 * (2 * sum(p.numel() for p in made.model.parameters()) + state)
        smallest = TrainingConfig(batch_size=1, optimizer=optimizer)
        assert memory.needed(made.config, smallest) < kept + 2 * MB


def test_cuda_without_cuda_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CapabilityError) as refused:
        manako.train(tmp_path / "never read.txt", tmp_path / "m", device="cuda")
    assert refused.value.key == "train_no_cuda" and not (tmp_path / "m").exists()


def under_limit(extra: int, action: Callable[[], object], said: Path) -> int:
    """The exit code of a process of its own that may take `extra` bytes more than this one has; stderr in `said`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        with said.open("w") as stream:
            os.dup2(stream.fileno(), 2)
            sys.stderr = stream
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + extra, used + extra))
            try:
                action()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 98
            stream.flush()
    finally:
        os._exit(code)


def at_every_limit(tmp_path: Path, name: str) -> None:
    """A command with an allocation limit at each of many points, as SQLite tests its own."""
    machine.PROBE = 64
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    begun = manako.train(tmp_path / "a.txt", tmp_path / "run", **SHAPE | {"max_minutes": 1e-5, "device": "cpu"})
    size = "--n-layer 1 --n-head 2 --n-embd 64 --block-size 64 --steps 3 --device cpu".split()
    ends = set()
    for point in range(POINTS):
        new = tmp_path / f"{name}-{point}"
        if name == "resume":
            shutil.copytree(begun, new)
        words = {
            "train": ["train", "--data", str(tmp_path / "a.txt"), "--out", str(new), *size],
            "resume": ["resume", str(new), "--max-minutes", "0.005"],
            "corpus": ["corpus", "build", str(tmp_path / "a.txt"), "-o", str(new)],
            "watch": ["watch", "私", "-m", "demo", "-n", "3", "--seed", "0", "--save", str(new)],
        }[name]
        said = tmp_path / "said"
        code = under_limit(2 ** (14 + point), lambda words=words: main([*words, "--lang", "en"]), said)
        text = said.read_text()
        ends.add(code)
        assert code in (0, 1, 3), (point, code, text)
        assert "Traceback" not in text and "E-UNEXPECTED" not in text and "panicked" not in text, (point, text)
        if code:
            assert text.splitlines()[-1].endswith("]") and (not new.exists() or run_folder.is_run(new)), (point, text)
        if name == "resume":
            manako.load(new)
        assert not list(tmp_path.rglob(".*.tmp")), point
    assert {0} < ends, ends


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc, and a limit that holds")
@pytest.mark.parametrize("name", ["train", "resume", "corpus", "watch"])
def test_with_little_memory_a_command_ends_in_one_line_and_nothing_is_lost(tmp_path: Path, name: str) -> None:
    """In a new process: one that ran other tests has memory that no limit counts."""
    code = "import sys; from pathlib import Path; sys.path[:] = sys.argv[3:]; import test_memory as t; "
    code += "t.at_every_limit(Path(sys.argv[1]), sys.argv[2])"
    words = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", code]
    words += [str(tmp_path), name, str(Path(__file__).parent), *sys.path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
