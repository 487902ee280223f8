"""F28, F29, P35: Ctrl-C, a second one, a stop and a kill, sent to real processes at moments that their output tells."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import MANAKO, Run, environment
from toy import write_toy

import manako
from manako.cli.running import Interrupts
from manako.engines.generation import Generation
from manako.tokenizer import from_characters
from manako.trace.tree import open_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
Process = subprocess.Popen[str]


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that never ends its document, since it has no token for that."""
    folder = tmp_path_factory.mktemp("endless") / "model"
    write_toy(folder, from_characters("あいうえおかきくけこ"))
    return str(folder)


def start(*words: str, count: int = 1_000_000) -> Process:
    command = [*MANAKO, "watch", "あ", "-n", str(count), "--seed", "1", "--lang", "en", "--view", "steps", *words]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(process: Process, found: Callable[[str], bool]) -> str:
    assert process.stdout
    text = ""
    while not found(text):
        line = process.stdout.readline()
        assert line, text  # it ended before
        text += line
    return text


def finish(process: Process) -> tuple[str, str]:
    """The rest of both outputs; not by communicate(), which passes over what readline() has already buffered."""
    assert process.stdout and process.stderr
    watchdog = threading.Timer(60, process.kill)  # one that does not end must be a failure, not a hang
    watchdog.start()
    try:
        with process:
            return process.stdout.read(), process.stderr.read()
    finally:
        watchdog.cancel()


def check_interrupted(model: str, path: Path, moment: Callable[[str], bool]) -> None:
    process = start("-m", model, "--save", str(path))
    before = read_until(process, moment)
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert process.returncode == 130
    trace = manako.open(path)
    first, second = err.splitlines()
    assert first == "manako: interrupted" and second.startswith(f"manako: saved {path} (")
    assert trace.header.end == "interrupted" and 0 < len(trace) < 1_000_000
    shown = before + out
    assert shown.count("--- Step ") == shown.count(">>> chosen") == len(trace)  # no step is shown in part
    end = shown.split("The whole text:\n")[1]
    assert end.startswith(trace.text + "\n") and f"Interrupted. Tokens generated: {len(trace)}." in end
    assert manako.verify(trace).failure is None
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def at_step(number: int) -> Callable[[str], bool]:
    return lambda text: f"--- Step {number} ---" in text


@pytest.mark.slow
def test_ctrl_c_keeps_and_prints_what_there_is(endless: str, tmp_path: Path) -> None:
    check_interrupted(endless, tmp_path / "a.manako", at_step(3))


@pytest.mark.slow
@pytest.mark.parametrize("number", [*range(1, 29), 100, 700])
def test_ctrl_c_at_thirty_moments(endless: str, tmp_path: Path, number: int) -> None:
    moment = at_step((number + 1) // 2) if number < 29 else at_step(number)
    inside = number % 2 == 0  # in the middle of a step's lines as well
    check_interrupted(
        endless, tmp_path / "a.manako", lambda text: moment(text) and (not inside or text[-5:] == "----\n")
    )


@pytest.mark.slow
def test_jsonl_holds_whole_lines(endless: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    process = start("-m", endless, "--jsonl", "--save", str(path))
    before = read_until(process, lambda text: text.count("\n") == 4)
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert process.returncode == 130 and err.startswith("manako: seed 1\nmanako: interrupted\nmanako: saved ")
    steps = [json.loads(line) for line in (before + out).splitlines()]
    assert [s["chosen"]["id"] for s in steps] == manako.open(path).columns.token_id.tolist()


@pytest.mark.slow
def test_a_kill_leaves_no_file_and_whole_lines(endless: str, tmp_path: Path) -> None:
    process = start("-m", endless, "--jsonl", "--save", str(tmp_path / "a.manako"))
    before = read_until(process, lambda text: text.count("\n") == 4)
    process.kill()
    out, _ = finish(process)
    lines = (before + out).split("\n")
    assert all(json.loads(line)["index"] == n for n, line in enumerate(lines[:-1]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_while_waiting_for_a_prompt(endless: str) -> None:
    command = [*MANAKO, "watch", "-", "-m", endless]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment(), text=True, **pipes)
    assert process.stdin
    blocked = Path(f"/proc/{process.pid}/wchan")
    if not blocked.exists():
        pytest.skip("no /proc to see that it waits")
    while "pipe" not in blocked.read_text():
        pause()
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert finish(process)[1] == "\nmanako: interrupted\n" and process.returncode == 130


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(endless: str, tmp_path: Path) -> None:
    """Nobody reads its output, so it cannot finish the step in hand; the second one must get through nevertheless."""
    process = start("-m", endless, "--save", str(tmp_path / "a.manako"))
    assert process.stdout
    waiting, still = 0, 0
    while still < 25:  # the pipe is full once nothing has been added for half a second
        before, waiting = waiting, pending(process.stdout.fileno())
        still = still + 1 if waiting == before > 32_768 else 0
        pause()
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # noted; and two at the same moment would count as one
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    _, err = finish(process)
    assert err.endswith("manako: interrupted\n") and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


MADE = {"watch": ["watch", "あ", "--samples", "3"], "compare": ["compare", "あ", "-t", "0.5", "-t", "1", "-t", "2"]}


def ctrl_c(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Press it while these steps are made, counted from 1 over all runs."""
    made, advance = iter(range(1, 1_000)), Generation.advance

    def pressed(generation: Generation) -> bool:
        if next(made) in steps:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(generation)

    monkeypatch.setattr(Generation, "advance", pressed)


@pytest.mark.parametrize("words", MADE.values(), ids=MADE)
@pytest.mark.parametrize("how", ["", "--step=4", "--json", "--jsonl"])
def test_ctrl_c_keeps_and_prints_the_runs_that_there_are(
    run: Run, endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], how: str
) -> None:
    ctrl_c(monkeypatch, 8)  # five steps and the look that there are no more, then two
    path = tmp_path / "a.manako"
    more = filter(None, [how])
    done = run(*words, "-m", endless, "-n", 5, "--seed", 1, "--save", path, "--lang", "en", *more)
    first, second = done.err.splitlines()[-2:]
    assert done.code == 130 and first == "manako: interrupted" and second.startswith(f"manako: saved {path} (")
    traces = [branch.trace for branch in open_tree(path).branches]
    assert [(len(t), t.header.end) for t in traces] == [(5, "length"), (2, "interrupted")]
    if how == "--json":
        shown = json.loads(done.out)["runs"]
    elif how == "--jsonl":
        shown = [json.loads(line) for line in done.out.splitlines()]
    else:
        assert all(t.text in done.out.replace("|", "") for t in traces) and ("Step 4" in done.out) == (how != "")
        return
    assert [len(each["steps"]) for each in shown] == [5, 2]


@pytest.mark.parametrize("words", MADE.values(), ids=MADE)
def test_ctrl_c_in_the_first_run_leaves_one_to_show(
    run: Run, endless: str, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    ctrl_c(monkeypatch, 3)
    done = run(*words, "-m", endless, "-n", 5, "--seed", 1, "--step", 5, "--lang", "en")
    assert (
        done.code == 130
        and done.err.endswith("manako: interrupted\n")
        and " numbers" not in done.out
        and "All runs" not in done.out
    )
    assert re.search(r"^T=0.[58] +あ", done.out, re.M)


@pytest.mark.parametrize("words", MADE.values(), ids=MADE)
def test_a_second_ctrl_c_ends_several_runs_at_once(
    run: Run, endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    advance = Generation.advance

    def pressed_twice(generation: Generation) -> bool:
        if len(generation.record()) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return advance(generation)

    monkeypatch.setattr(Generation, "advance", pressed_twice)
    done = run(*words, "-m", endless, "-n", 5, "--save", tmp_path / "a.manako", "--lang", "en")
    assert (done.code, done.out) == (130, "") and done.err.endswith("manako: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["compare", "eval"])
def test_ctrl_c_while_the_next_model_loads(
    run: Run, endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from manako.cli import eval, running

    def pressed(ref: str) -> manako.Model:
        if ref == "next":
            os.kill(os.getpid(), signal.SIGINT)
        return manako.load(ref)

    (tmp_path / "text").write_text("あい" * 9, encoding="utf-8")
    monkeypatch.setattr(running if command == "compare" else eval, "load", pressed)
    given = {"compare": ["あ", "-n", 3, "--save", tmp_path / "a.manako"], "eval": ["--data", tmp_path / "text"]}
    done = run(command, *given[command], "-m", endless, "-m", "next", "-m", endless, "--lang", "en")
    assert done.code == 130 and done.err.splitlines()[-1 if command == "eval" else -2] == "manako: interrupted"
    if command == "compare":
        (branch,) = open_tree(tmp_path / "a.manako").branches
        assert branch.trace.header.end == "length" and branch.trace.text in done.out
    else:
        assert done.out.count("bits per character") == 1


@pytest.mark.slow
def test_ctrl_c_that_ends_the_reader_too_is_told(endless: str, tmp_path: Path) -> None:
    """As at a terminal, where `manako … | tee` gets it in both."""
    process = start("-m", endless, "--save", str(tmp_path / "a.manako"))
    read_until(process, at_step(3))
    process.send_signal(signal.SIGINT)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.readline() == "manako: interrupted\n" and process.stderr.readline()
    process.stderr.close()
    assert process.wait(60) == 130 and manako.open(tmp_path / "a.manako").header.end == "interrupted"


@pytest.mark.slow
def test_ctrl_c_between_runs_of_a_real_process(endless: str, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    process = start("-m", endless, "--samples", "1000", "--jsonl", "--save", str(path), count=30)
    before = read_until(process, lambda text: text.count("\n") == 2)
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert err.count("\n") == 2, err
    first, second = err.splitlines()
    assert process.returncode == 130 and first == "manako: interrupted" and second.startswith("manako: saved ")
    shown = [json.loads(line) for line in (before + out).splitlines()]
    kept = [branch.trace for branch in open_tree(path).branches]
    assert 2 <= len(kept) < 1000
    assert [len(each["steps"]) for each in shown] == [*map(len, kept)]


def pause() -> None:
    select.select([], [], [], 0.02)


def pending(descriptor: int) -> int:
    import array
    import fcntl
    import termios

    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


@pytest.mark.slow
def test_stopped_and_continued(endless: str) -> None:
    process = start("-m", endless, count=40)
    before = read_until(process, at_step(2))
    process.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.send_signal(signal.SIGCONT)
    out, err = finish(process)
    assert (process.returncode, err) == (0, "") and (before + out).count(">>> chosen") == 40


def test_the_handlers_come_and_go() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.seen
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.seen
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
