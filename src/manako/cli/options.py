"""Options that several commands share, each declared once; numbers are read strictly and complained about helpfully."""

import functools
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from manako.cli import common_options, say
from manako.errors import UsageError
from manako.sampling import Sampling

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.ParamType):  # not subscripted: click 8.2 cannot
    """A number written in ASCII with a point; "0,8" and full-width digits are told how to look."""

    name = "number"

    def __init__(self, whole: bool, key: str) -> None:
        self.whole = whole
        self.key = key
        """The error of the library for a value out of range, so that both sides say the same."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        if not isinstance(value, str):
            return value
        try:
            if value.isascii() and "_" not in value:
                return int(value) if self.whole else float(value)
        except ValueError:
            pass
        meant = unicodedata.normalize("NFKC", value).replace(",", ".")
        if meant != value and _is_number(meant):
            name = param.opts[0] if param else "?"
            raise UsageError("number_form", name=name, got=value, form=meant)
        raise UsageError(self.key, got=value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def sampling_options(many_temperatures: bool = False) -> Callable[[F], F]:
    """The options of the chain. The command gets one keyword `sampling`, or `samplings` where -t may be repeated."""

    def decorate(command: F) -> F:
        @functools.wraps(command)  # also carries along the options that were declared below this one
        def wrapped(*args: Any, temperature: Any, order: str | None, **kwargs: Any) -> Any:
            stages = {name: kwargs.pop(name) for name in _STAGES}
            if order is not None:
                stages["order"] = tuple(name.strip() for name in order.split(","))
            if many_temperatures:
                usual = (_USUAL,) if kwargs.get("ablate") else _COMPARED
                kwargs["samplings"] = [Sampling(temperature=t, **stages) for t in temperature or usual]
            else:
                kwargs["sampling"] = Sampling(temperature=temperature, **stages)
            return command(*args, **kwargs)

        for option in reversed(_chain_options(many_temperatures)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


_STAGES = ("top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
_USUAL, _COMPARED = 0.8, (0.3, 0.8, 1.2)


def _chain_options(many: bool) -> list[Callable[[Any], Any]]:
    t_help = say("option.temperatures" if many else "option.temperature")
    t_more: dict[str, Any] = {"multiple": True} if many else {"default": _USUAL, "show_default": True}
    options = [
        click.option("-t", "--temperature", type=Number(False, "temperature"), metavar="T", help=t_help, **t_more)
    ]
    for name in _STAGES:
        flag, kind = f"--{name.replace('_', '-')}", Number(name == "top_k", name)
        options.append(click.option(flag, name, type=kind, metavar="N", help=say(f"option.{name}")))
    options.append(click.option("--order", metavar="STAGE,...", help=say("option.order")))
    return options


def model_option(command: F) -> F:
    """-m/--model REF, the demo by default."""
    return click.option(
        "-m", "--model", "ref", default="demo", show_default=True, metavar="REF", help=say("option.model")
    )(command)


def run_options(count: int = 15) -> Callable[[F], F]:
    """How long and with which random numbers: -n, by default `count`, --seed, --stop."""

    def decorate(command: F) -> F:
        number = Number(True, "max_new_tokens")
        for option in (
            click.option("--stop", multiple=True, metavar="TEXT", help=say("option.stop")),
            click.option("--seed", type=Number(True, "seed"), metavar="N", help=say("option.seed")),
            click.option(
                "-n",
                "--max-new-tokens",
                type=number,
                default=count,
                show_default=True,
                metavar="N",
                help=say("option.max_new_tokens"),
            ),
        ):
            command = option(command)
        return command

    return decorate


def ablate_option(command: F) -> F:
    """--ablate PART, which may be repeated."""
    return click.option("--ablate", multiple=True, metavar="PART", help=say("option.ablate"))(command)


def screen_options(command: F) -> F:
    """How it looks: --plain, --color; and --lang, --debug, which every command has."""
    for option in (
        click.option(
            "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help=say("option.color")
        ),
        click.option("--plain", is_flag=True, help=say("option.plain")),
    ):
        command = option(command)
    return common_options(command)


def look_options(command: F) -> F:
    """How a list of candidates looks: --top, and screen_options."""
    top = click.option(
        "--top", type=Number(True, "top"), default=10, show_default=True, metavar="N", help=say("option.top")
    )
    return top(screen_options(command))


def check_top(top: int) -> int:
    """How many candidates to show: at least 1. Raises UsageError."""
    if top < 1:
        raise UsageError("top", got=top)
    return top


def read_prompt(prompt: str) -> str:
    """The prompt itself, or all of standard input for "-" (its last newline dropped, as a pipe adds one).

    Raises UsageError naming the first byte that is not UTF-8.
    """
    if prompt != "-":
        return prompt
    data = sys.stdin.buffer.read() if sys.stdin else b""  # None where the shell closed it
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("prompt_not_utf8", byte=f"0x{data[error.start]:02X}", offset=error.start) from None
    return text.removesuffix("\n").removesuffix("\r")


def is_trace(source: str) -> bool:
    """Whether what was given is the file of a trace, and not a text."""
    try:
        return source.endswith(".manako") and Path(source).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
