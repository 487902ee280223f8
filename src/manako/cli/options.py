"""Options that several commands share, each declared once; numbers are read strictly and complained about helpfully."""

import functools
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from manako.cli import common_options
from manako.cli.console import note, say
from manako.errors import UsageError
from manako.model import Model, load
from manako.refs import DEFAULT
from manako.sampling import STAGES, Sampling
from manako.settings import COMPARED, SETTINGS, RunSettings
from manako.trace.schema import CAPTURES

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


def model_option(command: F) -> F:
    """-m/--model REF, the demo by default."""
    return click.option(
        "-m", "--model", "ref", default=DEFAULT, show_default=True, metavar="REF", help=say("option.model")
    )(command)


def settings_options(
    *, count: int = RunSettings.max_new_tokens, temperatures: bool = False, capture: bool = False, ablate: bool = True
) -> Callable[[F], F]:
    """What a run can be told: -t and the other stages, --order, -n, by default `count`, --seed, --stop, --ablate.

    The command gets one keyword `settings`, a RunSettings; where -t or --ablate name several runs, `temperatures` and
    `ablate` beside it, as they were given. capture, ablate: whether these are told.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)  # also carries along the options that were declared below this one
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            several = {}
            if temperatures:
                several = {"temperatures": kwargs.pop("temperature"), "ablate": kwargs.pop("ablate")}
            given = {name: kwargs.pop(name) for name in SETTINGS & kwargs.keys()}
            if given["order"] is not None:
                given["order"] = tuple(name.strip() for name in given["order"].split(","))
            return command(*args, settings=RunSettings().changed(**given), **several, **kwargs)

        for option in reversed(_chain_options(temperatures) + _run_options(count, ablate, capture)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def _chain_options(temperatures: bool) -> list[Callable[[F], F]]:
    """One for each stage, -t first: the only one of which a comparison takes several."""
    more: dict[str, Any]
    key, more = "option.temperature", {"default": Sampling.temperature, "show_default": True}
    if temperatures:
        key, more = "option.temperatures", {"multiple": True}
    kind, text = Number(False, "temperature"), say(key, usual=", ".join(map(str, COMPARED)))
    options = [click.option("-t", "--temperature", type=kind, metavar="T", help=text, **more)]
    for stage in sorted(STAGES, key=lambda stage: stage.penalty):  # as listed, penalties last
        if stage.name != "temperature":
            flag, kind = f"--{stage.name.replace('_', '-')}", Number(stage.whole, stage.name)
            options.append(click.option(flag, type=kind, metavar="N", help=say(f"option.{stage.name}")))
    return [*options, click.option("--order", metavar="STAGE,...", help=say("option.order"))]


def _run_options(count: int, ablate: bool, capture: bool) -> list[Callable[[F], F]]:
    number: dict[str, Any] = {"type": Number(True, "max_new_tokens"), "default": count, "show_default": True}
    options = [
        click.option("-n", "--max-new-tokens", metavar="N", help=say("option.max_new_tokens"), **number),
        click.option("--seed", type=Number(True, "seed"), metavar="N", help=say("option.seed")),
        click.option("--stop", multiple=True, metavar="TEXT", help=say("option.stop")),
    ]
    if ablate:
        options.append(click.option("--ablate", multiple=True, metavar="PART", help=say("option.ablate")))
    if capture:
        text = say("option.capture", names=", ".join(CAPTURES))
        options.append(click.option("--capture", multiple=True, metavar="NAME", help=text))
    return options


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


def step_option(key: str = "option.step") -> Callable[[F], F]:
    """--step N, counted from 1; see `step_index`."""
    return click.option("--step", type=Number(True, "view_step_number"), metavar="N", help=say(key))


def check_step(step: int | None, steps: int) -> int | None:
    """The step as it is counted from 1, if there is one with that number. Raises UsageError."""
    if step is not None and not 1 <= step <= steps:
        raise UsageError("view_step" if steps else "view_no_steps", got=step, last=steps)
    return step


def opened(ref: str, prompt: str) -> tuple[Model, str]:
    """The model, and the text that was given; on stderr, what a user should know before the numbers come."""
    text = read_prompt(prompt)
    model = load(ref)
    for key, values in model.notices:
        note(key, **values)
    length, context = len(model.tokenizer.encode(text)), model.config.block_size
    if length > context:
        note("notice.long_prompt", length=length, context=context)
    return model, text
