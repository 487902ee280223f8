"""The command line: a table of commands, each imported only when it is called.

Special here: the table holds what `manako --help` prints, so that help needs neither NumPy nor rich. All errors end in
`main`: one line on stderr in the user's language, with a stable code, and the exit code of docs/cli.md.
"""

import contextlib
import errno
import io
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import click

from manako import __version__, messages
from manako.cli.aside import leave
from manako.cli.console import chosen_language, fail, hush, interrupted, say
from manako.cli.help import ScreenOption, translated
from manako.errors import LONGEST_VALUE, ManakoError, Names, UsageError, near

COMMANDS = {  # name -> module; the command in it is named `command`, its summary is the message cli.NAME
    "watch": "manako.cli.watch",
    "step": "manako.cli.step",
    "compare": "manako.cli.compare",
    "view": "manako.cli.view",
    "export": "manako.cli.export",
    "attention": "manako.cli.attention",
    "lens": "manako.cli.lens",
    "why": "manako.cli.why",
    "serve": "manako.cli.serve",
    "verify": "manako.cli.verify",
    "train": "manako.cli.train",
    "resume": "manako.cli.resume",
    "dynamics": "manako.cli.dynamics",
    "training-step": "manako.cli.training_step",
    "sweep": "manako.cli.sweep",
    "scaling": "manako.cli.scaling",
    "corpus": "manako.cli.corpus",
    "tokens": "manako.cli.tokens",
    "info": "manako.cli.info",
    "doctor": "manako.cli.doctor",
    "eval": "manako.cli.eval",
    "evidence": "manako.cli.evidence",
    "import": "manako.cli.import_",
}


F = TypeVar("F", bound=Callable[..., Any])
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # stdout, where no file is named


class UnreadError(Exception):
    """Nobody reads standard output any more."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and not to print its own help.

    A closed pipe leaves it as an error of our own: click would answer it by ending the process with code 1.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _unread():  # its own help is printed here
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _unread():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return translated(_command(module)) if module else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            raise UsageError("cli_no_such_command", name=args[0], near=near(args[0], COMMANDS), known=Names(COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(say("cli.commands")):
            formatter.write_dl([(name, say(f"cli.{name}")) for name in COMMANDS])


@contextlib.contextmanager
def _unread() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise UnreadError from error


C = TypeVar("C", bound=click.Command)


def once(command: C) -> C:
    """A command that refuses a second value for an option that takes one; click would take the last without a word."""
    make_parser = command.make_parser

    def made(ctx: click.Context) -> Any:
        parser = make_parser(ctx)
        parse_args = parser.parse_args

        def parsed(args: list[str]) -> Any:
            values, rest, order = parse_args(args)
            for parameter, times in Counter(order).items():
                single = isinstance(parameter, click.Option) and not (parameter.multiple or parameter.is_flag)
                if single and times > 1:
                    raise UsageError("cli_twice", name=_name_of(parameter))
            return values, rest, order

        parser.parse_args = parsed
        return parser

    command.make_parser = made
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        once(inner)
    return command


@cache
def _command(module: str) -> click.Command:
    return once(import_module(module).command)


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"manako {__version__}")
        ctx.exit()


def common_options(command: F) -> F:
    """--lang and --debug; both are read before any command runs, so the command itself never sees them."""
    unseen: dict[str, Any] = {"cls": ScreenOption, "expose_value": False}
    for option in (
        click.option("--debug", is_flag=True, help=say("option.debug"), **unseen),
        click.option("--lang", type=click.Choice(messages.LANGUAGES), help=say("option.lang"), **unseen),
    ):
        command = option(command)
    return command


@click.group(cls=LazyGroup, help=say("cli.about"), context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help=say("cli.version")
)
@common_options
def group() -> None: ...


translated(group)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        if arguments is None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said and done: Python itself ends now
    except KeyboardInterrupt:  # a second one, while the first was being answered
        code = 130
    leave(code)


def _run(arguments: Sequence[str]) -> int:
    """One command; its exit code."""
    lang = chosen_language(arguments)
    _prepare_streams()
    if "numpy" not in sys.modules and draws_little(arguments):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = 0
    try:
        code = group.main(list(arguments), prog_name="manako", standalone_mode=False)
        sys.stdout.flush()
    except ManakoError as error:
        name_as_typed(error, arguments)
        code = fail(error.text(lang), error.code, error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except click.ClickException as error:
        usage = usage_error(error, arguments)
        code = fail(usage.text(lang), usage.code, usage.exit_code)
    except (KeyboardInterrupt, click.Abort):
        hush()  # a reader that does not read on must not keep the process from ending
        code = interrupted()
    except (UnreadError, BrokenPipeError):
        hush()
    except MemoryError:
        if "--debug" in arguments:
            raise
        code = fail(messages.text("cli.memory", lang), "E-MEMORY")
    except Exception as error:
        if "--debug" in arguments:
            raise
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and error.filename is None:
            hush()
            code = fail(messages.text("cli.output", lang, reason=error.strerror), "E-OUTPUT")
        else:
            said = messages.text("cli.unexpected", lang, error=f"{type(error).__name__}: {str(error)[:LONGEST_VALUE]}")
            code = fail(said, "E-UNEXPECTED")
    return code if isinstance(code, int) else 0


def draws_little(arguments: Sequence[str]) -> bool:
    """Whether a command draws few tokens of an embedded model.

    There a second thread of the linear algebra only waits, and burns a processor meanwhile; NumPy asks once, when it is
    imported. Windows past the context and larger models do gain from it.
    """
    if not {"watch", "compare", "attention", "lens", "why"} & set(arguments[:3]):  # --lang may stand in front
        return False
    words = [word for argument in arguments for word in argument.split("=", 1)]
    after = dict(zip(words, [*words[1:], ""], strict=True))
    count = after.get("-n", after.get("--max-new-tokens", "0"))
    return not {"-m", "--model"} & after.keys() and count.isdecimal() and int(count[:9]) <= 100


def _prepare_streams() -> None:
    """Never a traceback for a glyph that the terminal lacks, nor where a stream is closed from the start."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False)
            setattr(sys, name, nowhere)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def name_as_typed(error: ManakoError, arguments: Sequence[str]) -> None:
    """A setting that the library names by its own name, as the option that was typed."""
    flag = "--" + error.values.get("name", "").replace("_", "-")
    if any(argument.partition("=")[0] == flag for argument in arguments):
        error.values["name"] = flag


def usage_error(error: click.ClickException, arguments: Sequence[str]) -> UsageError:
    """click's own complaints as ours, with the nearest name where one is close."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "manako"
    if isinstance(error, click.NoSuchOption):
        known = [option for p in context.command.get_params(context) for option in p.opts] if context else []
        typed = next((a.partition("=")[0] for a in arguments if a.startswith(error.option_name)), error.option_name)
        key = "cli_no_such_option" if context and context.parent else "cli_option_first"
        return UsageError(key, name=typed, near=_set_instead(typed, known, context) or near(typed, known))
    if isinstance(error, click.MissingParameter):
        name = _name_of(error.param) if error.param else error.param_hint
        return UsageError("cli_missing", name=name, command=path)
    if isinstance(error, click.BadOptionUsage):
        has_one = any(a.startswith(f"{error.option_name}=") for a in arguments)
        return UsageError("cli_takes_no_value" if has_one else "cli_needs_value", name=error.option_name)
    if isinstance(error, click.BadParameter) and error.param is not None:
        if isinstance(error.param.type, click.Choice):
            return UsageError("cli_choice", name=_name_of(error.param), choices=Names(error.param.type.choices))
        return UsageError("cli_bad_value", name=_name_of(error.param), reason=error.message)
    if context and isinstance(context.command, click.Group) and isinstance(error, click.UsageError):
        known = context.command.list_commands(context)
        if typed := re.search("'(.*)'", error.message, re.S):
            name = typed[1]
            return UsageError("cli_no_such_part", command=path, name=name, near=near(name, known), known=Names(known))
        return UsageError("cli_missing_command", command=path, known=Names(known))
    if type(error) is click.UsageError and (extra := re.search(r"^[^(]*\((.*)\)$", error.message, re.S)):
        return UsageError("cli_extra_option" if extra[1].startswith("-") else "cli_extra", given=extra[1])
    return UsageError("cli_usage", reason=error.format_message())


def _set_instead(typed: str, known: Sequence[str], context: click.Context | None) -> str:
    """How a command that trains by `--set NAME=VALUE` takes what is an option of `train`."""
    if context is None or "--set" not in known or not isinstance(group := context.find_root().command, click.Group):
        return ""
    train = group.get_command(context, "train")
    if train is None or not any(typed in parameter.opts for parameter in train.params):
        return ""
    return messages.Phrase("near", name=f"--set {typed.strip('-').replace('-', '_')}=...")


def _name_of(parameter: click.Parameter) -> str:
    """An option by its long flag, an argument by what help calls it."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name
