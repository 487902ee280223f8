"""`manako step`: what it refuses and how, and that a real terminal is left as it was found, whatever happens."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyte
import pytest
from commands import MANAKO, Run, environment
from golden import golden_trace

from manako.cli import step as command
from manako.trace.tree import open_tree

# --- refused ----------------------------------------------------------------------------------------------------------


def test_without_a_terminal_it_names_watch(run: Run) -> None:
    done = run("step", "私は")
    assert done.code == 2 and "manako watch" in done.err and "E-STEP-NO-TERMINAL" in done.err
    assert done.err.count("\n") == 1


def test_plain_names_watch_too(run: Run) -> None:
    done = run("step", "私は", "--plain")
    assert done.code == 2 and "manako watch --plain" in done.err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if there were a terminal, and nobody to guard it from."""
    monkeypatch.setattr(command, "_at_a_terminal", lambda: True)
    monkeypatch.setattr(command, "guard", lambda: None)
    return monkeypatch


def test_a_missing_extra_has_the_line_that_installs_it(run: Run, here: pytest.MonkeyPatch) -> None:
    here.setattr(command, "find_spec", lambda name: None)
    done = run("step", "私は")
    assert done.code == 5 and "pip install 'manako[tui]'" in done.err


def test_a_damaged_file(run: Run, here: pytest.MonkeyPatch, tmp_path: Path) -> None:
    golden_trace().save(tmp_path / "t.manako")
    data = bytearray((tmp_path / "t.manako").read_bytes())
    data[-1] ^= 1
    (tmp_path / "t.manako").write_bytes(data)
    done = run("step", tmp_path / "t.manako")
    assert done.code == 3 and "E-TRACE-DAMAGED" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(("option", "code"), [(("--step", "0"), 2), (("--step", "99"), 2), (("--top", "0"), 2)])
def test_numbers_out_of_range(
    run: Run, here: pytest.MonkeyPatch, tmp_path: Path, option: tuple[str, str], code: int
) -> None:
    golden_trace().save(tmp_path / "t.manako")
    assert run("step", tmp_path / "t.manako", *option).code == code


def test_no_such_model(run: Run, here: pytest.MonkeyPatch) -> None:
    assert run("step", "私は", "-m", "no-such").code == 3


# --- in a terminal ----------------------------------------------------------------------------------------------------


# pyte knows neither what asks for the version of a terminal nor the keyboard's own protocol
UNKNOWN = re.compile(rb"\x1b\[[<>=?][0-9;]*[upqh]|\x1b\[\?[0-9;]*\$p|\x1bP[^\x1b]*\x1b\\")
BEGUN = re.compile(rb"\x1b(\[[<>=?]?[0-9;]*\$?|P[^\x1b]*\x1b?)?\Z")


@dataclass
class Terminal:
    """A terminal with a program in it."""

    process: subprocess.Popen[bytes]
    file: int
    before: list[object]
    """Its settings before the program began."""
    screen: pyte.Screen
    data: bytes = b""
    begun: bytes = b""
    """A sequence of which only the beginning has come."""
    stream: pyte.ByteStream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = pyte.ByteStream(self.screen)

    def read(self, seconds: float = 0.1) -> bool:
        """What it has written meanwhile; False where nothing comes."""
        ready, _, _ = select.select([self.file], [], [], seconds)
        try:
            data = os.read(self.file, 65536) if ready else b""
        except OSError:  # the other end is closed
            return False
        self.data += data
        self.show(data)
        return bool(data)

    def show(self, data: bytes) -> None:
        """Put on the screen what came, wherever it was cut."""
        whole = self.begun + data
        self.begun = begun[0] if (begun := BEGUN.search(whole)) else b""
        self.stream.feed(UNKNOWN.sub(b"", whole[: len(whole) - len(self.begun)]))

    def until(self, wanted: str) -> None:
        """Wait for a text on the screen."""
        end = time.monotonic() + 60
        while wanted not in "\n".join(self.screen.display):
            self.read()
            assert time.monotonic() < end, "\n".join(self.screen.display)

    def send(self, keys: str) -> None:
        os.write(self.file, keys.encode())

    def ended(self) -> int:
        """Its exit code, once all that it wrote is read."""
        end = time.monotonic() + 60
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < end, "it does not end"
        while self.read():
            pass
        return self.process.returncode

    def check_clean(self) -> None:
        """The other screen, the mouse and the hidden cursor are gone, and the settings are those from before."""
        for on in (b"\x1b[?1049", b"\x1b[?1000", b"\x1b[?1003", b"\x1b[?2004"):
            assert self.data.rfind(on + b"l") > self.data.rfind(on + b"h") >= 0, on
        assert self.data.rfind(b"\x1b[?25h") > self.data.rfind(b"\x1b[?25l") >= 0
        assert termios.tcgetattr(self.file) == self.before


@contextmanager
def terminal(*arguments: str, size: tuple[int, int] = (100, 36), program: list[str] = MANAKO) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    before = termios.tcgetattr(master)
    process = subprocess.Popen(
        [*program, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=environment(TERM="xterm-256color", MANAKO_AMBIGUOUS_WIDTH="1"),
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        yield Terminal(process, master, before, pyte.Screen(*size))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(master)
        os.close(slave)


def test_what_comes_in_pieces_is_the_same_screen() -> None:
    """Of the harness: a sequence that pyte does not know may come in two reads."""
    said = b"\x1b[?1049h\x1b[>1u\x1b[?2026$p\x1bP+q436f\x1b\\\x1b[2;3Ha\x1b[>1ub\x1b[<uc\x1b[1md"
    for size in (1, 2, 3, len(said)):
        seen = Terminal.__new__(Terminal)
        seen.screen, seen.begun = pyte.Screen(10, 3), b""
        seen.__post_init__()
        for start in range(0, len(said), size):
            seen.show(said[start : start + size])
        assert [line.rstrip() for line in seen.screen.display] == ["", "  abcd", ""], size


def child(process: subprocess.Popen[bytes]) -> int:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(listed.split()[0])


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the child in /proc")


@pytest.mark.slow
def test_a_whole_session(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where step.manako is saved
    with terminal("step", "私", "-m", toy, "--seed", "1", "--lang", "ja") as seen:
        seen.until("ステップ 1/1")
        seen.send("\x1b[C\x1b[C")
        seen.until("ステップ 3/3")
        seen.send("s")
        seen.until("step.manako")
        seen.send("\r")
        seen.until("書き込みました")
        seen.send("q")
        assert seen.ended() == 0
        seen.check_clean()
        left = seen.data.rpartition(b"\x1b[?1049l")[2].decode()
        assert "manako step --step 3" in left and "私" in left
    assert len(open_tree(tmp_path / "step.manako").branches[0].trace) == 3


@pytest.mark.slow
def test_a_saved_trace_at_a_step(tmp_path: Path) -> None:
    golden_trace().save(tmp_path / "t.manako")
    with terminal("step", str(tmp_path / "t.manako"), "--step", "5", size=(60, 24)) as seen:
        seen.until("step 5 of 12")
        seen.send("\x03")  # Ctrl-C is a way to quit as well
        assert seen.ended() == 0
        seen.check_clean()


@pytest.mark.slow
def test_a_crash_leaves_the_terminal_clean(toy: str) -> None:
    code = (
        "from manako.tui.stepper import Stepper\nStepper.back = lambda self: 1 / 0\n"
        "from manako.cli import main\nimport sys\nmain(sys.argv[1:])"
    )
    with terminal("step", "私", "-m", toy, program=[sys.executable, "-W", "error", "-c", code]) as seen:
        seen.until("step 1 of 1")
        seen.send("\x1b[D")
        assert seen.ended() == 1
        seen.check_clean()
        assert b"E-UNEXPECTED" in seen.data and b"Traceback" not in seen.data


@linux
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_killed_child_leaves_the_terminal_clean(toy: str, number: signal.Signals) -> None:
    with terminal("step", "私", "-m", toy) as seen:
        seen.until("step 1 of 1")
        os.kill(child(seen.process), number)
        assert seen.ended() == 1
        seen.check_clean()
        assert b"E-STEP-KILLED" in seen.data and f"signal {number.value}".encode() in seen.data


@linux
@pytest.mark.slow
def test_ending_the_command_ends_the_child(toy: str) -> None:
    with terminal("step", "私", "-m", toy) as seen:
        seen.until("step 1 of 1")
        inner = child(seen.process)
        seen.process.send_signal(signal.SIGTERM)
        assert seen.ended() == 1
        seen.check_clean()
        assert not Path(f"/proc/{inner}").exists()


@pytest.mark.slow
def test_a_narrow_terminal_says_what_it_needs(toy: str) -> None:
    with terminal("step", "私", "-m", toy, size=(30, 20)) as seen:
        seen.until("40 columns")
        seen.send("q")
        assert seen.ended() == 0
        seen.check_clean()
