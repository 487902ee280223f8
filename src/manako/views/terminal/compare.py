"""Several runs in a terminal: one step side by side, then the continuations with the point where they part."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.compare import Comparison
from manako.analysis.overview import brief
from manako.messages.numbers import fixed, percent, setting
from manako.sampling import STAGES
from manako.trace.model_name import model_name
from manako.trace.record import Candidate, ModelInfo, Step
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, blocks
from manako.views.terminal.steps import Look, header_lines, heading_lines, plain_rows

_LABEL_CELLS = 12
_LEAST_CELLS = 9  # of a temperature: a space, the mark, seven for a number
_BAR_CELLS = (8, 20)  # least, below which a bar says nothing, and most


def comparison_lines(comparison: Comparison, look: Look, steps: Sequence[int] | None = None) -> Iterator[Text]:
    """Some steps in each run, by default the first and the one where they part; then the texts and where they part.

    steps: counted from 0; those that the first run has are shown.
    """
    titles, diverged = run_titles(comparison, look), comparison.diverged_at
    if steps is None:
        steps = sorted({0, diverged or 0}) if all(map(len, comparison.traces)) else ()
    for index in steps:
        if index >= len(comparison.traces[0]):
            continue
        yield from _step_lines(comparison, index, titles, look)
    yield from parting_lines(comparison, look)


def header_of(comparison: Comparison, look: Look) -> Iterator[Text]:
    """The header of each model and of each chain and seed, once; temperatures alone in one line."""
    headers = [trace.header for trace in comparison.traces]
    kinds = {(h.model.ref, replace(h.sampling, temperature=1), h.seed): h for h in reversed(headers)}
    several = comparison.temperatures if len(kinds) == 1 and len(set(comparison.temperatures)) > 1 else ()
    said: list[str] = []
    for header in [headers[0]] if len(kinds) == 1 else headers:
        for line in header_lines(header, look, several):
            if line.plain and line.plain not in said:
                said.append(line.plain)
                yield line
    yield Text("")


def parting_lines(comparison: Comparison, look: Look) -> Iterator[Text]:
    """The text of each run, marked where it leaves the run that it agrees with longest; and which runs part where.

    Of a single run, which an interruption may leave, its text alone.
    """
    titles, every = run_titles(comparison, look), range(len(comparison.traces))
    seeds = {trace.header.seed for trace in comparison.traces}
    if len(every) > 1:
        yield Text(look.say("compare.texts" if len(seeds) == 1 else "compare.texts_seeds"), style="bold")
    title_cells = max(map(cell_len, titles))
    for run, trace in enumerate(comparison.traces):
        near = comparison.nearest(run, [other for other in every if other != run])
        parted = comparison.parts(run, near)
        common = len(trace.columns.prompt_ids) + (len(trace) if parted is None else parted)
        line = Text(f"{g.pad(titles[run], title_cells)}  {g.prose(trace.text_of(0, common), look.glyphs)}")
        if parted is not None:
            own = g.prose(trace.text_of(common, len(trace.all_ids)), look.glyphs)
            line.append("|", style="bold yellow").append(own, style="bold")
        yield line
    yield Text("")
    diverged = comparison.diverged_at
    if diverged is None:
        if len(every) > 1:
            yield Text(look.say("compare.same"), style="dim")
        return
    yield Text(look.say(f"compare.diverged{_difference(comparison)}", step=diverged + 1), style="dim")
    pairs = [(run, near := comparison.nearest(run, every[:run]), comparison.parts(run, near)) for run in every[1:]]
    if len(pairs) == 1 or all(parted == diverged for _, _, parted in pairs):  # the sentence above says it of each
        return
    for run, near, parted in pairs:
        key = "compare.pair_same" if parted is None else "compare.pair"
        step = None if parted is None else parted + 1
        yield Text(look.say(key, run=titles[run], other=titles[near], step=step), style="dim")


def row_lines(comparison: Comparison, look: Look) -> Iterator[Text]:
    """A line a step: what each run chose there, and with which probability; bold where not all chose the same."""
    titles, shown = run_titles(comparison, look), list(comparison.rows())
    cells: list[list[str]] = [[] for _ in titles]
    styles: list[str] = []
    for places in shown:
        chosen = set[bytes | None]()
        for run, (trace, index) in enumerate(zip(comparison.traces, places, strict=True)):
            step = None if index is None else brief(trace, index)
            chosen.add(None if step is None else step.bytes)
            said = "" if step is None else f"{g.pad(look.label(step, cells=_LABEL_CELLS), _LABEL_CELLS)}"
            cells[run].append(said if step is None else f"{said} {g.pad(percent(step.p), 7, right=True)}")
        styles.append("bold" if len(chosen) > 1 else "")
    width = _LABEL_CELLS + 8
    left = Column([str(n + 1) for n in range(len(shown))], look.say("overview.step"), right=True)
    columns = [Column(c, g.cut(t, width), gap=2, wide=width, most=width) for t, c in zip(titles, cells, strict=True)]
    yield from blocks([left], columns, look.columns, styles, titles="bold")
    yield Text("")


def run_titles(comparison: Comparison, look: Look) -> list[str]:
    """What tells the runs apart, short enough to stand over a column."""
    headers = [trace.header for trace in comparison.traces]
    told: list[list[str]] = []  # of each thing that differs: what it is in each run
    if len({h.model.ref for h in headers}) > 1:
        names = _told_apart([h.model for h in headers])
        told.append([g.visible(name, look.glyphs) for name in names])
    for stage in STAGES:
        values = [getattr(h.sampling, stage.name) for h in headers]
        if len(set(values)) > 1:
            name = "T" if stage.name == "temperature" else stage.name
            told.append(["" if value is None else f"{name}={setting(value)}" for value in values])
    if len({h.seed for h in headers}) > 1:
        told.append([f"seed {h.seed}" for h in headers])
    if any(comparison.ablations):
        told.append(["+".join(off) or look.say("compare.untouched") for off in comparison.ablations])
    usual = [f"T={setting(t)}" for t in comparison.temperatures]
    joined = [" ".join(filter(None, each)) for each in zip(*told, strict=True)] or usual
    return [title or other for title, other in zip(joined, usual, strict=True)]


def _told_apart(models: Sequence[ModelInfo]) -> list[str]:
    """Names of models; where different ones have the same, with a number behind it."""
    refs = list(dict.fromkeys(m.ref for m in models))
    names = [model_name(ref) for ref in refs]
    alike = [[other for other in refs if model_name(other) == name] for name in names]
    shown = {
        ref: name if len(same) == 1 else f"{name} ({same.index(ref) + 1})"
        for ref, name, same in zip(refs, names, alike, strict=True)
    }
    return [shown[m.ref] for m in models]


def _difference(comparison: Comparison) -> str:
    """Which sentence says what the runs differ in: of the temperature alone, of the ablation alone, or any."""
    headers = [trace.header for trace in comparison.traces]
    others = {(h.model.ref, replace(h.sampling, temperature=1), h.seed) for h in headers}
    several = [len({h.sampling.temperature for h in headers}) > 1, len(set(comparison.ablations)) > 1]
    if len(others) > 1 or all(several):
        return "_any"
    return "_ablate" if several[1] else ""


def _step_lines(comparison: Comparison, index: int, titles: Sequence[str], look: Look) -> Iterator[Text]:
    found = comparison.at(index)
    steps, titles = [step for _, step in found], [titles[run] for run, _ in found]
    yield from heading_lines(steps[0], look)
    draws = [fixed(step.u, 4) for step in steps if step.u is not None]
    key = "compare.same_draw" if len(set(draws)) == 1 else "compare.draws"
    yield Text(look.say(key, u=draws[0] if len(set(draws)) == 1 else " / ".join(draws)), style="dim")
    if len(found) < len(comparison.traces):
        yield Text(look.say("compare.left_out", count=len(comparison.traces) - len(found)), style="dim")
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

        def cell(key: tuple[bytes, bool]) -> Text:
            c, mark = found.get(key), look.glyphs.mark if _key(step.chosen) == key else " "
            said = "-" if c is None else look.say("compare.cut") if c.cut_by else percent(c.p)
            return Text(
                f"{mark}{g.pad(said, 7, right=True)} {look.bar(c.p if c else 0.0, bar_cells)}".rstrip(),
                "bold green" if mark.strip() else "",
            )

        below = [percent(step.other(list(found.values())).p), fixed(step.entropy, 2)]
        numbers = [g.pad(text, 8, right=True) for text in below]
        cells = [*(cell(_key(c)) for c in shown), numbers[0], numbers[1] + unit]
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
        if all(_key(step.chosen) != _key(c) for c in shown):
            shown.append(step.chosen)
    return shown


def _found(step: Step, shown: Sequence[Candidate]) -> dict[tuple[bytes, bool], Candidate]:
    """Those of `shown` that are stored in this step, as they are there; what it took always is."""
    wanted = {_key(c) for c in shown}
    special, ids = step.vocabulary.special_ids, [int(i) for i in step.listed.id[::-1]]
    places = {(step.vocabulary[i], i in special): len(ids) - n for n, i in enumerate(ids, 1)}
    return {key: step.candidates[places[key]] for key in wanted & places.keys()} | {_key(step.chosen): step.chosen}


def _key(c: Candidate) -> tuple[bytes, bool]:
    """A token by what it is, since its id is another one in another vocabulary."""
    return c.bytes, c.special
