"""What a command says: sentences in the language of this call, notes and errors on stderr, each one safe line.

Special here: light, since `manako --help` needs it: neither NumPy nor rich.
"""

import contextlib
import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence

import click

from manako import messages
from manako.messages.lines import wrap

MARKS_IN_A_ROW = 2  # combining marks let through on one base; more would pile up over other lines
_SILENT = 2.0  # seconds that nobody minds waiting for
_IN_A_LOG = 60.0  # seconds between two lines that cannot be rewritten


def chosen_language(arguments: Sequence[str] | None = None) -> str:
    """The language of this call: --lang wherever it stands, then the locale, then English."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for n, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--lang":
            value = value or (arguments[n + 1] if n + 1 < len(arguments) else "")
            if value in messages.LANGUAGES:
                return value
    return messages.language(os.environ)


def say(key: str, **values: object) -> str:
    """A sentence in the language of this call."""
    return messages.text(key, chosen_language(), **values)


def tell(message: str) -> None:
    """One line on stdout."""
    click.echo(safe(message))


def tell_aside(message: str) -> None:
    """One line on stderr that is no note: a summary, while stdout stays free for what was asked for."""
    _on_stderr(message, "")


def note(key: str, **values: object) -> None:
    """What a user should know, one line on stderr."""
    _on_stderr(say(key, **values))


def fail(message: str, code: str, exit_code: int = 1) -> int:
    """What went wrong, one line on stderr with its stable code; the exit code."""
    _on_stderr(f"{message} [{code}]")
    return exit_code


def interrupted() -> int:
    """Say that Ctrl-C ended something; the exit code."""
    note("cli.interrupted")
    return 130


def _on_stderr(message: str, name: str = "manako: ") -> None:
    """One line; a terminal gets it wrapped at words."""
    line = f"{name}{safe(message)}"
    with contextlib.suppress(OSError):
        if sys.stderr.isatty():
            line = "\n".join(wrap(line, os.get_terminal_size(sys.stderr.fileno()).columns or 2 * len(line)))
        print(line, file=sys.stderr)  # noqa: T201


class Progress:
    """How far a long work is, on stderr: nothing for two seconds, then a line that a terminal rewrites.

    Where stderr is no terminal, each minute has a line of its own.
    """

    def __init__(self) -> None:
        self._next, self._begun = time.monotonic() + _SILENT, False

    def __call__(self, done: int, total: int) -> None:
        ends = done >= total
        if time.monotonic() < self._next and not (ends and self._begun):
            return
        from manako.messages.numbers import count  # which --help never needs

        message = f"manako: {say('notice.progress', done=count(done), total=count(total))}"
        with contextlib.suppress(OSError):
            self._begun = sys.stderr.isatty()
            self._next = time.monotonic() + (_SILENT / 4 if self._begun else _IN_A_LOG)
            print(message, end="\r" if self._begun and not ends else "\n", file=sys.stderr, flush=True)  # noqa: T201


def hush() -> None:
    """Nobody reads stdout any more: let the rest go nowhere, or Python stalls or complains when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):  # it has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def while_read() -> Iterator[None]:
    """Print as long as somebody reads; what stands behind is done in any case, and the exit code is the command's."""
    try:
        yield
    except BrokenPipeError:
        hush()


def safe(message: str) -> str:
    """One line in which nothing moves a cursor, changes direction, or hides: file names and such may hold anything.

    >>> safe("a\\x1b[2J\\u202eb\\n")
    'a\\\\x1b[2J\\\\u202eb\\\\n'
    """
    from manako.messages.unseen import UNSEEN  # help needs none

    shown, marks = "", 0
    for ch in message:
        marks = marks + 1 if unicodedata.category(ch) in ("Mn", "Me") else 0
        visible = (ch.isprintable() or ch == "\u3000") and marks <= MARKS_IN_A_ROW and not UNSEEN.match(ch)
        shown += ch if visible else ch.encode("unicode_escape").decode()
    return shown
