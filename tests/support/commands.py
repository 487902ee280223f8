"""What the tests of the commands share: what a command leaves behind, and how to start one in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import click

from manako.cli import group


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]

MANAKO = [sys.executable, "-W", "error", "-m", "manako"]


def environment(**changes: str) -> Mapping[str, str]:
    """An environment in which nothing of the developer's terminal shows; Python as a user runs it, buffered."""
    hidden = ("LC_", "LANG", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "MANAKO_", "TTY_")
    hidden += ("PYTHONIO", "PYTHONU")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | {"LANG": "C.UTF-8"} | changes


def unread(*words: object) -> tuple[int, str]:
    """Exit code and stderr of a command, in English, whose stdout is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*MANAKO, *map(str, words)], env=environment(), stdin=subprocess.DEVNULL, stdout=writer,
            stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    finally:
        os.close(writer)
    return done.returncode, done.stderr


def every_command() -> Iterator[tuple[click.Command, click.Context]]:
    """`manako` itself and each command, also those in another one, with the context of its help."""
    yield from _below(group, group.context_class(group, info_name="manako", **group.context_settings))


def _below(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    yield command, context
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        inner = command.get_command(context, name)
        assert inner is not None
        yield from _below(inner, inner.context_class(inner, info_name=name, parent=context))
