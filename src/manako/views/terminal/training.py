"""A training that runs, as one calm panel; and what came of it, in a few lines at its end.

Special here: the panel is a function of what has been told so far, so that it can be looked at without a training.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.text import Text

from manako.messages.numbers import count, fixed, percent
from manako.views.terminal import glyphs as g
from manako.views.terminal.chart import Curve, chart
from manako.views.terminal.steps import Look

_LOSS, _HELD_OUT = "cyan", "yellow"
_CHART_ROWS = (4, 10)  # least, most
_BAR_CELLS = 20


@dataclass(frozen=True)
class Probe:
    """What somebody asks of each checkpoint: how likely it is that `text` goes on with `wanted`."""

    text: str
    wanted: str
    found: list[tuple[int, float, int]] = field(default_factory=list[tuple[int, float, int]])
    """(step, probability, rank of the first token) of each checkpoint so far."""


@dataclass
class Told:
    """What is known of a training so far."""

    run: str
    step: int = 0
    steps: str = ""
    """How many there will be: a number, or about that number where a time was given."""
    share: float = 0.0
    left: str = ""
    """Minutes, "" while nobody can know."""
    losses: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """(step, loss of its batch in nats a token)."""
    held_out: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """The same of held-out text."""
    bits: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """(step, bits a character of held-out text)."""
    tokens_s: float = 0.0
    mfu: float = 0.0
    samples: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    probes: tuple[Probe, ...] = ()

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, bits) of the best evaluation."""
        return min(self.bits, key=lambda found: found[1], default=None)


def panel_lines(told: Told, look: Look, rows: int) -> list[Text]:
    """The panel, in at most so many rows: the curve gives way first."""
    under = [*_numbers(told, look), *_said(told, look), Text(look.say("panel.stop", run=told.run), "dim")]
    room = min(_CHART_ROWS[1], rows - len(under) - 2)
    curve: list[Text] = []
    if room >= _CHART_ROWS[0] and len(told.losses) > 1:
        curves = [Curve(told.losses, _LOSS), Curve(told.held_out, _HELD_OUT, mark="o")]
        curve = chart(curves, look.columns, room, dots=bool(look.glyphs.half))
    lines = [_where(told, look), *curve, *under]
    for line in lines:
        line.no_wrap = True
        line.truncate(look.columns)
    return lines


def summary_lines(told: Told, look: Look) -> Iterator[Text]:
    """At the end: from where to where, what it wrote then and now, and what was probed."""
    if len(told.losses) > 1:
        first, last = told.losses[0], told.losses[-1]
        yield Text(look.say("panel.from_to", start=fixed(first[1], 2), end=fixed(last[1], 2), step=count(int(last[0]))))
    if told.best is not None:
        yield Text(look.say("panel.best", step=count(told.best[0]), bits=fixed(told.best[1], 3)))
    yield from _said(told, look)


def _where(told: Told, look: Look) -> Text:
    line = Text()
    line.append(look.say("panel.step", step=count(told.step), steps=told.steps) + "  ", "bold")
    bar = look.bar(told.share, _BAR_CELLS)
    line.append(bar, "green")
    line.append(look.glyphs.shades[1] * (_BAR_CELLS - len(bar)) + " ", "dim")
    line.append(f"{percent(told.share)}  ")
    if told.left:
        line.append(look.say("panel.left", left=told.left))
    return line


def _numbers(told: Told, look: Look) -> Iterator[Text]:
    """The legend of the curve, with the newest values."""
    if told.losses:
        yield Text(look.say("panel.loss", loss=fixed(told.losses[-1][1], 3)), _LOSS)
    if told.held_out and told.best is not None:
        values = {"loss": fixed(told.held_out[-1][1], 3), "bits": fixed(told.bits[-1][1], 3)}
        best = {"best": fixed(told.best[1], 3), "step": count(told.best[0])}
        yield Text(look.say("panel.held_out", **values, **best), _HELD_OUT)
    if told.tokens_s:
        yield Text(look.say("panel.speed", rate=fixed(told.tokens_s, 0), share=percent(told.mfu)), "dim")


def _said(told: Told, look: Look) -> Iterator[Text]:
    """The first and the newest sample, and each probe then and now."""
    for step, text in dict.fromkeys(told.samples[:1] + told.samples[-1:]):
        line = Text()
        line.append(look.say("panel.sample", step=count(step)), "dim")
        line.append(g.cut(g.prose(text, look.glyphs), max(8, look.columns - line.cell_len)))
        yield line
    for probe in told.probes:
        found = dict.fromkeys(probe.found[:1] + probe.found[-1:])
        ways = [look.say("panel.probed", step=count(s), p=percent(p), rank=count(rank)) for s, p, rank in found]
        text, wanted = (g.prose(each, look.glyphs) for each in (probe.text, probe.wanted))
        yield Text(look.say("panel.probe", text=text, wanted=wanted, found=" \u2192 ".join(ways)))
