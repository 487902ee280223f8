"""Shared fixtures: the golden record, its hostile tokens, and how Hypothesis runs."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A user's Python compiles each module once; with this set, every process that a test starts would compile the package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# So that every test can say: from golden import golden_trace.
sys.path.insert(0, str(Path(__file__).parent / "support"))

import golden  # noqa: E402

from manako.trace.record import Trace  # noqa: E402

settings.register_profile("manako", derandomize=True, deadline=None, database=None)
settings.load_profile("manako")


# A shell that starts pytest in the background, or nohup, has it ignore these; what the tests start would inherit that.
for number in (signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """`main` leaves SIGINT ignored, since Python ends after it; the next child would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    yield
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training here is not asked how fast its products are, which takes longer than the tiny run itself."""
    from manako.training import machine

    monkeypatch.setattr(machine, "PROBE", 64)


@pytest.fixture
def golden_trace() -> Trace:
    """Twelve steps over twelve tokens, eight of them hostile; see golden.py."""
    return golden.golden_trace()


@pytest.fixture(scope="session")
def hostile_tokens() -> tuple[bytes, ...]:
    """What a view must survive: markup, escapes, a direction override, half a character, nothing, a wide space."""
    return golden.HOSTILE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=0, metavar="N", help="changed files a format; by default a few")
    parser.addoption("--fuzz-seed", type=int, default=0, metavar="N", help="which ones")
    parser.addoption("--kills", type=int, default=0, metavar="N", help="kills of each command; by default a few")
    parser.addoption("--soak", type=int, default=0, metavar="N", help="generations of the soak; by default a few")
    parser.addoption("--update", action="store_true", help="rewrite the golden files of the views")
