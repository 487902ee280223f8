"""One writer that leaves the old file or the new one, whatever fails at whatever call; one strict reader.

Rows F4, F5, F6, F10, F15, F29 and T6 of the reliability notes. `strace` makes single system calls fail where it may.
"""

import contextlib
import errno
import io
import json
import mmap
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manako import files
from manako.errors import LoadError, ManakoError, UsageError
from manako.files import (
    DEEPEST_JSON,
    megabytes,
    need_space,
    new_folder,
    read_regular,
    strict_json,
    writable_folder,
    writable_target,
    write_file,
)

OLD, NEW = b"old content", b"new content, longer than the old" * 1000

# The writer alone in a process: exit 0 when it returned, 1 with the message when it raised.
WRITER = """
import sys
from pathlib import Path
from manako.errors import ManakoError
from manako.files import write_file
sys.stdout.isatty()
try:
    write_file(Path(sys.argv[1]), b"new content, longer than the old" * 1000)
except ManakoError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "file.manako"
    path.write_bytes(OLD)
    return path


def assert_old_and_nothing_beside(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def assert_fails(path: Path, *reasons: str) -> ManakoError:
    with pytest.raises(ManakoError) as caught:
        write_file(path, NEW)
    assert type(caught.value) is ManakoError and caught.value.exit_code == 1
    assert caught.value.code == "E-WRITE-FAILED"
    assert str(path)[:50] in str(caught.value) and any(reason in str(caught.value) for reason in reasons)
    return caught.value


def test_a_file_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"", b"x", bytes(100_000), memoryview(b"view"), bytearray(b"array")):
        write_file(path, data)
        assert path.read_bytes() == bytes(data)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


KILLED = """
import os, signal, sys
from pathlib import Path
from manako import files
from manako.files import new_folder, write_file
path = Path(sys.argv[1])
if sys.argv[2] == "folder":
    with new_folder(path) as made:
        (made / "texts.tmp").write_text("much")
        print("there", flush=True)
        sys.stdin.read()
else:
    def wait(*_):
        print("there", flush=True)
        sys.stdin.read()
    files.os.fsync = wait
    write_file(path, b"half")
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_killed_writers_left_is_swept_by_the_next_and_what_living_ones_write_is_not(
    tmp_path: Path, kind: str
) -> None:
    def begin() -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "a"), kind], **pipes)
        assert process.stdout and process.stdout.readline() == "there\n"
        return process

    def left() -> set[str]:
        return {p.name for p in tmp_path.iterdir() if p.name.startswith(".a.")}

    with begin() as first:
        first.kill()
    (of_first,) = left()
    with begin() as second:  # sweeps what the first one left
        (of_second,) = left()
        assert of_second != of_first
        (tmp_path / ".a.0123.tmp").write_text("no name of ours")
        if kind == "file":
            write_file(tmp_path / "a", NEW)
        else:
            with new_folder(tmp_path / "a"):
                pass
        assert of_second in left()
        second.kill()
    shutil.rmtree(tmp_path / "a") if kind == "folder" else None
    write_file(tmp_path / "a", NEW)
    assert left() == {".a.0123.tmp"} and (tmp_path / "a").read_bytes() == NEW


@pytest.mark.parametrize("replace", [True, False])
def test_without_locks_no_open_file_is_renamed_or_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    """Windows, which refuses both, and has none of the locks that an open descriptor holds."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("what is open is not told here")
    done: list[str] = []

    def refusing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *rest: Any, **more: Any) -> Any:
            assert str(path.resolve()) not in left_open(tmp_path)
            done.append(name)
            return real(path, *rest, **more)

        return call

    monkeypatch.setattr(files, "fcntl", None)
    for name in ("replace", "rename", "unlink"):
        monkeypatch.setattr(Path, name, refusing(name, getattr(Path, name)))
    monkeypatch.setattr(os, "link", refusing("link", os.link))
    write_file(tmp_path / "a", NEW, replace)
    assert (tmp_path / "a").read_bytes() == NEW and done == (["replace"] if replace else ["link", "unlink"])
    with new_folder(tmp_path / "b") as made:
        write_file(made / "a", NEW)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Fails(os.fsync, errno.ENOSPC, tmp_path))
        assert_fails(tmp_path / "c", os.strerror(errno.ENOSPC))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"] and left_open(tmp_path) == []
    assert done[-2:] == ["rename", "unlink"]


def test_named_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "a", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_the_longest_names_that_a_folder_takes(tmp_path: Path) -> None:
    for name in ("n" * 255, "猫" * 85, "\N{GRINNING FACE}" * 63, "line\nbreak", "\x1b[2J", ".hidden", "a b"):
        write_file(tmp_path / name, NEW)
        assert (tmp_path / name).read_bytes() == NEW
    assert len(list(tmp_path.iterdir())) == 7


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe")
    write_file(path, NEW)
    assert path.read_bytes() == NEW == read_regular(path)


def test_need_space_counts_bytes_and_not_elements(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(files, "need_space", lambda folder, size: asked.append(size))
    write_file(target, memoryview(bytes(80)).cast("d"))
    assert asked == [80] and target.read_bytes() == bytes(80)


# F5 and F6: each call fails in turn


class Fails:
    """A function that raises an OSError at its n-th call about a folder or what lies in it, and works otherwise.

    Others call it meanwhile: threads that an earlier test left behind, and objects of it that are collected and clean
    up, in this thread.
    """

    def __init__(self, real: Callable[..., Any], code: int, folder: Path, at: int = 1) -> None:
        self.real, self.code, self.folder, self.at, self.calls = real, code, folder, at, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_about(args[0]):
            self.calls += 1
            if self.calls == self.at:
                raise OSError(self.code, os.strerror(self.code))
        return self.real(*args, **kwargs)

    def is_about(self, what: Any) -> bool:
        if not isinstance(what, int):
            return Path(os.fsdecode(what)).is_relative_to(self.folder)
        return any(os.path.samestat(os.fstat(what), p.stat()) for p in (self.folder, *self.folder.iterdir()))


CODES = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EDQUOT, errno.EACCES, errno.EINTR]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", ["open", "fdopen", "fsync", "replace"])
def test_each_call_fails(target: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    failing = Fails(getattr(os, call), code, target.parent)
    monkeypatch.setattr(os, call, failing)
    assert_fails(target, os.strerror(code))
    assert failing.calls >= 1
    assert_old_and_nothing_beside(target)
    if call != "fdopen":  # there the descriptor has no owner yet; os.fdopen itself does not fail so
        assert left_open(target.parent) == []


def test_an_injected_failure_meets_nothing_elsewhere(
    target: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("open", "fsync"):
        monkeypatch.setattr(os, name, Fails(getattr(os, name), errno.EIO, target.parent))
    descriptor = os.open(elsewhere, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    assert_fails(target, os.strerror(errno.EIO))


def left_open(folder: Path) -> list[str]:
    """What this process has open below a folder; what else it has open may be other threads'."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(descriptor.readlink()))
    return [name for name in found if name.startswith(str(folder.resolve()))]


def test_negative_control_what_is_left_open_is_seen(target: Path) -> None:
    with target.open("rb"):
        assert left_open(target.parent) == ([str(target.resolve())] if Path("/proc/self/fd").is_dir() else [])


class HalfWritten(io.BufferedWriter):
    """A stream whose disk fills up in the middle of the data."""

    def write(self, data: Any) -> int:
        super().write(bytes(data)[: len(data) // 2])
        self.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_disk_fills_up_in_the_middle(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "fdopen", lambda descriptor, mode, closefd: HalfWritten(io.FileIO(descriptor, "w", closefd=closefd))
    )
    assert_fails(target, os.strerror(errno.ENOSPC))
    assert_old_and_nothing_beside(target)


def test_the_first_error_is_the_one_that_is_told(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", Fails(os.fsync, errno.ENOSPC, target.parent))
    monkeypatch.setattr(os, "unlink", Fails(os.unlink, errno.EIO, target.parent))
    assert_fails(target, os.strerror(errno.ENOSPC))
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("problem", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_the_old_file(
    target: Path, monkeypatch: pytest.MonkeyPatch, problem: type[BaseException]
) -> None:
    def stop(descriptor: int) -> None:
        raise problem

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(problem):
        write_file(target, NEW)
    assert_old_and_nothing_beside(target)


def test_a_folder_that_cannot_be_synced_is_not_told_as_nothing_changed(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Fails(os.fsync, errno.EIO, target.parent, at=2))
    with pytest.raises(ManakoError) as caught:
        write_file(target, NEW)
    assert target.read_bytes() == NEW  # the rename is done; what is unknown is whether it survives a power cut
    assert "nothing was changed" not in str(caught.value)


def test_space_is_asked_for_before_anything_is_written(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_500_000))
    monkeypatch.setattr(os, "open", Fails(os.open, errno.EIO, target.parent))  # not reached
    with pytest.raises(ManakoError) as caught:
        write_file(target, bytes(2_000_000))
    assert (caught.value.code, caught.value.exit_code) == ("E-DISK-FULL", 1)
    assert "2.0 MB needed" in str(caught.value) and "1.5 MB free" in str(caught.value)
    assert "2.0 MB" in caught.value.text("ja") and "1.5 MB" in caught.value.text("ja")
    assert_old_and_nothing_beside(target)


def test_a_little_space_is_left_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=files.SPARE_BYTES + 100))
    need_space(tmp_path, 100)
    with pytest.raises(ManakoError):
        need_space(tmp_path, 101)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0.0 kB"),
        (12_345, "12.3 kB"),
        (1_234_567, "1.2 MB"),
        (9_999_000_000, "9,999.0 MB"),
        (84_000_000_000, "84 GB"),
    ],
)
def test_sizes_for_people(size: int, said: str) -> None:
    assert megabytes(size) == said


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    assert_fails(tmp_path / "missing" / "a", "No such file or directory")
    (tmp_path / "plain").write_bytes(OLD)
    assert_fails(tmp_path / "plain" / "a", "Not a directory")
    (tmp_path / "folder").mkdir()
    assert_fails(tmp_path / "folder", "not a regular file")
    assert_fails(tmp_path / ("n" * 256), "File name too long")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "plain"]


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    for path in (pipe, link):
        assert_fails(path, "not a regular file")
    assert stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink() and Path("/dev/null").is_char_device()


def test_a_link_at_the_target_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_bytes(OLD)
    link.symlink_to(other)
    write_file(link, NEW)
    assert other.read_bytes() == OLD and link.read_bytes() == NEW and not link.is_symlink()


def test_a_reader_that_has_the_file_mapped_keeps_the_old_content(target: Path) -> None:
    with target.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        write_file(target, NEW)
        assert mapped[:] == OLD
    assert target.read_bytes() == NEW


# With the real system calls


def run_writer(target: Path, *tool: str, program: str = WRITER, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [*tool, sys.executable, "-S", "-c", "import sys; sys.path[:0] = sys.argv.pop().split(':')\n" + program]
    path = ":".join(p for p in sys.path if p)  # -S keeps start-up short; the paths come along
    return subprocess.run(
        [*command, str(target), path], capture_output=True, text=True, timeout=60, env=environment, **options
    )


@pytest.fixture
def strace(tmp_path: Path) -> str:
    """The path of strace; a machine without a working one skips, and fails where CI says that it must be there."""
    found = shutil.which("strace")
    works = found and subprocess.run([found, "-o", os.devnull, "true"], capture_output=True, timeout=60).returncode == 0
    if not found or not works:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("strace is missing or not permitted")
    return found


CALLS = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,link,ftruncate"


def traced(
    strace: str, target: Path, *inject: str, program: str = WRITER
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The run and its log."""
    log = target.parent.parent / "strace.log"
    tool = [strace, "-f", "-o", str(log), "-e", f"trace={CALLS},openat", *inject]
    run = run_writer(target, *tool, program=program)
    lines = log.read_text(errors="replace").splitlines()
    return run, lines


def assert_durable(strace: str, target: Path, program: str) -> None:
    run, lines = traced(strace, target, program=program)
    assert run.returncode == 0, run.stderr
    from_here = next(i for i, line in enumerate(lines) if "O_EXCL" in line and str(target.parent) in line)
    names = [re.sub(r"^\d+ +(\w+)\(.*", r"\1", line) for line in lines[from_here:] if "(" in line]
    assert names == ["openat", "write", "fsync", "rename", "openat", "fsync"]
    opened, written, synced, renamed, folder, folder_synced = lines[from_here : from_here + 6]
    descriptor = opened.rsplit("= ", 1)[1]
    assert f"write({descriptor}, " in written and f"fsync({descriptor})" in synced
    assert f'"{target}"' in renamed and f'"{target.parent}"' in folder and "O_RDONLY" in folder
    assert f"fsync({folder.rsplit('= ', 1)[1]})" in folder_synced


def test_the_order_of_calls_survives_a_power_cut(strace: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert_durable(strace, tmp_path / "folder" / "file", WRITER)


@pytest.mark.parametrize("left_out", ["os.fsync = lambda descriptor: None", "files.sync_folder = lambda folder: None"])
def test_negative_control_a_writer_that_leaves_out_a_sync_is_noticed(
    strace: str, tmp_path: Path, left_out: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(AssertionError):
        assert_durable(
            strace, tmp_path / "folder" / "file", f"import os\nfrom manako import files\n{left_out}\n" + WRITER
        )


def injections(strace: str, target: Path) -> list[str]:
    """strace's `call:when=N` for each call that one save makes."""
    _, lines = traced(strace, target)
    from_here = next(i for i, line in enumerate(lines) if "O_EXCL" in line and str(target.parent) in line)
    counts: dict[str, int] = {}
    places: list[str] = []
    for i, line in enumerate(lines):
        if match := re.match(r"^\d+ +(\w+)\(", line):
            counts[match[1]] = counts.get(match[1], 0) + 1
            if i >= from_here:
                places.append(f"{match[1]}:{{what}}:when={counts[match[1]]}")
    return places


@pytest.mark.slow
@pytest.mark.parametrize("what", ["signal=KILL", "error=ENOSPC", "error=EIO", "error=EDQUOT", "error=EINTR"])
def test_old_or_new_at_every_call_of_one_save(strace: str, tmp_path: Path, what: str) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "file"
    target.write_bytes(OLD)
    places = injections(strace, target)
    assert [place.split(":")[0] for place in places] == ["openat", "write", "fsync", "rename", "openat", "fsync"]
    for number, place in enumerate(places):
        for left in target.parent.iterdir():
            left.unlink()
        target.write_bytes(OLD)
        run, lines = traced(strace, target, "-e", "inject=" + place.format(what=what))
        killed = what == "signal=KILL"
        assert killed or any("INJECTED" in line for line in lines), place
        content = target.read_bytes()
        assert content in (OLD, NEW), place
        if killed:
            assert run.returncode in (-9, 137), place
            continue
        retried = what == "error=EINTR" and number != 3  # Python repeats all of them but rename (PEP 475)
        assert run.returncode == (0 if retried else 1), (place, run.stderr)
        if number < 4 and not retried:
            assert content == OLD and str(target) in run.stderr and "Traceback" not in run.stderr
        else:
            assert content == NEW
        assert [p.name for p in target.parent.iterdir()] == ["file"], place


def test_the_size_limit_of_the_process_cuts_a_write_short(tmp_path: Path) -> None:
    # A true short write: the kernel takes the first 8 KB and refuses the rest with EFBIG.
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "file"
    target.write_bytes(OLD)
    resource = pytest.importorskip("resource")
    limit = (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    run = run_writer(target, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert run.returncode == 1 and "File too large" in run.stderr and "Traceback" not in run.stderr
    assert_old_and_nothing_beside(target)


@pytest.mark.slow
def test_a_disk_of_one_megabyte(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=1m none "$1" || exit 99; "$2" -c "$3" "$1/file"; echo $?; ls -A "$1"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable, WRITER]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60) if shutil.which("unshare") else None
    if run is None or run.returncode == 99 or "unshare:" in run.stderr:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("a file system cannot be mounted here")
    assert run.stdout == "1\n" and "32.0 kB needed" in run.stderr and "Traceback" not in run.stderr


# writable_target


def refused(path: Path, force: bool) -> tuple[type[ManakoError], int, str]:
    with pytest.raises(ManakoError) as caught:
        writable_target(path, force)
    assert str(caught.value.values["file"]) in str(caught.value)
    return type(caught.value), caught.value.exit_code, caught.value.code


def test_a_target_is_checked_before_the_work(tmp_path: Path, target: Path) -> None:
    assert refused(target, force=False) == (UsageError, 2, "E-TARGET-EXISTS")
    writable_target(target, force=True)
    writable_target(target.parent / "new", force=False)
    for force in (False, True):
        assert refused(target.parent, force) == (UsageError, 2, "E-TARGET-IS-FOLDER")
        assert refused(tmp_path / "missing" / "a", force) == (ManakoError, 1, "E-TARGET-FOLDER-MISSING")
        assert refused(target / "a", force) == (ManakoError, 1, "E-TARGET-FOLDER-MISSING")
        assert refused(tmp_path / ("n" * 300), force) == (ManakoError, 1, "E-WRITE-FAILED")
    assert_old_and_nothing_beside(target)


def test_a_device_pipe_or_dangling_link_is_no_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/full")):
        for force in (False, True):
            assert refused(path, force) == (UsageError, 2, "E-FILE-NOT-REGULAR")
    assert refused(tmp_path / "dangling", force=False) == (UsageError, 2, "E-TARGET-EXISTS")
    writable_target(tmp_path / "dangling", force=True)


AS_ANOTHER_USER = """
import os
from pathlib import Path
from manako.errors import ManakoError
from manako.files import read_regular, writable_target, write_file
from manako.messages import catalog
catalog("en")
if os.getuid() == 0:  # to root permissions mean nothing
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for call in (
    lambda: writable_target(Path("closed/new"), False),
    lambda: writable_target(Path("closed/new"), True),
    lambda: write_file(Path("closed/new"), b""),
    lambda: read_regular(Path("closed/file")),
):
    try:
        call()
        print("done")
    except ManakoError as error:
        print(error.exit_code, error.code, "closed/" in str(error), "Permission denied" in str(error))
"""


def test_no_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "file").write_bytes(OLD)
    tmp_path.chmod(0o755)
    for mode, reading in ((0o555, "done"), (0o000, "3 E-FILE-UNREADABLE True True")):
        closed.chmod(mode)
        # Names relative to a working folder: the folders above it are pytest's own, and closed to others.
        command = [sys.executable, "-c", AS_ANOTHER_USER]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        closed.chmod(0o700)
        assert run.stdout.splitlines() == ["1 E-WRITE-FAILED True True"] * 3 + [reading], run.stderr
    assert [p.name for p in closed.iterdir()] == ["file"]


# read_regular


def unreadable(path: Path, limit: int | None = None) -> str:
    with pytest.raises(LoadError) as caught:
        read_regular(path, limit)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    return caught.value.code


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("nowhere", "dangling", "loop", "new\nline", "\x1b[2J", os.fsdecode(b"\xff")):
        assert unreadable(tmp_path / name) == "E-FILE-MISSING"
    assert unreadable(tmp_path) == "E-FILE-IS-FOLDER"
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        assert unreadable(path) == "E-FILE-NOT-REGULAR"
    assert unreadable(tmp_path / ("n" * 300)) == "E-FILE-UNREADABLE"
    assert unreadable(tmp_path / "nul\0byte") in ("E-FILE-MISSING", "E-FILE-UNREADABLE")


def test_a_socket_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has 108 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert unreadable(Path("socket")) == "E-FILE-NOT-REGULAR"


def test_sizes_are_checked_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(11))
    assert read_regular(path, limit=11) == bytes(11)
    assert unreadable(path, limit=10) == "E-FILE-TOO-LARGE"
    with path.open("r+b") as stream:
        stream.truncate(2**40)  # sparse: a terabyte that takes no space
    assert unreadable(path, limit=1 << 20) == "E-FILE-TOO-LARGE"


@pytest.mark.parametrize("problem", [MemoryError, OverflowError])
def test_a_file_larger_than_the_memory(target: Path, monkeypatch: pytest.MonkeyPatch, problem: type[Exception]) -> None:
    def read(path: Path) -> bytes:
        raise problem

    monkeypatch.setattr(Path, "read_bytes", read)
    assert unreadable(target) == "E-FILE-UNREADABLE"


# strict_json


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[]",
        "1",
        '"text"',
        "{",
        "{}{}",
        "{} x",
        "{'a': 1}",
        '{"a": 1, "a": 1}',
        '{"b": {"a": 1, "a": 2}}',
        '{"a": 1, "\\u0061": 2}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": -1e999}',
        '{"a": ' + "1" * 5000 + "}",
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": ["\\ud83d"]}',
        '{"a": 01}',
        '{"a": "\n"}',
        '{"a": 1,}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": ' + "[" * DEEPEST_JSON + "]" * DEEPEST_JSON + "}",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        '{"a": 1}'.encode("utf-16-le"),
        b"\x80\x04}.",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_json_that_is_not_strict_is_refused(text: str | bytes) -> None:
    with pytest.raises(LoadError) as caught:
        strict_json(text, "config.json")
    assert caught.value.code == "E-JSON-INVALID" and caught.value.exit_code == 3
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_the_deepest_json_that_is_read() -> None:
    text = '{"a": ' + "[" * (DEEPEST_JSON - 1) + "]" * (DEEPEST_JSON - 1) + "}"
    assert strict_json(text, "a") == json.loads(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.dictionaries(st.text(max_size=6), values, max_size=4), st.booleans())
@pytest.mark.slow
def test_json_that_python_writes_is_read_as_it_was(value: dict[str, Any], ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert strict_json(text, "a") == value == strict_json(text.encode(), "a")


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789eE+-.\\unaNI \t', max_size=60))
def test_nothing_but_a_load_error_comes_out(text: str | bytes) -> None:
    try:
        assert type(strict_json(text, "a")) is dict
    except LoadError:
        pass


# --- a folder, whole or not at all ------------------------------------------------------------------------------------


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "c"
    with new_folder(folder) as temporary:
        write_file(temporary / "a", b"x")
        assert temporary.parent == folder.parent and not folder.exists()
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["new", "new/c", "new/c/a"]


@pytest.mark.parametrize("error", [UsageError("seed", got=1), KeyboardInterrupt(), ZeroDivisionError()])
def test_a_new_folder_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        with new_folder(tmp_path / "new" / "c") as temporary:
            write_file(temporary / "a", b"x")
            raise error
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_an_empty_folder_stays_and_leads_to_the_new_one(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real", tmp_path / "link"
    real.mkdir(parents=True)
    link.symlink_to(Path("disk") / "real")
    with new_folder(link) as temporary:
        assert temporary.parent == real.parent  # so that the last step is a rename on one disk
        (temporary / "a").write_bytes(NEW)
    assert link.is_symlink() and (real / "a").read_bytes() == NEW and [*real.parent.iterdir()] == [real]


def test_a_folder_that_cannot_be_replaced_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).samefile(tmp_path / "disk"))
    for name, key in (("dangling", "target_exists_folder"), ("loop", "target_exists_folder"), ("disk", "write_failed")):
        with pytest.raises(ManakoError) as caught, new_folder(tmp_path / name):
            pytest.fail("the work was begun")
        assert caught.value.key == key and caught.value.values["file"] == str(tmp_path / name)
    with pytest.raises(ManakoError):
        writable_folder(tmp_path / "link")
    assert writable_folder(tmp_path / "link", in_place=True) == tmp_path / "disk"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling", "disk", "link", "loop"]


def test_an_error_inside_a_new_folder_names_the_folder_that_was_wanted(tmp_path: Path) -> None:
    for failing in (lambda t: write_file(t / "none" / "a", b"x"), lambda t: (t / "none").rmdir()):
        with pytest.raises(ManakoError) as caught:
            with new_folder(tmp_path / "c") as temporary:
                failing(temporary)
        assert caught.value.key == "write_failed" and caught.value.values["file"] == str(tmp_path / "c")
        assert list(tmp_path.iterdir()) == []


def test_without_replacing_one_of_many_writers_wins(tmp_path: Path) -> None:
    """Four at once: one wins, three are told, and what stands there is whole."""
    path, results = tmp_path / "a.manako", list[str]()
    barrier = threading.Barrier(4)

    def write(n: int) -> None:
        barrier.wait()
        try:
            write_file(path, bytes([n]) * 1000, replace=False)
            results.append("wrote")
        except UsageError as error:
            results.append(error.key)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["target_exists"] * 3 + ["wrote"]
    assert len(set(path.read_bytes())) == 1 and path.stat().st_size == 1000
    assert [p.name for p in tmp_path.iterdir()] == ["a.manako"]


def test_without_hard_links_nothing_is_replaced_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    write_file(tmp_path / "a", b"first", replace=False)
    with pytest.raises(UsageError):
        write_file(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1


def test_a_bare_infinity_is_read_where_it_is_asked_for() -> None:
    """transformers 4 wrote it into config.json, for the limits of Mamba 2's time steps."""
    assert files.strict_json('{"a": [0.0, Infinity], "b": -Infinity}', "x", infinity=True)["a"][1] == float("inf")
    for text, allowed in (('{"a": Infinity}', False), ('{"a": NaN}', True)):
        with pytest.raises(LoadError):
            files.strict_json(text, "x", infinity=allowed)


@pytest.mark.skipif(files.fcntl is None, reason="nothing is locked there")
def test_a_file_that_is_swept_before_it_is_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweeper that has the lock already has yet to unlink: seen there, the file would be gone a moment later."""
    created, sweepers = files._created, list[threading.Thread]()

    def swept(path: Path, is_folder: bool) -> int:
        descriptor = created(path, is_folder)
        if not sweepers:
            other = os.open(path, os.O_RDONLY)
            files.fcntl.flock(other, files.fcntl.LOCK_EX)

            def sweep() -> None:
                time.sleep(0.1)
                path.unlink()
                os.close(other)

            sweepers.append(threading.Thread(target=sweep))
            sweepers[0].start()
        return descriptor

    monkeypatch.setattr(files, "_created", swept)
    temporary, descriptor = files._begin(tmp_path / "a")
    sweepers[0].join()
    os.close(descriptor)
    assert [*tmp_path.iterdir()] == [temporary]


def test_without_hard_links_a_write_that_fails_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no such thing here")

    if os.name == "nt":
        pytest.skip("a rename does it there")
    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ManakoError):
        write_file(tmp_path / "a", b"x", replace=False)
    assert [*tmp_path.iterdir()] == []
