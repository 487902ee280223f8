"""What commands that run a model share: which model, what it is told, the text, and what to know before the numbers."""

import functools
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import click

from manako.cli.console import chosen_language, fail, interrupted, note, say
from manako.cli.help import ChainOption
from manako.cli.options import Number, read_typed
from manako.engines.generation import Generation
from manako.errors import ManakoError
from manako.model import Model, load
from manako.refs import for_text
from manako.sampling import STAGES, Sampling
from manako.settings import COMPARED, SETTINGS, RunSettings
from manako.trace.record import Typed
from manako.trace.schema import CAPTURES

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(
    *, count: int = RunSettings.max_new_tokens, several: bool = False, capture: bool = False, ablate: bool = True
) -> Callable[[F], F]:
    """What a run can be told: -t and the other stages, --order, -n, by default `count`, --seed, --stop, --ablate.

    The command gets one keyword `settings`, a RunSettings. several: whether -t, the other stages, --seed and --ablate
    may be repeated, and name several runs then: the command gets `varied` beside it, name -> values of what was given
    more than once, and "ablate" as it was given. capture, ablate: whether these are told.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)  # also carries along the options that were declared below this one
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in SETTINGS & kwargs.keys()}
            given["stop"] = tuple(map(read_typed, given["stop"]))
            more = {"varied": _varied(given)} if several else {}
            for name in ("order", "capture", "ablate"):  # one after another, or with commas between them
                if given.get(name) not in (None, ()):
                    values = (given[name],) if name == "order" else given[name]
                    given[name] = tuple(part.strip() for value in values for part in value.split(","))
            return command(*args, settings=RunSettings().changed(**given), **more, **kwargs)

        for option in reversed(_chain_options(several) + _run_options(count, ablate, capture, several)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def as_typed(text: str, settings: RunSettings) -> Typed:
    """How a text stood in the command, for one that looks at it again."""
    return Typed(text, settings.special, settings.chat, settings.system)


def _varied(given: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What was given more than once, taken out of `given`; what was given once stays there as it is."""
    names = [stage.name for stage in STAGES] + ["seed"]
    varied = {name: given.pop(name) for name in names if len(given[name]) > 1}
    given |= {name: next(iter(given[name]), None) for name in names if name in given}
    if given.get("temperature") is not None:
        varied["temperature"] = (given["temperature"],)  # no three of them then
    if ablate := given.pop("ablate"):
        varied["ablate"] = ablate
    return varied


def _chain_options(several: bool) -> list[Callable[[F], F]]:
    """One for each stage, -t first."""
    more: dict[str, Any]
    key, more = "term.temperature_means", {"default": Sampling.temperature, "show_default": True}
    if several:
        key, more = "option.temperatures", {"multiple": True}
    kind, text = Number(False, "temperature"), say(key, usual=", ".join(map(str, COMPARED)))
    options = [click.option("-t", "--temperature", cls=ChainOption, type=kind, metavar="T", help=text, **more)]
    for stage in sorted(STAGES, key=lambda stage: stage.penalty):  # as listed, penalties last
        if stage.name != "temperature":
            flag, kind = f"--{stage.name.replace('_', '-')}", Number(stage.whole, stage.name)
            text = say(f"term.{stage.name}_means")
            options.append(click.option(flag, cls=ChainOption, type=kind, metavar="N", help=text, multiple=several))
    return [*options, click.option("--order", cls=ChainOption, metavar="STAGE,...", help=say("option.order"))]


def _run_options(count: int, ablate: bool, capture: bool, several: bool) -> list[Callable[[F], F]]:
    number: dict[str, Any] = {"type": Number(True, "max_new_tokens"), "default": count, "show_default": True}
    options = [
        click.option("-n", "--max-new-tokens", metavar="N", help=say("option.max_new_tokens"), **number),
        click.option("--seed", type=Number(True, "seed"), metavar="N", help=say("option.seed"), multiple=several),
        click.option("--stop", multiple=True, metavar="TEXT", help=say("option.stop")),
    ]
    options.append(click.option("--special", is_flag=True, help=say("option.special")))
    options.append(click.option("--chat", is_flag=True, help=say("option.chat")))
    options.append(click.option("--system", metavar="TEXT", help=say("option.system")))
    if ablate:
        options.append(click.option("--ablate", multiple=True, metavar="PART,...", help=say("option.ablate")))
    if capture:
        text = say("option.capture", names=", ".join(CAPTURES))
        options.append(click.option("--capture", multiple=True, metavar="NAME,...", help=text))
    return options


def opened(ref: str | None, text: str, settings: RunSettings) -> Model:
    """The model for a text that `read_prompt` gave; on stderr, what a user should know before the numbers come."""
    model = load(ref or for_text(text))
    for key, values in model.notices:
        if key != "notice.chat_template" or not settings.chat:
            note(key, **values)
    ids = model.prompt_ids(text, settings)
    if settings.chat:
        note("notice.chat_filled", text=model.chat(text, settings.system))
    elif not settings.special and (names := model.tokenizer.special_names(text)):
        note("notice.literal_special", names=", ".join(names[:5]))
    if not settings.chat and not settings.special and (read := model.tokenizer.rewritten(text)) is not None:
        note("notice.rewritten", read=read)
    length, context = len(ids), model.config.block_size
    if length > context:
        note("notice.long_prompt", length=length, context=context)
    return model


class Interrupts:
    """Ctrl-C lets the step in hand finish, and what was made be shown and saved; a second one ends at once."""

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> "Interrupts":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def answered(self, code: int) -> int:
        """The exit code of what may have been ended: 130, and a word on it, where it has no failure to tell."""
        return interrupted() if self.seen and not code else code

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run_through(
    generation: Generation, interrupts: Interrupts, made: Callable[[int], None] = lambda index: None
) -> int:
    """Run to the end, to Ctrl-C, or to a failure, whose exit code it returns; whatever was made before is kept.

    made: called after each step with its number, from 0.
    """
    index = 0
    try:
        while not interrupts.seen and generation.advance():
            made(index)
            index += 1
    except ManakoError as error:
        return fail(error.text(chosen_language()), error.code, error.exit_code)
    return 0
