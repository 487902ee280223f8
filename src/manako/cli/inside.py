"""What `attention`, `lens` and `why` share: a step to look into, of a model that runs now or of a saved trace."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

import manako
from manako.cli.console import say
from manako.cli.options import (
    check_step,
    is_trace,
    model_option,
    options_typed,
    read_prompt,
    screen_options,
    step_option,
    text_option,
)
from manako.cli.running import as_typed, opened, settings_options
from manako.errors import CapabilityError, UsageError
from manako.settings import SETTINGS, RunSettings
from manako.trace.record import Trace

F = TypeVar("F", bound=Callable[..., Any])


def inside_options(capture: str) -> Callable[[F], F]:
    """TEXT or FILE and how to make the record. The command gets `trace`, with `capture` in it, and `index`, the step.

    TEXT is continued, or, with --given, read as it stands. The last step is shown where --step names none.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)  # also carries along the options that were declared below this one
        def wrapped(source: str, step: int | None, given: bool, as_text: bool, **rest: Any) -> Any:
            ref, settings = rest.pop("ref"), rest.pop("settings")
            if is_trace(source, as_text):
                _refuse_void()
                trace = manako.open(source)
            else:
                trace = _recorded(source, given, step, capture, ref, settings)
                step = 1 if given else step
            if not len(trace):
                raise UsageError("view_no_steps", got=step or 1)
            if capture not in trace.header.capture:
                raise CapabilityError("trace_without_capture", got=capture, can=", ".join(trace.header.capture) or "-")
            check_step(step, len(trace))
            return command(trace=trace, index=(len(trace) if step is None else step) - 1, **rest)

        for option in (
            step_option("option.step_inside"),
            click.option("--given", is_flag=True, help=say("option.given")),
            text_option,
            settings_options(count=1),
            model_option(),
            click.argument("source", metavar="TEXT|FILE"),
        ):
            wrapped = option(wrapped)
        return screen_options(wrapped)  # type: ignore[return-value]

    return decorate


def _refuse_void() -> None:
    """Raise UsageError naming the options of a run that were given: a saved trace has been made already."""
    of_a_run = SETTINGS | {"ref", "given"}
    void = options_typed({str(p.name) for p in click.get_current_context().command.params} - of_a_run)
    if void:
        raise UsageError("options_void", got=", ".join(void))


def _recorded(
    prompt: str, given: bool, step: int | None, capture: str, ref: str | None, settings: RunSettings
) -> Trace:
    """A model run now; of a given text the one step alone. What was asked has been checked before it is loaded."""
    if step is not None and step < 1:
        raise UsageError("view_step_number", got=step)
    text = read_prompt(prompt)
    model = opened(ref, text, settings)
    if given:
        chosen = -1 if step is None else step - 1
        own = {"ablate": settings.ablate, "special": settings.special, "step": chosen}
        trace = model.score(text, capture=(capture,), **own)
    else:
        trace = model.trace(text, settings, capture=(capture,))
    return replace(trace, typed=as_typed(text, settings))
