"""The command that shows the same again."""

from pathlib import Path

from manako.messages.numbers import setting
from manako.sampling import DEFAULT_ORDER
from manako.trace.record import Header
from manako.tui.stepper import Stepper
from manako.views.terminal.again import can_be_typed, command_line


def command(stepper: Stepper, file: Path | None) -> str | None:
    """A whole line for a shell: of a text that began with a prompt, or of the file that all is saved in; else None."""
    header, step = stepper.text.trace.header, ["--step", str(stepper.at + 1)]
    if stepper.text.parent is None and header.kind == "generation" and can_be_typed(stepper.text.trace):
        return command_line(["manako", "step", *step, *_options(header), "--", header.prompt])
    if file is not None and stepper.saved:
        return command_line(["manako", "step", *step, "--", str(file)])
    return None


def _options(header: Header) -> list[str]:
    words = ["-m", header.model.ref, "--seed", str(header.seed)]
    for name in header.sampling.active:
        words += [f"--{name.replace('_', '-')}", setting(getattr(header.sampling, name))]
    if header.sampling.order != DEFAULT_ORDER:
        words += ["--order", ",".join(header.sampling.order)]
    for flag, values in (("--ablate", header.ablate), ("--stop", header.stop)):
        words += [word for value in values for word in (flag, value)]
    return words
