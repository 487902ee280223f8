"""Whatever becomes of the stepper, the terminal is left as it was found.

Special here: a process that is killed can put nothing back, and a big model may well be killed for its memory. So the
screen runs in a child process, and its parent, which only waits, restores the terminal when the child ends by a signal.
Where there is no fork there is no guard.
"""

import contextlib
import os
import signal
import sys
import warnings

from manako.errors import ManakoError

_RESET = (  # the other screen, cursor, mouse, focus, pasting, sizes in the band, keyboard; then the colours
    "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?1004l"
    "\x1b[?2004l\x1b[?2048l\x1b[<u\x1b[?7h\x1b[0m"
)


def guard() -> None:
    """Go on in a child process. The parent does not come back: it ends as the child did.

    Raises ManakoError, in the parent, for a child that was killed.
    """
    if not hasattr(os, "fork"):
        return
    import termios

    saved = termios.tcgetattr(sys.stdin.fileno())
    sys.stdout.flush()
    with warnings.catch_warnings():
        # The linear algebra has threads, which the parent never uses again, and minds a fork itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        return
    status = _waited(child)
    if not os.WIFSIGNALED(status):
        raise SystemExit(os.waitstatus_to_exitcode(status))  # the child has said everything
    with contextlib.suppress(OSError):
        sys.stdout.write(_RESET)
        sys.stdout.flush()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with contextlib.suppress(termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSAFLUSH, saved)
    raise ManakoError("step_killed", signal=os.WTERMSIG(status))


def _waited(child: int) -> int:
    """The status of the child once it has ended. The parent passes signals on, and stops when the child does."""

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child has it too
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return status
        os.kill(os.getpid(), signal.SIGSTOP)
