"""Work that a command does beside itself, in threads that hold up nobody's end.

Special here: while Python closes, it ends such a thread where the thread next asks for the interpreter. In the middle
of compiled code (PyTorch's, a tokenizer's) that aborts the process. So a process in which one is still at work ends
without Python closing.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
NAME = "manako-aside"


def aside(work: Callable[[], T]) -> "Future[T]":
    """What a work will come to, done in a thread of its own for as long as the process is there."""
    from concurrent.futures import Future  # not for a command that does all at its front

    result: Future[T] = Future()

    def do() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=do, name=NAME, daemon=True).start()
    return result


def leave(code: int) -> NoReturn:
    """End the process."""
    if not any(thread.name == NAME for thread in threading.enumerate()):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
