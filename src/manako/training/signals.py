"""Signals that ask a process to end, answered for a while in a way of our own.

Special here: one that is ignored stays so. Whoever began a process with `nohup`, or in the background of a script,
said with it that this signal shall not end it.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

ASKING = tuple(s for name in ("SIGINT", "SIGTERM", "SIGHUP") if (s := getattr(signal, name, None)) is not None)


@contextlib.contextmanager
def answered(numbers: Iterable[int], answer: Callable[[int], None]) -> Iterator[None]:
    """Call `answer` at the first of these signals; from then on, and after the block, all is as it was before.

    Not the ignored ones, and nothing outside of the main thread: whoever runs us there has the signals.
    """
    before: dict[int, Any] = {}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, _: FrameType | None) -> None:
        give_back()
        answer(number)

    if threading.current_thread() is threading.main_thread():
        ours = {number: signal.getsignal(number) for number in numbers}
        before = {n: handler for n, handler in ours.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, first)
        yield
    finally:
        give_back()
