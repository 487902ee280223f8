"""Help in both languages: click's own words from our catalog, lines measured in cells, at any width.

Special here: click counts characters and breaks lines at spaces alone, which ruins Japanese; so what it writes is
written here, by a formatter that `translated` gives to a command.
"""

import shutil
import sys
from collections.abc import Iterable
from functools import partial
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


class ChainOption(click.Option):
    """A setting of the sampler chain."""

    group = "help.group_chain"


class ScreenOption(click.Option):
    """How the output looks; every command that shows something has these."""

    group = "help.group_screen"


BRIEF = frozenset(  # what -h shows of a command with more than so many options: what one needs
    "--model --temperature --max-new-tokens --seed --view --save --json --step --data --out --preset --help".split()
)


def _format_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """All options in groups; after -h alone the few that one needs, and where the others are."""
    options = [p for p in command.get_params(ctx) if isinstance(p, click.Option) and not p.hidden]
    typed = sys.argv[1:]
    brief = "-h" in typed and "--help" not in typed and len(options) > len(BRIEF)
    groups: dict[str, list[tuple[str, str]]] = {"help.options": []}
    for option in options:
        if (record := option.get_help_record(ctx)) and (not brief or option.required or BRIEF & {*option.opts}):
            key = "help.options" if brief else getattr(option, "group", "help.options")
            groups.setdefault(key, []).append(record)
    for key, records in groups.items():
        with formatter.section(say(key)):
            formatter.write_dl(records)
    if brief:
        formatter.write_paragraph()
        formatter.write_text(say("help.more", command=ctx.command_path))
    if isinstance(command, click.Group):
        command.format_commands(ctx, formatter)


C = TypeVar("C", bound=click.Command)


def translated(command: C) -> C:
    """A command, and those inside it, with help in our words."""
    command.context_class = Context
    command.format_options = partial(_format_options, command)  # type: ignore[method-assign]
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        translated(inner)
    return command
