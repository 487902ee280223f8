"""A training run on disk: its checkpoints, and which of them is the last and which the best.

    config.toml            every setting, as `manako train --config` reads it
    metrics.jsonl          one line each few steps and one an evaluation
    corpus/                the packed text, where the run began from raw text
    checkpoints/step-N/    a model folder; in those of an evaluation the training state, as training.json and
                           training.safetensors; the others are snapshots, weights alone
    last, best             one line each: the name of a checkpoint

Special here: a checkpoint is made under another name and renamed, then `last` is replaced, then older ones are removed
(renamed first), so that a run killed at any moment has one whole checkpoint that `last` names. A run may come from
somebody else: before anything is written or removed, nothing in it may be a link.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from manako.errors import LoadError, ManakoError
from manako.families.gpt2 import ModelConfig
from manako.files import exists, is_dir, is_file, read_regular, write_file
from manako.formats.model_folder import WEIGHTS, write_checkpoint
from manako.tokenizer import Tokenizer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CHECKPOINTS, LAST, BEST, STATE, STATE_ARRAYS = "checkpoints", "last", "best", "training.json", "training.safetensors"
CONFIG, METRICS, LOCK, TRACES, CORPUS = "config.toml", "metrics.jsonl", "lock", "traces", "corpus"
_WRITTEN = (CHECKPOINTS, LAST, BEST, METRICS, LOCK, TRACES)
_IN_USE = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)  # the last where locks are those of fcntl, as over NFS
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
_STEP = re.compile(r"step-(\d{6,12})")


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run with at least one checkpoint."""
    return is_file(folder / LAST) and is_dir(folder / CHECKPOINTS)


def step_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, or will."""
    return run / CHECKPOINTS / f"step-{step:06d}"


def steps(run: Path) -> list[int]:
    """The steps that have a checkpoint, in order."""
    found = [_STEP.fullmatch(p.name) for p in (run / CHECKPOINTS).iterdir()] if is_dir(run / CHECKPOINTS) else []
    return sorted(int(match[1]) for match in found if match)


def identity(run: Path, step: int) -> tuple[int, ...] | None:
    """What tells the weights of a step from those that a trainer makes of it later; None where there are none."""
    folder = step_folder(run, step)
    try:
        made, weights = folder.stat(), (folder / WEIGHTS).stat()
    except OSError:
        return None
    return made.st_dev, made.st_ino, weights.st_mtime_ns, weights.st_size


def pointed(run: Path, pointer: str) -> Path:
    """The checkpoint that `last` or `best` names. Raises LoadError where the file, or what it names, is not there."""
    name = read_regular(run / pointer, limit=100).decode("ascii", "replace").strip()
    folder = run / CHECKPOINTS / name
    if not _STEP.fullmatch(name) or not is_dir(folder):
        raise LoadError("run_pointer", file=run / pointer, name=name)
    return folder


def point(run: Path, pointer: str, checkpoint: Path) -> None:
    """Let `last` or `best` name a checkpoint."""
    write_file(run / pointer, (checkpoint.name + "\n").encode("ascii"))


def checkpoint(run: Path, at: str | None = None) -> Path:
    """The checkpoint of a run: at a step, "last" or "best"; by default the best one, or the last where none is.

    Raises LoadError naming the steps that there are.
    """
    if not is_run(run):
        raise LoadError("run_none", folder=run)
    if at is None:
        return pointed(run, BEST if is_file(run / BEST) else LAST)
    if at in (LAST, BEST):
        return pointed(run, at)
    there = steps(run)
    step = {str(step): step for step in there}.get(at.lstrip("0") or at[-1:])  # as text: it may have 5,000 digits
    if step is None:
        raise LoadError("run_step", folder=run, got=at, steps=", ".join(map(str, there)))
    return step_folder(run, step)


def save(
    run: Path,
    step: int,
    config: ModelConfig,
    tensors: Mapping[str, npt.NDArray[Any]],
    tokenizer: Tokenizer,
    state: Mapping[str, bytes],
    best: bool = False,
) -> Path:
    """Leave a checkpoint: the model folder with the training state in it, then the pointers.

    state: the files STATE and STATE_ARRAYS. Raises ManakoError; `last` then names what it named before.
    """
    folder = step_folder(run, step)
    if exists(folder):  # a run was killed between this checkpoint and the pointer to it
        discard(folder)
    write_checkpoint(folder, config, tensors, tokenizer, state)
    point(run, LAST, folder)
    if best:
        point(run, BEST, folder)
    return folder


def save_snapshot(
    run: Path, step: int, config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]], tokenizer: Tokenizer
) -> None:
    """Leave the model folder of a step, which no pointer names. Raises ManakoError."""
    write_checkpoint(step_folder(run, step), config, tensors, tokenizer)


def thin(run: Path, keep: int | None, spared: Collection[int] = ()) -> None:
    """Remove what no longer serves: all checkpoints but the `keep` newest, the best one and the `spared` steps (None
    keeps all), and the training state of all but the two newest that have one, which stay model folders."""
    there = steps(run)
    best = pointed(run, BEST) if is_file(run / BEST) else None
    for step in [step for step in there if step not in spared][: -keep if keep else 0]:
        folder = step_folder(run, step)
        if folder != best:
            discard(folder)
    stateful = [step for step in there if is_file(step_folder(run, step) / STATE)]
    for step in stateful[:-2]:
        for name in (STATE_ARRAYS, STATE):  # by STATE a killed thinning is gone on with
            (step_folder(run, step) / name).unlink(missing_ok=True)


def rewind(run: Path, step: int, best: int | None) -> None:
    """Bring a run to the step that it goes on from: later folders go, for they are made again, and `best` names the
    best step so far, which a kill between the checkpoint and the pointer had left behind."""
    for later in steps(run):
        if later > step:
            discard(step_folder(run, later))
    if best is not None and is_dir(step_folder(run, best)):
        point(run, BEST, step_folder(run, best))


def clear_unfinished(run: Path) -> None:
    """Remove what a killed trainer left that never came to a checkpoint: its lock, the corpus that it packed, its
    settings, and weights of step 0 that `last` does not name yet.

    A folder that holds anything else, or no lock of ours, stays as it is.
    """
    names = _lasting(run)
    if LOCK not in names or not names <= {LOCK, CORPUS, CONFIG, CHECKPOINTS}:
        return
    if not _lasting(run / CHECKPOINTS) <= {step_folder(run, 0).name}:
        return
    with locked(run):
        sweep(run)
        for name in (CORPUS, CHECKPOINTS):
            shutil.rmtree(run / name, ignore_errors=True)
        for name in (CONFIG, LOCK):  # by its lock a killed clearing is gone on with
            (run / name).unlink(missing_ok=True)


def _lasting(folder: Path) -> set[str]:
    """What a folder holds, but for temporary names of ours; nothing where it is none."""
    if not is_dir(folder) or folder.is_symlink():
        return set()
    return {path.name for path in folder.iterdir() if not (path.name.startswith(".") and path.name.endswith(".tmp"))}


def discard(folder: Path) -> None:
    """Remove a folder; renamed first, so that half of it is never taken for the whole."""
    gone = folder.with_name(f".{folder.name}.gone.tmp")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(run: Path) -> None:
    """Remove what a killed process left over under temporary names. The caller holds the lock."""
    for place in (run, run / CHECKPOINTS):
        for path in place.glob(".*.tmp"):
            shutil.rmtree(path, ignore_errors=True) if is_dir(path) else path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(run: Path) -> Iterator[str | None]:
    """Hold a run for one trainer, which may then write to it; what is given says why nothing could be locked.

    That is None where it is locked, and where the system knows no locks that vanish with their process. Raises
    ManakoError where another trainer has it (a killed one holds nothing), LoadError for a run with a link in it.
    """
    refuse_links(run)
    if fcntl is None:
        yield None
        return
    descriptor, unlocked = _lock(run)
    try:
        yield unlocked
    finally:
        os.close(descriptor)


def _lock(run: Path) -> tuple[int, str | None]:
    """The descriptor that holds the lock of a run, and why it does not where no file there can be locked."""
    # Never truncated, no link followed, and no FIFO waited for: the name may be anything in a run from elsewhere.
    path, flags = run / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise LoadError("file_unreadable", file=path, reason=error.strerror or error) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LoadError("file_not_regular", file=path)
            unlocked = _locked(descriptor, run)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor, unlocked
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who cleared the folder up removed it in the moment before it was locked


def _locked(descriptor: int, run: Path) -> str | None:
    """Lock a file, or say why none can be locked there. Raises ManakoError where another process has it."""
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _IN_USE:
            raise ManakoError("run_in_use", folder=run) from None
        if error.errno not in _NO_LOCKS:
            raise LoadError("file_unreadable", file=run / LOCK, reason=error.strerror or error) from None
        return error.strerror or str(error)
    return None


def refuse_filled(run: Path) -> None:
    """Raise ManakoError where a folder that was to be a new run holds more than the lock by now."""
    if not _lasting(run) <= {LOCK}:
        raise ManakoError("target_exists_folder", file=run)


def refuse_links(run: Path) -> None:
    """Raise LoadError where something that a trainer writes to or removes is a link: it may lead anywhere."""
    inside = [run / name for name in _WRITTEN]
    if is_dir(run / CHECKPOINTS) and not (run / CHECKPOINTS).is_symlink():
        inside += (run / CHECKPOINTS).iterdir()
    for path in inside:
        if path.is_symlink():
            raise LoadError("run_link", file=path)
