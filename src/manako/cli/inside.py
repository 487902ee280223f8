"""What `attention`, `lens` and `why` share: a step to look into, of a model that runs now or of a saved trace."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

import manako
from manako.cli import say
from manako.cli.options import (
    Number,
    ablate_option,
    is_trace,
    model_option,
    read_prompt,
    run_options,
    sampling_options,
    screen_options,
)
from manako.cli.watch import warn
from manako.engines.ablation import Ablation
from manako.errors import CapabilityError, UsageError
from manako.model import check_count, check_stop, load
from manako.sampling import check_seed
from manako.trace.record import Trace

F = TypeVar("F", bound=Callable[..., Any])


def inside_options(capture: str) -> Callable[[F], F]:
    """TEXT or FILE and how to make the record. The command gets `trace`, with `capture` in it, and `index`, the step.

    TEXT is continued, or, with --given, read as it stands. The last step is shown where --step names none.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)  # also carries along the options that were declared below this one
        def wrapped(source: str, step: int | None, given: bool, **rest: Any) -> Any:
            names = ("ref", "sampling", "max_new_tokens", "seed", "stop", "ablate")
            settings = {name: rest.pop(name) for name in names}
            trace = manako.open(source) if is_trace(source) else _recorded(source, given, capture, **settings)
            if not len(trace):
                raise UsageError("view_no_steps", got=step or 1)
            if capture not in trace.header.capture:
                raise CapabilityError("trace_without_capture", got=capture, can=", ".join(trace.header.capture) or "-")
            if step is not None and not 1 <= step <= len(trace):
                raise UsageError("view_step", got=step, last=len(trace))
            return command(trace=trace, index=(len(trace) if step is None else step) - 1, **rest)

        for option in (
            click.option("--step", type=Number(True, "view_step_number"), metavar="N", help=say("option.step_inside")),
            click.option("--given", is_flag=True, help=say("option.given")),
            ablate_option,
            run_options(count=1),
            sampling_options(),
            model_option,
            click.argument("source", metavar="TEXT|FILE"),
        ):
            wrapped = option(wrapped)
        return screen_options(wrapped)  # type: ignore[return-value]

    return decorate


def _recorded(prompt: str, given: bool, capture: str, ref: str, ablate: tuple[str, ...], **settings: Any) -> Trace:
    """A model run now. What was asked is checked before it is loaded."""
    for part in ablate:
        Ablation.parse(part)
    settings["max_new_tokens"] = check_count(settings["max_new_tokens"])
    settings["seed"] = None if settings["seed"] is None else check_seed(settings["seed"])
    settings["stop"] = check_stop(settings["stop"])
    text = read_prompt(prompt)
    model = load(ref)
    warn(model, text)
    if given:
        return model.score(text, capture=(capture,), ablate=ablate)
    return model.trace(text, capture=(capture,), ablate=ablate, **settings)
