"""A run on disk: which checkpoint a reference means, what is thinned, who holds the lock, what a kill leaves behind."""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import write_toy

import manako
from manako import model
from manako.errors import LoadError, ManakoError
from manako.formats import run_folder
from manako.formats.model_folder import Checkpoint


def make(run: Path, *steps: int) -> Path:
    for step in steps:
        write_toy(run_folder.step_folder(run, step), seed=step)
        for name in (run_folder.STATE, run_folder.STATE_ARRAYS):
            (run_folder.step_folder(run, step) / name).write_bytes(b"state")
        run_folder.point(run, run_folder.LAST, run_folder.step_folder(run, step))
    return run


def test_references_to_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path / "runs" / "a@b", 0, 100, 250)
    fingerprint = {n: manako.load(run_folder.step_folder(run, n)).info.weights_sha256 for n in (0, 100, 250)}
    assert len(set(fingerprint.values())) == 3
    monkeypatch.chdir(tmp_path)

    def opened(ref: str | Path) -> int:
        found = manako.load(ref).info.weights_sha256
        return next(n for n, f in fingerprint.items() if f == found)

    assert opened(run) == opened("run:a@b@last") == opened(f"run:{run}@250") == 250
    assert opened("run:a@b@100") == 100 and opened(f"run:{run}@0") == 0 and opened(f"run:{run}@0100") == 100
    run_folder.point(run, run_folder.BEST, run_folder.step_folder(run, 100))
    assert opened(run) == opened("run:a@b@best") == 100 and opened("run:a@b@last") == 250


@pytest.mark.parametrize("at", ["7", "-1", "x", "２５０", "", "9" * 5000], ids=lambda at: at[:9])
def test_a_step_that_is_not_there_lists_those_that_are(tmp_path: Path, at: str) -> None:
    run = make(tmp_path / "a", 0, 250)
    if not at:
        assert manako.load(f"run:{run}@")
        return
    with pytest.raises(LoadError) as caught:
        manako.load(f"run:{run}@{at}")
    assert caught.value.key == "run_step" and "0, 250" in str(caught.value)


def test_a_checkpoint_that_its_trainer_removes_meanwhile_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading of `last` and that of the weights; once, and not for what was never there."""
    run, read = make(tmp_path / "a", 0), model.read_checkpoint
    tried: list[str] = []

    def removed(folder: Path) -> Checkpoint:
        tried.append(folder.name)
        if len(tried) == 1:
            make(run, 100)
            run_folder.discard(folder)
        return read(folder)

    monkeypatch.setattr(model, "read_checkpoint", removed)
    assert manako.load(run) and tried == ["step-000000", "step-000100"]
    (run_folder.step_folder(run, 100) / "model.safetensors").unlink()
    with pytest.raises(LoadError):
        manako.load(run)
    assert tried[2:] == ["step-000100"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        manako.load(f"run:{tmp_path / 'none'}@3")
    assert caught.value.key == "run_none" and caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["../../elsewhere", "step-000007", "", "step-000001\nstep-000002", "\xff"])
def test_a_pointer_leads_to_a_checkpoint_of_the_run_or_nowhere(tmp_path: Path, name: str) -> None:
    run = make(tmp_path / "a", 1, 2)
    (run / run_folder.LAST).write_bytes(name.encode("latin-1"))
    with pytest.raises(LoadError) as caught:
        manako.load(run)
    assert caught.value.key == "run_pointer"


def test_thinning_keeps_the_newest_the_best_and_two_states(tmp_path: Path) -> None:
    run = make(tmp_path / "a", 0, 10, 20, 30, 40)
    run_folder.point(run, run_folder.BEST, run_folder.step_folder(run, 10))
    run_folder.thin(run, None)
    assert run_folder.steps(run) == [0, 10, 20, 30, 40]
    states = [n for n in run_folder.steps(run) if (run_folder.step_folder(run, n) / run_folder.STATE).exists()]
    assert states == [30, 40]
    run_folder.thin(run, 2)
    assert run_folder.steps(run) == [10, 30, 40] and manako.load(f"run:{run}@10")
    run_folder.thin(run, 1)
    assert run_folder.steps(run) == [10, 40]


def test_snapshots_are_spared_and_no_state_is_lost_for_them(tmp_path: Path) -> None:
    """The two states that stay are those of checkpoints, however many snapshots came after them."""
    run = make(tmp_path / "a", 0, 10, 20, 30, 40, 50)
    for step in (0, 10, 40, 50):
        (run_folder.step_folder(run, step) / run_folder.STATE).unlink()
    run_folder.thin(run, 1, spared={0, 10, 40})
    assert run_folder.steps(run) == [0, 10, 40, 50]
    run = make(tmp_path / "b", 10, 20, 30, 40, 50)
    for step in (40, 50):
        (run_folder.step_folder(run, step) / run_folder.STATE).unlink()
    run_folder.thin(run, None)
    assert [n for n in run_folder.steps(run) if (run_folder.step_folder(run, n) / run_folder.STATE).exists()] == [
        20,
        30,
    ]


def test_what_came_after_the_last_checkpoint_is_made_again(tmp_path: Path) -> None:
    run = make(tmp_path / "a", 0, 10, 12, 14)
    run_folder.rewind(run, 10, None)
    assert run_folder.steps(run) == [0, 10]


def test_the_best_so_far_is_named_again_after_a_kill_that_left_the_one_before(tmp_path: Path) -> None:
    run = make(tmp_path / "a", 0, 10, 20)
    run_folder.point(run, run_folder.BEST, run_folder.step_folder(run, 10))
    run_folder.rewind(run, 20, 20)
    assert run_folder.pointed(run, run_folder.BEST) == run_folder.step_folder(run, 20)
    run_folder.rewind(run, 20, 5)  # removed since: what it names stays
    assert run_folder.pointed(run, run_folder.BEST) == run_folder.step_folder(run, 20)


def test_a_second_trainer_is_stopped_and_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with run_folder.locked(tmp_path):
        with pytest.raises(ManakoError) as caught, run_folder.locked(tmp_path):
            pass
        assert caught.value.key == "run_in_use" and caught.value.exit_code == 1
    assert (tmp_path / "lock").exists()
    with run_folder.locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_no_other_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with run_folder.locked(tmp_path) as unlocked:
        assert unlocked == os.strerror(number)
    monkeypatch.undo()
    with run_folder.locked(tmp_path) as unlocked:
        assert unlocked is None


@pytest.mark.parametrize(("number", "key"), [
    (errno.EAGAIN, "run_in_use"), (errno.EWOULDBLOCK, "run_in_use"), (errno.EACCES, "run_in_use"),
    (errno.EIO, "file_unreadable"),
])  # fmt: skip
def test_a_lock_that_is_not_given_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, key: str
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with pytest.raises(ManakoError) as caught, run_folder.locked(tmp_path):
        raise AssertionError("locked")
    assert caught.value.key == key


def refusing(number: int) -> Callable[[int, int], None]:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who cleared the folder up, between its opening and its locking: a third trainer would make a new one."""
    flock, count = fcntl.flock, 0

    def late(descriptor: int, operation: int) -> None:
        nonlocal count
        count += 1
        if count < 3:
            (tmp_path / "lock").unlink()
        if count == 2:
            (tmp_path / "lock").touch()  # and another is there already
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with run_folder.locked(tmp_path):
        monkeypatch.undo()
        assert count == 3
        with pytest.raises(ManakoError) as caught, run_folder.locked(tmp_path):
            raise AssertionError("locked twice")
    assert caught.value.key == "run_in_use"


def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    run = make(tmp_path / "a", 1)
    (run / "checkpoints" / ".step-000002.abc.tmp").mkdir()
    (run / "checkpoints" / ".step-000002.abc.tmp" / "model.safetensors").write_bytes(b"half")
    (run / ".last.abc.tmp").write_bytes(b"half")
    run_folder.sweep(run)
    assert run_folder.steps(run) == [1] and not [p for p in run.rglob(".*")]


# --- F2, F5: a save that is killed, or that the disk refuses, at each of its system calls ---

SAVER = """
import contextlib
import os
import sys
from pathlib import Path
from manako.formats import run_folder
from manako.formats.model_folder import read_checkpoint
from manako.errors import ManakoError
run = Path(sys.argv[1])
old = read_checkpoint(run_folder.step_folder(run, 2))
state = {run_folder.STATE: b"state", run_folder.STATE_ARRAYS: b"arrays"}
os.write(2, b"now\\n")
try:
    run_folder.save(run, 3, old.config, old.tensors, old.tokenizer, state, best=True)
    with contextlib.suppress(OSError):
        run_folder.thin(run, keep=2, spared={0})
except ManakoError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
CALLS = "mkdir,write,fsync,rename,unlink,unlinkat,rmdir"


def saved(run: Path, *inject: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """A fresh run with checkpoints 0, 1 and 2, in which a process saves 3; and the log of its calls."""
    shutil.rmtree(run, ignore_errors=True)
    make(run, 0, 1, 2)
    run_folder.point(run, run_folder.BEST, run_folder.step_folder(run, 2))
    log, path = run.parent / "strace.log", ":".join(p for p in sys.path if p)
    tool = ["strace", "-f", "-o", str(log), "-e", f"trace={CALLS}", *inject]
    program = "import sys; sys.path[:0] = sys.argv.pop().split(':')\n" + SAVER
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [*tool, sys.executable, "-S", "-c", program, str(run), path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    return done, log.read_text(errors="replace").splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["signal=KILL", "error=ENOSPC"])
def test_a_whole_checkpoint_is_left_at_every_call_of_one_save(tmp_path: Path, what: str) -> None:
    if not shutil.which("strace"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("strace is missing")
    run = tmp_path / "run"
    done, lines = saved(run)
    assert done.returncode == 0, done.stderr
    first = next(i for i, line in enumerate(lines) if '"now' in line)
    counts: dict[str, int] = {}
    places = []
    for i, line in enumerate(lines):
        if match := re.match(r"^\d+ +(\w+)\(", line):
            counts[match[1]] = counts.get(match[1], 0) + 1
            if i > first:
                places.append(f"{match[1]}:{what}:when={counts[match[1]]}")
    assert len(places) > 30 and {p.split(":")[0] for p in places} >= {"mkdir", "write", "fsync", "rename", "unlink"}
    seen = set()
    for place in places:
        done, _ = saved(run, "-e", "inject=" + place)
        last = run_folder.pointed(run, run_folder.LAST)
        assert manako.load(last).trace("a", max_new_tokens=1), place
        assert (last / run_folder.STATE).exists() and (last / run_folder.STATE_ARRAYS).exists(), place
        seen.add(last.name)
        if what == "error=ENOSPC":
            assert done.returncode in (0, 1) and "Traceback" not in done.stderr, (place, done.stderr)
            assert done.returncode == 1 or last.name == "step-000003", place
        run_folder.sweep(run)
        assert manako.load(run) and not list(run.rglob(".*.tmp")), place
    assert seen == {"step-000002", "step-000003"}


# --- a run folder is a stranger's folder ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lock", "checkpoints", "last", "best", "metrics.jsonl", "traces",
                                  "checkpoints/step-000009"])  # fmt: skip
def test_a_run_with_a_link_is_refused_before_anything_is_touched(tmp_path: Path, name: str) -> None:
    run, outside = make(tmp_path / "m", 0, 3), tmp_path / "outside"
    (outside / ".mydata.tmp").mkdir(parents=True)
    (outside / "file").write_text("precious")
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "file" if name in ("lock", "last", "best", "metrics.jsonl") else outside)
    with pytest.raises(LoadError) as caught, run_folder.locked(run):
        raise AssertionError("locked")
    assert caught.value.key == "run_link" and name.rpartition("/")[2] in str(caught.value)
    assert (outside / "file").read_text() == "precious" and (outside / ".mydata.tmp").is_dir()


def test_a_lock_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    run = make(tmp_path / "m", 0)
    os.mkfifo(run / "lock")
    with pytest.raises(LoadError), run_folder.locked(run):
        raise AssertionError("locked")


def test_locking_empties_no_file(tmp_path: Path) -> None:
    run = make(tmp_path / "m", 0)
    (run / "lock").write_text("kept")
    with run_folder.locked(run):
        pass
    assert (run / "lock").read_text() == "kept"


def test_what_a_killed_trainer_left_before_its_first_checkpoint_is_taken_over(tmp_path: Path) -> None:
    run = tmp_path / "m"
    (run / "corpus").mkdir(parents=True)
    (run / ".config.toml.0123456789abcdef.tmp").touch()
    run_folder.clear_unfinished(run)
    assert (run / "corpus").is_dir()  # without a lock it is not ours
    (run / "lock").touch()
    (run / "notes.txt").touch()
    run_folder.clear_unfinished(run)
    assert (run / "corpus").is_dir()
    (run / "notes.txt").unlink()
    (run / "config.toml").touch()
    (run / "checkpoints" / "step-000000").mkdir(parents=True)
    (run / "checkpoints" / "step-000005").mkdir()
    run_folder.clear_unfinished(run)
    assert (run / "corpus").is_dir()  # somebody removed its `last`
    (run / "checkpoints" / "step-000005").rmdir()
    run_folder.clear_unfinished(run)
    assert list(run.iterdir()) == []
