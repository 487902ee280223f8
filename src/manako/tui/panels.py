"""What the stepper draws of one step: the candidates, the line of the draw, the cuts, the branches, the sliders.

Special here: lines of text for so much room, as views/terminal makes them, and out of the same pieces; only what stands
on the screen is worked out. Colour is never the only cue: a mark, a number or a border says the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from rich.cells import cell_len
from rich.text import Text as Line

from manako.messages.lines import wrap
from manako.messages.numbers import count, decimals, fixed, percent, perplexity, setting
from manako.sampling import STAGES, Sampling, Stage
from manako.trace.record import Candidate, Other, Step
from manako.tui.stepper import Place, Text
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, number, rows
from manako.views.terminal.steps import BAR_CELLS, Look, candidate_columns

PICKED = "on #2f4256"
QUIET = "#8b949e"
TINTS = (  # from which p_model on, and the style: warmer where the model was more surprised
    (0.5, ""),
    (0.2, "on #2c3327"),
    (0.05, "on #4a4420"),
    (0.01, "bold on #66431d"),
    (0.0, "bold underline on #6d2f2f"),
)
FORCED = "bold #79b8ff"
_BAR, _OTHER_BAR = "#4f7ea8", "#434b55"
_STRETCHES = ("on #24384a", "on #3a2f4d")  # of the candidates on the line, in turn
_LABEL_CELLS = (8, 12, 18)
_CUT_SHOWN = 8  # tokens that a stage cut, by name
_SLIDER_CELLS = 28


def candidates(step: Step, place: Place, picked: int, first: int, room: int, shown: int, look: Look) -> list[Line]:
    """`shown` candidates from rank `first` + 1 on, below a line of titles. picked: the one that is highlighted."""
    pending, stands = g.pending_bytes(step.bytes_before), taken(step, place)
    listed = step.candidates[first : first + shown]
    marked = step if stands is None else replace(step, token_id=stands.id, chosen=stands)
    columns, styles = candidate_columns(marked, listed, look, pending, _LABEL_CELLS)

    def bar(c: Candidate | Other, cells: int) -> str | Line:
        if isinstance(c, Candidate) and c.cut_by is not None:
            return g.cut(look.say("step.cut_by", stage=c.cut_by), cells)
        return Line(look.bar(c.p, cells), _BAR if isinstance(c, Candidate) else _OTHER_BAR)

    bars = [partial(bar, c) for c in (*listed, step.other(listed))]
    table = [*columns, Column(bars, wide=8, most=BAR_CELLS, fills=True, gives_way=2, optional=True)]
    lines = list(rows(table, room, styles))
    titles = len(lines) - len(listed) - 1
    if not titles:
        lines.insert(0, Line("", no_wrap=True))
    at = 1 + picked - first
    if 0 < at <= len(listed):
        lines[at].append(" " * (room - lines[at].cell_len))
        lines[at].stylize(PICKED)
    return lines


def taken(step: Step, place: Place) -> Candidate | None:
    """What stands in the line at this place, where it is not what was drawn."""
    if not place.forced:
        return None
    found = np.flatnonzero(step.listed.id == place.token_id)
    return step.candidates[int(found[0])] if len(found) else None


def draw_lines(step: Step, place: Place, room: int, look: Look) -> list[Line]:
    """The line that the draw walks, likeliest token first, the needle at u, and what they say."""
    lines = list[Line]()
    label = partial(look.label, pending=g.pending_bytes(step.bytes_before))
    if step.u is None:
        lines.append(_said(look.say("step.given", token=label(step.chosen), **_numbers(step.chosen)), "bold"))
    else:
        lines += [_stretches(step, room, look), Line(" " * min(int(step.u * room), room - 1) + "^", "bold #ffd866")]
        if step.certain:
            lines.append(_said(look.say("step.no_draw", u=fixed(step.u, 4)), ""))
        else:
            low, high = step.interval
            digits = decimals(high - low)
            values = {"u": fixed(step.u, digits), "low": fixed(low, digits), "high": fixed(high, digits)}
            lines.append(_said(look.say("step.draw", token=label(step.chosen), **values), ""))
    if stands := taken(step, place):
        lines.append(_said(look.say("stepper.forced", token=label(stands), **_numbers(stands)), FORCED))
    bits = {"bits": fixed(step.entropy, 2), "choices": perplexity(step.entropy)}
    lines.append(_said(look.say("step.entropy", **bits), QUIET))
    return wrapped(lines, room)


def _stretches(step: Step, room: int, look: Look) -> Line:
    """Each candidate's share of the line, with its name where that fits; where none does, nothing stands for it."""
    line, used, low = Line(no_wrap=True), 0, 0.0
    pending = g.pending_bytes(step.bytes_before)
    for n, c in enumerate(step.candidates[:room]):
        low += c.p
        cells = round(low * room) - used
        if cells <= 0 or c.cut_by:
            break  # those behind it are no likelier
        name = look.label(c, pending, cells - 1) if cells > 1 else ""
        named = name if cell_len(name) < cells and not name.endswith("~") else ""
        chosen = " bold #7ee787" if c.id == step.token_id else ""
        line.append("|" + g.pad(named, cells - 1), _STRETCHES[n % 2] + chosen)
        used += cells
    return line.append("." * (room - used), QUIET)


def stages(step: Step, sampling: Sampling, room: int, look: Look) -> list[Line]:
    """A row for each stage that ran: its setting, what it left, the probability that it cut; then the cut tokens."""
    kept = [count(s.kept) for s in step.stages]
    columns = [
        Column([s.name for s in step.stages], look.say("stepper.stage")),
        number([setting(getattr(sampling, s.name)) for s in step.stages], look.say("stepper.setting")),
        Column(kept, look.say("stepper.kept"), right=True),
        number([percent(s.removed_mass) for s in step.stages], look.say("stepper.cut")),
    ]
    lines = list(rows(columns, room))
    pending, cut_by = g.pending_bytes(step.bytes_before), step.listed.cut_by
    for n, stage in enumerate(step.stages):
        places = np.flatnonzero(cut_by == n)[:_CUT_SHOWN]
        if len(places):
            names = " ".join(look.label(step.candidates[int(i)], pending, 12) for i in places)
            lines += ["", _said(look.say("stepper.cut_first", stage=stage.name, tokens=names), "")]
    whole = {"bits": fixed(step.entropy, 2), "choices": perplexity(step.entropy)}
    lines += ["", _said(look.say("step.entropy", **whole), ""), _said(look.say("stepper.stages_meaning"), QUIET)]
    return wrapped([Line(line) if isinstance(line, str) else line for line in lines], room)


def branches(texts: Sequence[Text], current: Text, picked: int, room: int, look: Look) -> list[Line]:
    """A line for each branch: its name, what it goes on from and after how many steps, its own text."""
    names = [look.glyphs.mark + t.id if t is current else f" {t.id}" for t in texts]
    origins = [look.say("stepper.origin", parent=t.parent.id, keep=t.keep) if t.parent else "" for t in texts]

    def own(text: Text, cells: int) -> str:
        before = len(text.trace.columns.prompt_ids) - text.forced if text.parent else 0
        return g.cut(g.prose(text.trace.text_of(before, before + cells), look.glyphs), cells)

    columns = [
        Column(names, look.say("stepper.branch")),
        Column(origins, look.say("stepper.from")),
        Column([count(len(t.trace)) for t in texts], look.say("stepper.steps"), right=True),
        Column([partial(own, t) for t in texts], wide=8, fills=True),
    ]
    lines = list(rows(columns, room, ["bold green" if t is current else "" for t in texts]))
    lines[1 + picked].append(" " * (room - lines[1 + picked].cell_len))
    lines[1 + picked].stylize(PICKED)
    return [*lines, Line(), *wrapped([_said(look.say("stepper.branches_meaning"), QUIET)], room)]


# --- settings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slider:
    """The values that one stage's setting moves through; None leaves the stage out."""

    stage: Stage
    value: float | None
    stops: tuple[float | None, ...]

    @property
    def place(self) -> int:
        return self.stops.index(self.value)

    def moved(self, by: int) -> float | None:
        """The value so many stops further on."""
        return self.stops[min(max(self.place + by, 0), len(self.stops) - 1)]

    def at(self, share: float) -> float | None:
        """The value at a share of the slider's length."""
        return self.stops[min(max(round(share * (len(self.stops) - 1)), 0), len(self.stops) - 1)]


def sliders(sampling: Sampling, vocabulary_size: int) -> list[Slider]:
    """One for temperature and each cut, and for each penalty that is in use."""
    found = []
    for stage in STAGES:
        value = getattr(sampling, stage.name)
        if stage.penalty and value is None:
            continue
        values = set(_values(stage, vocabulary_size)) | ({value} if value is not None else set())
        stops: list[float | None] = sorted(values)
        if getattr(Sampling, stage.name) is None:  # it can be left out: at the end where it changes nothing
            stops = [None, *stops] if stage.neutral == stage.low else [*stops, None]
        found.append(Slider(stage, value, tuple(stops)))
    return found


def _values(stage: Stage, size: int) -> list[float]:
    if stage.whole:
        return [n for n in (*range(1, 10), *range(10, 50, 5), *range(50, 200, 25), 200, 500, 1000, 5000) if n < size]
    if stage.high is not None:
        steps = [n / 100 for n in (*range(0, 10), *range(10, 95, 5), *range(95, 100))]
        return [v for v in steps if stage.low_included and v or v > 0]
    low = 0 if stage.low is not None else -2
    return [n / 20 for n in range(20 * low + (0 if stage.low_included else 1), 41)]


def slider_line(slider: Slider, picked: bool, room: int, look: Look) -> Line:
    """The name, the value, and where it stands between its ends."""
    shown = look.say("stepper.off") if slider.value is None else setting(slider.value)
    line = Line(no_wrap=True).append((look.glyphs.mark if picked else " ") + g.pad(slider.stage.name, NAME_CELLS))
    line.append(g.pad(shown, VALUE_CELLS, right=True) + " ", "bold")
    cells = max(0, min(_SLIDER_CELLS, room - line.cell_len))
    full = round(slider.place / max(1, len(slider.stops) - 1) * (cells - 1)) if cells else 0
    line.append(look.glyphs.full * full, "#58a6ff" if picked else "#3d6a96")
    line.append("|"[:cells], "bold").append("-" * (cells - full - 1), QUIET)
    return line


NAME_CELLS = max(len(stage.name) for stage in STAGES) + 1
VALUE_CELLS = 6
SLIDER_AT = 2 + NAME_CELLS + VALUE_CELLS
"""The cell in which a slider begins."""


def slider_share(column: int, room: int) -> float:
    """What share of a slider's length a cell is."""
    return (column - SLIDER_AT) / max(1, min(_SLIDER_CELLS, room - SLIDER_AT) - 1)


# --- words ------------------------------------------------------------------------------------------------------------


def wrapped(lines: Sequence[Line], room: int) -> list[Line]:
    """Lines that fit, broken at words; those that are laid out already stay as they are."""
    found = list[Line]()
    for line in lines:
        if line.no_wrap or line.cell_len <= room:
            found.append(line)
        else:
            found += [Line(part, line.style) for part in wrap(line.plain, room)]
    return found


def _said(text: str, style: str) -> Line:
    return Line(text, style)


def _numbers(c: Candidate) -> dict[str, object]:
    return {"p": percent(c.p), "rank": c.rank}
