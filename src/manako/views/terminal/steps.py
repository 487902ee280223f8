"""The steps of a trace in a terminal: what the article prints, with the numbers that were really used.

Special here: bars stand on an absolute axis, 50 cells for 100 %, and shrink only when the window is too narrow for it.
The strip under the list is the line that the draw walks, 50 cells for the whole vocabulary, each cell with the rank of
the candidate it belongs to; the needle is `u`. Texts are rich `Text`, never markup: a token may hold anything.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich.cells import cell_len
from rich.text import Text

from manako import messages
from manako.messages.numbers import count, decimals, fixed, percent, perplexity, setting, small
from manako.trace.record import Candidate, Header, Other, SelfCheck, Step, Trace
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, number, rows

BAR_CELLS = 50
_NO_BAR_BELOW = 30  # columns; a bar of a few cells says nothing
_LABEL_CELLS = (8, 12, 18)  # least, usual, and most where a name needs it
_DIGITS = "1234567890"  # rank 10 is 0
_TEXT_CELLS = 160  # of the text so far; all of it stands at the end


@dataclass(frozen=True)
class Look:
    """How to draw: language, room, glyphs."""

    lang: str = "en"
    columns: int = 100
    glyphs: g.Glyphs = g.BLOCK
    plain: bool = False
    """One sentence a candidate, no bars: for screen readers."""
    top: int = 10
    """Candidates in each list."""
    color: bool = False
    """Whether styles show, so that they may say something."""

    def say(self, key: str, **values: object) -> str:
        """A sentence of the catalog."""
        return messages.text(key, self.lang, **values)

    def label(self, token: g.Token, pending: bytes = b"", cells: int = 40) -> str:
        """What stands for a token. pending: bytes of an unfinished character before it."""
        return g.label(token, self.glyphs, self.lang, cells, pending)

    def spoken(self, token: g.Token, pending: bytes = b"") -> str:
        """The same in a sentence for a screen reader."""
        return g.plain_label(token, self.glyphs, self.lang, pending)

    def bar(self, share: float, cells: int) -> str:
        """A bar that fills so many cells where the share is all of it; to the half of a cell."""
        halves = math.floor(share * cells * 2)
        return self.glyphs.full * (halves // 2) + self.glyphs.half * (halves % 2)

    def sided(self, share: float, cells: int, left: str, right: str) -> Text:
        """A bar from a middle axis, to the left below 0; a side is full at 1. left, right: styles."""
        side = (cells - 1) // 2
        full = self.glyphs.full * round(abs(share) * side)
        line = Text(g.pad(full if share < 0 else "", side, right=True), left)
        return line.append("|", "dim").append(g.pad(full if share > 0 else "", side), right)


def header_lines(header: Header, look: Look, temperatures: Sequence[float] = ()) -> Iterator[Text]:
    """Which model runs with which settings, in which order. temperatures: of all runs, where there are several."""
    c = header.model.config
    shape = look.say("view.shape", **{n: c.get(n) for n in ("n_layer", "n_head", "n_embd", "n_positions")})
    named = look.say("view.model", ref=g.visible(header.model.name, look.glyphs), shape=shape)
    yield _line(g.prose(named, look.glyphs), style="dim")
    if text := header.model.trained_on(look.lang):
        yield _line(g.prose(look.say("view.trained_on", text=text), look.glyphs), style="dim")
    if header.first_step:
        yield _line(look.say("view.forked", steps=header.first_step), style="dim")
    if header.model.switches:
        switches = look.say("view.switches", switches=", ".join(header.model.switches))
        yield _line(g.prose(switches, look.glyphs), style="bold yellow")
    if header.ablate and not temperatures:
        yield _line(g.prose(look.say("view.ablate", parts=", ".join(header.ablate)), look.glyphs), style="bold yellow")
    if header.kind == "generation":
        values = {name: setting(getattr(header.sampling, name)) for name in header.sampling.active}
        if temperatures:
            values["temperature"] = " / ".join(map(setting, temperatures))
        chain = " > ".join(f"{name} {value}" for name, value in values.items())
        yield _line(look.say("view.settings", chain=chain, seed=header.seed), style="dim")
        if not header.prompt:
            yield _line(look.say("view.empty_prompt"))
    elif not header.prompt:
        yield _line(look.say("view.given_start"), style="dim")
    yield Text("")


def step_lines(step: Step, look: Look, character: str | None = None, legend: bool = False) -> Iterator[Text]:
    """One step. character: what the chosen part of a character became, such as "猫 1/3", where it is known.

    legend: whether to say how the line of the draw is read, which is enough once.
    """
    lines = plain_rows if look.plain else _table
    pending = g.pending_bytes(step.bytes_before)
    yield from heading_lines(step, look)
    yield Text("")
    yield _line(look.say("step.candidates"))
    yield from lines(step, look, pending)
    yield from _draw_lines(step, look, pending, legend)
    yield from chosen_lines(step, look, character)
    entropy = {"bits": fixed(step.entropy, 2), "choices": perplexity(step.entropy)}
    yield _line("    " + look.say("step.entropy", **entropy), style="dim")
    yield Text("")


def heading_lines(step: Step, look: Look) -> Iterator[Text]:
    """Which step it is, and the text before it."""
    yield _line(look.say("step.title", number=step.number), style="bold")
    room = max(8, min(_TEXT_CELLS, 2 * look.columns - cell_len(look.say("step.text", text=""))))
    yield _line(look.say("step.text", text=g.prose_tail(step.text_before, look.glyphs, room)))
    if step.window_start:
        yield _line(look.say("step.window", start=step.window_start + 1), style="dim")


def chosen_lines(step: Step, look: Look, character: str | None = None) -> Iterator[Text]:
    """The token that was taken, with its probability in the draw and, where it differs, by the model alone."""
    chosen = look.say(
        "step.chosen" if step.u is not None else "step.given",
        token=look.label(step.chosen, g.pending_bytes(step.bytes_before)),
        p=percent(step.chosen.p),
        rank=step.chosen.rank,
    )
    yield _line(f"{chosen}  {g.prose(character, look.glyphs)}" if character else chosen, style="bold")
    if step.chosen.p != step.chosen.p_model:
        yield _line("    " + look.say("step.p_model", p=percent(step.chosen.p_model)), style="dim")


def trace_lines(trace: Trace, look: Look) -> Iterator[Text]:
    """A whole record: settings, every step, the text."""
    parts = characters(trace)
    yield from header_lines(trace.header, look)
    for step in trace:
        yield from step_lines(step, look, parts.get(step.index), legend=not step.index)
    yield from final_lines(trace, look)


def final_lines(trace: Trace, look: Look, text: bool = True) -> Iterator[Text]:
    """The whole text, why it ends, and the self-checks. text: whether it is still to be shown."""
    if not len(trace):
        yield _line(look.say("view.nothing"))
    if text:
        yield _line(look.say("view.text"), style="bold")
        for line in g.prose(trace.text, look.glyphs, one_line=False).split("\n"):
            yield Text(line, no_wrap=True)  # so that it can be copied as it is
        yield Text("")
    yield _line(look.say(f"end.{trace.header.end}", count=len(trace)), style="dim")
    yield from check_lines(trace.header.self_checks, look)


def check_lines(checks: Sequence[SelfCheck], look: Look) -> Iterator[Text]:
    """Each self-check with the error that the run measured and recorded; one that failed stands out."""
    for check in checks:
        values = {"error": small(check.error), "limit": small(check.limit)}
        key = "check.recorded" if check.ok else "check.failed"
        known = f"check.{check.name}" in messages.catalog(look.lang)  # a file may name any
        name = look.say(f"check.{check.name}") if known else g.visible(check.name, look.glyphs)
        said = look.say(key, name=name, **values)
        yield _line(said, style="dim" if check.ok else "bold red")


def characters(trace: Trace) -> Mapping[int, str]:
    """For each step whose token is part of a character: the character and the part, such as "猫 1/3"."""
    found: dict[int, str] = {}
    data = g.pending_bytes(trace.vocabulary.join(trace.columns.prompt_ids))  # the context of a score may end in a part
    owner = [-1] * len(data)
    for step, i in enumerate(trace.columns.token_id.tolist()):
        token = trace.vocabulary[i]
        if i in trace.vocabulary.special_ids or not token:
            data, owner = b"", []
            continue
        data, owner = data + token, owner + [step] * len(token)
        pending = len(g.pending_bytes(data))
        done = len(data) - pending
        _name_parts(data[:done], owner[:done], found)
        data, owner = data[done:], owner[done:]
    return found


def _name_parts(data: bytes, owner: Sequence[int], found: dict[int, str]) -> None:
    start = 0
    while start < len(data):
        size = 1 + next((n for n, b in enumerate(data[start + 1 :]) if not 0x80 <= b < 0xC0), len(data) - start - 1)
        steps = sorted(set(owner[start : start + size]))
        piece = data[start : start + size]
        if len(steps) > 1 and not g.is_partial(piece):
            for n, step in enumerate(steps, 1):
                found[step] = f"{piece.decode()} {n}/{len(steps)}"
        start += size


def _table(step: Step, look: Look, pending: bytes) -> Iterator[Text]:
    shown = _shown(step, look)
    columns, styles = candidate_columns(step, shown, look, pending, _LABEL_CELLS)

    def bar(c: Candidate | Other, cells: int) -> str:
        if isinstance(c, Other) or c.cut_by is None:
            return look.bar(c.p, cells) if look.columns >= _NO_BAR_BELOW else ""
        said = look.say("step.cut_by", stage=c.cut_by)
        return said if cell_len(said) <= cells else g.cut(c.cut_by, cells)

    bars = [partial(bar, c) for c in (*shown, step.other(shown))]
    yield _line("-" * min(40, look.columns))
    bars = Column(bars, wide=BAR_CELLS, most=BAR_CELLS, least=0, gives_way=2)
    yield from rows([*columns, bars], look.columns, styles)
    yield _line("-" * min(40, look.columns))


def _shown(step: Step, look: Look) -> Sequence[Candidate]:
    """The first candidates, and the chosen one where it is not among them."""
    shown = step.candidates[: look.top]
    return shown if step.chosen.rank <= len(shown) else [*shown, step.chosen]


def candidate_columns(
    step: Step, shown: Sequence[Candidate], look: Look, pending: bytes, label_cells: Sequence[int], title: str = ""
) -> tuple[list[Column], list[str]]:
    """Rank and token, p, and p_model where it differs; below them all others. And the style of each row.

    label_cells: of a token, least, usual and most. title: of the one probability, where they do not differ.
    """
    other, both = step.other(shown), any(c.p != c.p_model for c in shown)
    rank_cells = max(2, len(str(shown[-1].rank)))
    named = " " + look.say("step.other", count=count(other.count))  # begins under the ranks
    least, usual, most = (max(rank_cells + 3 + cells, cell_len(named)) for cells in label_cells)

    def name(c: Candidate, cells: int) -> str:
        mark = look.glyphs.mark if c.id == step.token_id else " "
        return f"{mark}{c.rank:>{rank_cells}}. {look.label(c, pending, cells - rank_cells - 3)}"

    names = Column([*(partial(name, c) for c in shown), named], wide=usual, most=most, least=least, gives_way=1)
    drawn = number([*("-" if c.cut_by else percent(c.p) for c in shown), percent(other.p)], "p" if both else title)
    models = [number([percent(c.p_model) for c in (*shown, other)], "p_model")] if both else []
    styles = ["bold green" if c.id == step.token_id else "dim" if c.cut_by else "" for c in shown]
    return [names, drawn, *models], [*styles, "dim"]


def plain_rows(
    step: Step,
    look: Look,
    pending: bytes,
    shown: Sequence[Candidate] = (),
    more: Callable[[Sequence[Candidate], bool], str] = lambda tokens, others: "",
) -> Iterator[Text]:
    """One sentence a candidate. pending: bytes of an unfinished character before them.

    more: what else is said of some candidates, or of all others.
    """
    shown = shown or _shown(step, look)
    other, both = step.other(shown), any(c.p != c.p_model for c in shown)
    for c in (*shown, other):
        values: dict[str, object] = {"p": percent(c.p)[:-1]}
        if isinstance(c, Other):
            said = look.say("plain.other", count=count(c.count), **values)
        else:
            key = "plain.cut" if c.cut_by else "plain.chosen" if c.id == step.token_id else "plain.candidate"
            said = look.say(key, rank=c.rank, token=look.spoken(c, pending), stage=c.cut_by, **values)
        said += look.say("plain.p_model", p=percent(c.p_model)[:-1]) if both else ""
        yield _line(said + (more(shown, True) if isinstance(c, Other) else more([c], False)))


def _draw_lines(step: Step, look: Look, pending: bytes, legend: bool) -> Iterator[Text]:
    """The cumulative line, likeliest token first, and where u fell on it."""
    if step.u is None:
        return
    if not step.certain:
        low, high = step.interval
        digits = decimals(high - low)
        values = {"u": fixed(step.u, digits), "low": fixed(low, digits), "high": fixed(high, digits)}
        if not look.plain and look.columns >= BAR_CELLS + 2:
            yield _line("|" + _strip(step) + "|", style="dim")
            yield _line(" " * (1 + min(int(step.u * BAR_CELLS), BAR_CELLS - 1)) + "^")
            if legend:
                yield _line(look.say("step.strip"), style="dim")
        yield _line(look.say("step.draw", token=look.label(step.chosen, pending), **values))
    else:
        yield _line(look.say("step.no_draw", u=fixed(step.u, 4)))


def _strip(step: Step) -> str:
    ends: list[float] = []
    for c in step.candidates[: len(_DIGITS)]:
        ends.append((ends[-1] if ends else 0.0) + c.p)
    cells = ((n + 0.5) / BAR_CELLS for n in range(BAR_CELLS))
    return "".join(next((_DIGITS[i] for i, end in enumerate(ends) if at < end), ".") for at in cells)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style)
