"""Signals that ask to end: answered once, given back, and left alone where they are ignored."""

import signal
import threading

import pytest

from manako.training.signals import ASKING, answered


@pytest.mark.parametrize("number", ASKING)
def test_the_first_is_answered_and_then_all_is_as_before(number: int) -> None:
    came: list[tuple[str, int]] = []
    before = signal.signal(number, lambda n, _: came.append(("theirs", n)))
    try:
        with answered(ASKING, lambda n: came.append(("ours", n))):
            for _ in range(2):
                signal.raise_signal(number)
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert came == [("ours", number), ("theirs", number), ("theirs", number)]


@pytest.mark.parametrize("number", ASKING)
def test_an_ignored_signal_stays_ignored(number: int) -> None:
    came: list[int] = []
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with answered(ASKING, came.append):
            signal.raise_signal(number)
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert came == []


def test_a_thread_takes_no_signal() -> None:
    seen: list[object] = []

    def work() -> None:
        with answered(ASKING, print):
            seen.extend(map(signal.getsignal, ASKING))

    before = list(map(signal.getsignal, ASKING))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before
