"""Where output goes and how it may look there: width, colour, glyphs, language."""

import json
import os
import re
import select
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from manako.cli.console import chosen_language, safe
from manako.messages.lines import breaks
from manako.views.terminal import glyphs
from manako.views.terminal.steps import Look

_NOT_A_TERMINAL = 100  # columns, where nobody tells


class Screen:
    """Standard output with the look that fits it."""

    def __init__(self, top: int, plain: bool, color: str, lang: str | None = None) -> None:
        colored = _colored(color)
        self.look = Look(
            lang=lang or chosen_language(),
            columns=_columns(),
            glyphs=glyphs.choose(sys.stdout.encoding, os.environ, _ambiguous_width()),
            plain=plain or os.environ.get("TERM") == "dumb",
            top=top,
            color=colored,
        )
        self._console = _Console(
            file=sys.stdout,
            force_terminal=colored,
            color_system="standard" if colored else None,
            legacy_windows=False,
            highlight=False,
            emoji=False,
            markup=False,
            width=self.look.columns,
            _environ={},  # all of it has been read here; by rich's reading NO_COLOR would beat --color always
        )

    def lines(self, lines: Iterable[Text]) -> None:
        """Print lines, never cropped, and let them out at once; a terminal gets sentences wrapped at words."""
        together = list(self._wrapped(lines) if sys.stdout.isatty() else lines)
        if together:  # one call for all: rich's own work for each is more than ours
            self._console.print(Text("\n").join(together), soft_wrap=True)
        sys.stdout.flush()

    def tell(self, message: str, style: str = "") -> None:
        """One sentence, whatever is quoted in it."""
        self.lines([Text(safe(message), style)])

    def _wrapped(self, lines: Iterable[Text]) -> Iterator[Text]:
        for line in lines:
            parts = [line] if line.no_wrap else line.divide(breaks(line.plain, self.look.columns))
            for part in parts:
                part.rstrip()
                yield part


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704  rich would exit with 1 from here; `| head` ends quietly, see main


_RISKY = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")  # DEL, C1, line ends, direction


def print_json(value: Any) -> None:
    """One JSON document on stdout, in ASCII where its encoding is not UTF-8.

    Characters that a terminal could trip over are escaped; they can only stand in strings.
    """
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not utf8, allow_nan=False)
    print(_RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)  # noqa: T201


def _columns() -> int:
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told[:6]) > 0:
        return int(told[:6])
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _NOT_A_TERMINAL


def _colored(color: str) -> bool:
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _ambiguous_width() -> int | None:
    """How many cells this terminal gives a block glyph: print one, ask where the cursor is, wipe it. None: not asked.

    Only asked where the locale leaves it open; a terminal that does not answer within 0.1 s is not asked again.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        return None
    if not glyphs.locale_is_cjk(os.environ) or os.environ.get("MANAKO_AMBIGUOUS_WIDTH") in ("1", "2"):
        return None
    try:
        import termios
        import tty
    except ImportError:  # not a Unix terminal
        return None
    stdin = sys.stdin.fileno()
    saved = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        sys.stdout.write("\r\u2588\x1b[6n")
        sys.stdout.flush()
        answer, deadline = b"", time.monotonic() + 0.1
        while not answer.endswith(b"R"):
            ready, _, _ = select.select([stdin], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            answer += os.read(stdin, 32)
        column = answer.rpartition(b";")[2].rstrip(b"R")
        return int(column) - 1 if column.isdigit() else None
    finally:
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()
        termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
