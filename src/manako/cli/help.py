"""Help in both languages: click's own words from our catalog, lines measured in cells, at any width.

Special here: click counts characters and breaks lines at spaces alone, which ruins Japanese; so what it writes is
written here, by a formatter that `translated` gives to a command.
"""

import shutil
from collections.abc import Iterable
from typing import TypeVar

import click

from manako.cli.console import say
from manako.messages.lines import cells, wrap

_WIDTH = (20, 78)  # least, and most: longer lines are hard to read
_TERM_CELLS = 28  # of an option, before its help moves to the next line
_OF_CLICK = {  # what click says itself -> our key
    "Options": "help.options",
    "Commands": "cli.commands",
    "Show this message and exit.": "option.help",
}


class Formatter(click.HelpFormatter):
    """click's formatter, with lines that fit by cells."""

    def __init__(self, **_: object) -> None:
        super().__init__(width=min(max(shutil.get_terminal_size().columns - 2, _WIDTH[0]), _WIDTH[1]))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        head = f"{prefix or say('help.usage')} {prog} "
        self._write(args, head, min(cells(head), self.width // 2))

    def write_heading(self, heading: str) -> None:
        super().write_heading(_ours(heading))

    def write_text(self, text: str) -> None:
        self._write(text, " " * self.current_indent, self.current_indent)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = _TERM_CELLS, col_spacing: int = 2) -> None:
        rows = list(rows)
        most = min(col_max, self.width // 2 - self.current_indent - col_spacing)
        left = self.current_indent + min(max(cells(term) for term, _ in rows), most) + col_spacing
        for term, meaning in rows:
            head = " " * self.current_indent + term
            space = left - cells(head)
            self._write(_ours(meaning), head + (" " * space if space >= col_spacing else "\n" + " " * left), left)

    def _write(self, text: str, head: str, left: int) -> None:
        """A text after `head` in the first line, its other lines indented to `left`."""
        first = cells(head.rpartition("\n")[2])
        lines = wrap(" " * (first - left) + text, self.width - left)
        self.write(head + ("\n" + " " * left).join(lines).lstrip() + "\n")


def _ours(said: str) -> str:
    """Words of click in our language, also those in brackets at the end of an option's help."""
    if key := _OF_CLICK.get(said):
        return say(key)
    if said.endswith("[required]"):
        return said.removesuffix("[required]").rstrip(" ") + say("help.required")
    text, default, value = said.rpartition("[default: ")
    return text.rstrip(" ") + say("help.default", value=value.removesuffix("]")) if default else said


class Context(click.Context):
    formatter_class = Formatter


C = TypeVar("C", bound=click.Command)


def translated(command: C) -> C:
    """A command, and those inside it, with help in our words."""
    command.context_class = Context
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        translated(inner)
    return command
