"""Several runs in a terminal: one step side by side, then the continuations with the point where they part."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.compare import Comparison
from manako.messages.numbers import fixed, percent, setting
from manako.trace.record import Candidate, Step
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, blocks
from manako.views.terminal.steps import Look, heading_lines, plain_rows

_LABEL_CELLS = 12
_LEAST_CELLS = 9  # of a temperature: a space, the mark, seven for a number
_BAR_CELLS = (8, 20)  # least, below which a bar says nothing, and most


def comparison_lines(comparison: Comparison, look: Look) -> Iterator[Text]:
    """The first step and the step of divergence in each run, then the texts."""
    diverged, titles = comparison.diverged_at, run_titles(comparison, look)
    for index in sorted({0, diverged or 0}) if len(comparison.traces[0]) else ():
        yield from _step_lines(comparison.steps(index), titles, look)
    yield Text(look.say("compare.texts"), style="bold")
    title_cells = max(map(cell_len, titles))
    for title, trace in zip(titles, comparison.traces, strict=True):
        common = len(trace.columns.prompt_ids) + (len(trace) if diverged is None else diverged)
        line = Text(f"{g.pad(title, title_cells)}  {g.prose(trace.text_of(0, common), look.glyphs)}")
        if diverged is not None:
            own = g.prose(trace.text_of(common, len(trace.all_ids)), look.glyphs)
            line.append("|", style="bold yellow").append(own, style="bold")
        yield line
    yield Text("")
    parting = "compare.diverged_ablate" if any(comparison.ablations) else "compare.diverged"
    said = look.say("compare.same") if diverged is None else look.say(parting, step=diverged + 1)
    yield Text(said, style="dim")


def run_titles(comparison: Comparison, look: Look) -> list[str]:
    """What tells the runs apart, short enough to stand over a column."""
    if any(comparison.ablations):
        return ["+".join(off) or look.say("compare.untouched") for off in comparison.ablations]
    return [f"T={setting(t)}" for t in comparison.temperatures]


def _step_lines(steps: Sequence[Step], titles: Sequence[str], look: Look) -> Iterator[Text]:
    u = steps[0].u
    assert u is not None  # what is compared was drawn
    yield from heading_lines(steps[0], look)
    yield Text(look.say("compare.same_draw", u=fixed(u, 4)), style="dim")
    yield Text("")
    pending = g.pending_bytes(steps[0].bytes_before)
    if look.plain:
        yield from _sentences(titles, steps, look, pending)
    else:
        yield from _tables(titles, steps, look, pending)
    yield Text("")


def _tables(titles: Sequence[str], steps: Sequence[Step], look: Look, pending: bytes) -> Iterator[Text]:
    """One table; several with the same rows where the window is too narrow for all runs."""
    shown = _union(steps, look.top)
    room = look.columns - _LABEL_CELLS - 1
    least = max(_LEAST_CELLS, min(room, 1 + max(map(cell_len, titles))))
    beside = min(max(1, room // least), len(steps))
    each = max(least, min(room // beside, _LEAST_CELLS + _BAR_CELLS[1] + 3))
    bar_cells = min(_BAR_CELLS[1], each - _LEAST_CELLS - 1)
    bar_cells = bar_cells if bar_cells >= _BAR_CELLS[0] else 0
    unit = " bit" if each > _LEAST_CELLS + len(" bit") else ""

    def column(title: str, step: Step) -> Column:
        found = _found(step, shown)

        def cell(i: int) -> Text:
            c, mark = found.get(i), look.glyphs.mark if step.token_id == i else " "
            said = "-" if c is None else look.say("compare.cut") if c.cut_by else percent(c.p)
            return Text(
                f"{mark}{g.pad(said, 7, right=True)} {look.bar(c.p if c else 0.0, bar_cells)}".rstrip(),
                "bold green" if mark.strip() else "",
            )

        below = [percent(step.other(list(found.values())).p), fixed(step.entropy, 2)]
        numbers = [g.pad(text, 8, right=True) for text in below]
        cells = [*(cell(c.id) for c in shown), numbers[0], numbers[1] + unit]
        return Column(cells, g.pad(g.cut(title, each - 1), 8, right=True), wide=each - 1)

    names = [look.label(c, pending, _LABEL_CELLS) for c in shown]
    names += [look.say("compare.other"), look.say("compare.entropy")]
    left = Column([f" {name}" for name in names], wide=_LABEL_CELLS + 1)
    runs = [column(title, step) for title, step in zip(titles, steps, strict=True)]
    yield from blocks([left], runs, look.columns, [""] * len(shown) + ["dim"] * 2, titles="bold")
    if bar_cells:
        yield Text(look.say("compare.scale", cells=bar_cells), style="dim")


def _sentences(titles: Sequence[str], steps: Sequence[Step], look: Look, pending: bytes) -> Iterator[Text]:
    for title, step in zip(titles, steps, strict=True):
        yield Text(look.say("plain.run", title=title))
        yield from plain_rows(step, look, pending)


def _union(steps: Sequence[Step], top: int) -> list[Candidate]:
    """The first candidates of the middle run, and every token that was drawn."""
    shown = list(steps[len(steps) // 2].candidates[:top])
    for step in steps:
        if all(step.token_id != c.id for c in shown):
            shown.append(step.chosen)
    return shown


def _found(step: Step, shown: Sequence[Candidate]) -> dict[int, Candidate]:
    """Those of `shown` that are on record in this step, as they stand there, by id; what it took always is."""
    places = {i: n for n, i in enumerate(step.listed.id.tolist())}
    return {c.id: step.candidates[places[c.id]] for c in shown if c.id in places} | {step.token_id: step.chosen}
