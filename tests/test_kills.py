"""Commands ended by a signal at any moment: the old file or the new one, a run that goes on, no dead folder.

`pytest tests/test_kills.py -m "" --kills 80` kills each of five commands so often; by default a few times.
"""

import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import manako
from manako.cli import main
from manako.corpus.packed import is_packed, open_whole
from manako.formats import run_folder
from manako.training import loop, machine  # noqa: F401  imported once, here, and not in each child

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TEXT = "私は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 60
SHAPE = "--n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --batch-size 2"
SIZE = [*SHAPE.split(), *"--steps 30 --eval-interval 6 --min-count 1 --device cpu".split()]
FEW = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


WRITES = ("open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir")


def started(words: Sequence[str], said: Path, until: tuple[int, Path] | None = None) -> int:
    """The command in a process of its own, which has everything imported.

    A signal that comes before the command itself has begun waits for it: what then happens is the command's to say.
    until: it kills itself when it is about to touch something in this folder for so manieth a time.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if child := os.fork():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return child
    code = 99
    try:
        for number in SIGNALS[1:]:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        with said.open("w") as stream:
            os.dup2(stream.fileno(), 2)
            os.dup2(stream.fileno(), 1)
            sys.stdout = sys.stderr = stream
            sys.argv = ["manako", *words, "--lang", "en"]
            if until:
                _kill_at(*until)
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            except KeyboardInterrupt:
                os._exit(130)
            try:
                main()  # as the program calls it: at its end it takes no signal any more
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            stream.flush()
    finally:
        os._exit(code)


def _kill_at(count: int, folder: Path) -> None:
    left = itertools.count(count, -1)

    def hook(event: str, values: tuple[object, ...]) -> None:
        if event in WRITES and isinstance(values[0], str | Path) and Path(values[0]).is_relative_to(folder):
            if not next(left):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def ended(child: int, number: int, seconds: float) -> int:
    """Send a signal after some time; the exit code, or minus the signal that ended it."""
    time.sleep(seconds)
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(autouse=True, scope="module")
def small_probe() -> Iterator[None]:
    """Of the speed of its products nothing is asked here."""
    before, machine.PROBE = machine.PROBE, 64
    yield
    machine.PROBE = before


def finished(words: Sequence[str], said: Path, until: tuple[int, Path] | None = None) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(started(words, said, until), 0)[1])


@pytest.fixture(scope="module")
def things(small_probe: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a trace, and a run that was stopped in the middle."""
    place = tmp_path_factory.mktemp("things")
    (place / "a.txt").write_text(TEXT, encoding="utf-8")
    manako.load("demo").trace("私", max_new_tokens=3, seed=0).save(place / "a.manako")
    child = started(["train", "--data", str(place / "a.txt"), "--out", str(place / "run"), *SIZE], place / "said")
    while not (place / "run" / "metrics.jsonl").exists():
        time.sleep(0.01)
    assert ended(child, signal.SIGINT, 0) == 130
    return place


@pytest.mark.parametrize("name", ["train", "resume", "corpus", "watch", "export"])
def test_nothing_is_lost_and_nothing_is_left(
    request: pytest.FixtureRequest, tmp_path: Path, things: Path, name: str
) -> None:
    rng, ends = random.Random(name), Counter[str]()
    new, said = tmp_path / "new", tmp_path / "said"
    words = {
        "train": ["train", "--data", str(things / "a.txt"), "--out", str(new), *SIZE],
        "resume": ["resume", str(new)],
        "corpus": ["corpus", "build", str(things / "a.txt"), "-o", str(new)],
        "watch": ["watch", "私", "-m", "demo", "-n", "40", "--seed", "0", "--save", str(new), "-f"],
        "export": ["export", "html", str(things / "a.manako"), "-o", str(new), "-f"],
    }[name]

    def begin_anew() -> None:
        shutil.rmtree(new, ignore_errors=True) if new.is_dir() else new.unlink(missing_ok=True)
        if name == "resume":
            shutil.copytree(things / "run", new)

    begin_anew()
    began = time.monotonic()
    assert finished(words, said) == 0, said.read_text()
    longest, whole = time.monotonic() - began, new.stat().st_size
    for kill in range(request.config.getoption("kills") or FEW):
        number = SIGNALS[kill % len(SIGNALS)]
        if name in ("train", "resume", "corpus"):
            begin_anew()
        code = ended(started(words, said), number, rng.uniform(0, longest))
        ends[f"{signal.Signals(number).name} {code}"] += 1
        assert code in (0, -number, 130, 128 + number), (number, code, said.read_text())
        assert "Traceback" not in said.read_text() and "E-UNEXPECTED" not in said.read_text(), said.read_text()
        if name == "watch" and new.stat().st_size:
            assert manako.verify(manako.open(new)).failure is None
        elif name == "export":
            assert new.stat().st_size == whole
        elif name == "corpus":
            assert not new.exists() or (is_packed(new) and open_whole(new))
        elif new.exists() and run_folder.is_run(new):  # train, resume: it goes on from there
            assert finished(["resume", str(new)], said) == 0, said.read_text()
            assert run_folder.steps(new)[-1] == 30 and manako.load(new)
        else:
            assert name == "train"
        again = ["resume", str(new)] if name == "resume" else words
        if not (name in ("train", "corpus") and new.exists() and (run_folder.is_run(new) or is_packed(new))):
            assert finished(again, said) == 0, said.read_text()  # the same command again
        assert not [p for p in tmp_path.rglob(".*.tmp")], kill
    print(f"{name}: {dict(ends)}")  # noqa: T201


def test_a_training_killed_at_any_of_its_first_writes_can_be_begun_again(tmp_path: Path, things: Path) -> None:
    new, said, packed = tmp_path / "new", tmp_path / "said", str(tmp_path / "packed")
    assert finished(["corpus", "build", str(things / "a.txt"), "-o", packed, "--min-count", "1"], said) == 0
    words = ["train", "--data", packed, "--out", str(new), *SIZE[:-4], "--device", "cpu"]
    for count in itertools.count():
        assert finished(words, said, until=(count, new)) == -signal.SIGKILL
        if run_folder.is_run(new):
            break
        run_folder.clear_unfinished(new)
        assert not new.exists() or not list(new.iterdir()), count
    assert count > 20
