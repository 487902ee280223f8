"""A run in a terminal at a glance: a line for each step, the text tinted by how likely its tokens were, a summary.

Special here: the widths of a line depend on the window alone, so that lines may come one by one and still be a table. A
strong tint is bold or reversed, and where there are no colours a row of shades stands under the text: colour is never
the only sign. A character that several tokens make has the tint of the unlikeliest of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.overview import Brief, Summary
from manako.messages.lines import breaks
from manako.messages.numbers import count, fixed, percent, perplexity
from manako.trace.record import Trace, bytes_to_text
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, rows
from manako.views.terminal.steps import Look

_BAR_CELLS = 10  # all of them are 100 %
_TEXT_CELLS = (8, 40)  # of the text before a token: least, and most
_TOKEN_CELLS = 12
_TOKENS_BACK = 40  # of the text before a token: enough to fill its cells
_CONTINUATION = bytes(range(0x80, 0xC0))  # bytes that no character begins with
_STYLES = ("", "yellow", "bold red", "bold red reverse")  # from likely to unlikely


@dataclass(frozen=True)
class Tint:
    """What a text is tinted by, in four strengths."""

    strength: Callable[[Brief], int]
    names: tuple[str, str, str, str]


def _above(limits: tuple[float, float, float], value: float) -> int:
    return sum(value > limit for limit in limits)


TINTS = {
    "p": Tint(lambda s: sum(s.p < limit for limit in (0.5, 0.1, 0.01)), ("50%+", "10%+", "1%+", "<1%")),
    "rank": Tint(lambda s: _above((1, 10, 100), s.rank), ("1", "2-10", "11-100", "101+")),
    "surprisal": Tint(lambda s: _above((1, 3, 7), s.surprisal), ("0-1", "1-3", "3-7", "7+")),
}


def row_lines(trace: Trace, steps: Sequence[Brief], look: Look) -> Iterator[Text]:
    """A line for each of some steps: the text before it, the token, p and its bar, p_model, rank, entropy."""
    if look.plain:
        yield from (_sentence(trace, step, look) for step in steps)
    else:
        yield from rows(_columns(trace, steps, look), look.columns, [_STYLES[TINTS["p"].strength(s)] for s in steps])


def title_line(trace: Trace, look: Look) -> Iterator[Text]:
    """What stands over the lines of `row_lines`; nothing over sentences."""
    if not look.plain:
        yield next(rows(_columns(trace, [], look, titles=True), look.columns))


def _columns(trace: Trace, steps: Sequence[Brief], look: Look, titles: bool = False) -> list[Column]:
    def column(name: str, cells: Sequence[str], width: int, turn: int = 0, right: bool = True) -> Column:
        title = look.say(f"overview.{name}") if name else ""
        width = max(width, cell_len(title))
        title = title if titles else ""
        return Column(cells, title, right, wide=width, most=width, gives_way=turn, optional=turn > 0)

    def before(step: Brief, cells: int) -> str:
        near = _before(trace, step)
        data = trace.vocabulary.join(near)
        if len(near) == _TOKENS_BACK:  # the first of them may be the end of a character
            data = data.lstrip(_CONTINUATION)
        whole = data[: len(data) - len(g.pending_bytes(data))]
        return g.prose_tail(bytes_to_text(whole), look.glyphs, cells)

    header = trace.header
    last = header.first_step + max(header.max_new_tokens, len(trace))
    title = look.say("overview.text") if titles else ""
    least, most = _TEXT_CELLS
    found = [
        column("step", [str(s.index + 1) for s in steps], len(str(last))),
        Column([partial(before, s) for s in steps], title, right=True, wide=least, most=most, fills=True),
        column("token", [_label(trace, s, look) for s in steps], _TOKEN_CELLS, right=False),
        column("p", [percent(s.p) for s in steps], 7),
        column("", [look.bar(s.p, _BAR_CELLS) for s in steps], _BAR_CELLS, 1, right=False),
    ]
    if header.kind == "generation":  # a score has one probability
        found.append(column("p_model", [percent(s.p_model) for s in steps], 7, 2))
    return [
        *found,
        column("rank", [count(s.rank) for s in steps], len(count(trace.vocabulary.size))),
        column("entropy", [fixed(s.entropy, 2) for s in steps], 5, 3),
    ]


def _sentence(trace: Trace, step: Brief, look: Look) -> Text:
    pending = g.pending_bytes(trace.vocabulary.join(_before(trace, step)))
    values = {"p": percent(step.p)[:-1], "p_model": percent(step.p_model)[:-1], "bits": fixed(step.entropy, 2)}
    token = look.spoken(step, pending)
    return Text(look.say("overview.plain", step=step.index + 1, token=token, rank=count(step.rank), **values))


def _label(trace: Trace, step: Brief, look: Look) -> str:
    return look.label(step, g.pending_bytes(trace.vocabulary.join(_before(trace, step))), _TOKEN_CELLS)


def _before(trace: Trace, step: Brief) -> Sequence[int]:
    """The last tokens before a step."""
    end = len(trace.columns.prompt_ids) + step.index
    return trace.all_ids[max(0, end - _TOKENS_BACK) : end].tolist()


def text_lines(trace: Trace, steps: Sequence[Brief], look: Look, tint: str) -> Iterator[Text]:
    """The whole text, each token tinted; what was not chosen or scored is dim. First the legend."""
    if look.plain:
        yield from row_lines(trace, steps, look)
        return
    yield _legend(tint, look)
    yield Text("")
    text, strengths = Text(), list[int | None]()  # of each character
    for piece, strength in _pieces(trace, steps, TINTS[tint], look):
        text.append(piece, "dim" if strength is None else _STYLES[strength])
        strengths += [strength] * len(piece)
    start = 0
    for paragraph in text.split("\n", allow_blank=True):
        for line in paragraph.divide(breaks(paragraph.plain, look.columns)):
            end = start + len(line)
            line.no_wrap = True
            yield line
            if not look.color:
                shades = (_shade(strengths[n], look) * cell_len(text.plain[n]) for n in range(start, end))
                yield Text("".join(shades).rstrip())
            start = end
        start += 1  # the newline
    yield Text("")


def _legend(tint: str, look: Look) -> Text:
    line = Text(look.say(f"overview.tint_{tint}"), "dim")
    for strength, name in enumerate(TINTS[tint].names):
        shown = f"{_shade(strength, look)} {name}" if not look.color else name
        line.append("  ").append(shown, f"not dim {_STYLES[strength]}")
    return line


def _shade(strength: int | None, look: Look) -> str:
    return look.glyphs.shades[0 if not strength else strength + 1]


def _pieces(trace: Trace, steps: Sequence[Brief], tint: Tint, look: Look) -> Iterator[tuple[str, int | None]]:
    """Whole characters with the strength of their unlikeliest token, None where none of them was a step."""
    data, strength = trace.vocabulary.join(trace.columns.prompt_ids), None
    done = len(data) - len(g.pending_bytes(data))
    yield g.prose(bytes_to_text(data[:done]), look.glyphs, one_line=False), None
    data = data[done:]
    for step in steps:
        own = tint.strength(step)
        if step.special or not step.bytes:
            if data:
                yield g.visible_bytes(data, look.glyphs), strength
            yield look.label(step), own
            data, strength = b"", None
            continue
        data, strength = data + step.bytes, max(own, strength or 0)
        if not g.pending_bytes(data):
            yield _prose(data, look), strength
            data, strength = b"", None
    if data:
        yield g.visible_bytes(data, look.glyphs), strength


def _prose(data: bytes, look: Look) -> str:
    if g.is_partial(data):
        return g.visible_bytes(data, look.glyphs)
    return g.prose(data.decode("utf-8"), look.glyphs, one_line=False)


def window_lines(trace: Trace, look: Look) -> Iterator[Text]:
    """From which step on the model saw only the end of the text, if there was one."""
    if len(moved := trace.columns.window_start.nonzero()[0]):
        context = len(trace.columns.prompt_ids) + int(moved[0]) - int(trace.columns.window_start[moved[0]])
        yield Text(look.say("overview.window", step=int(moved[0]) + 1, context=count(context)), "dim")


def summary_lines(summary: Summary, look: Look) -> Iterator[Text]:
    """What the steps come to, and where the run hesitated most."""
    mean = summary.bits / summary.tokens
    values = {"tokens": count(summary.tokens), "bits": fixed(summary.bits, 1), "mean": fixed(mean, 2)}
    rank = fixed(summary.mean_rank, 1)
    yield Text(look.say("overview.sum", perplexity=perplexity(mean), rank=rank, **values), "dim")
    most, least = summary.hesitated, summary.surprised
    values = {"step": most.index + 1, "bits": fixed(most.entropy, 2), "choices": perplexity(most.entropy)}
    yield Text(look.say("overview.hesitated", **values), "dim")
    values = {
        "step": least.index + 1,
        "token": look.label(least),
        "p": percent(least.p_model),
        "rank": count(least.rank),
    }
    yield Text(look.say("overview.surprised", **values), "dim")
