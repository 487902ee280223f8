"""A training in a terminal: a heat map, tokens down and snapshots across, and below it the rows that tell the story.

Special here: the shade of a cell is the probability of that token at that snapshot, the same scale everywhere, so the
rows compare. Where the window has fewer cells than there are snapshots, some are left out evenly, never the last.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rich.text import Text

from manako.analysis.dynamics import lives, nearest, passed, strongest_heads
from manako.messages.numbers import count, fixed, percent
from manako.trace.dynamics import Dynamics
from manako.trace.model_name import model_name
from manako.trace.record import bytes_to_text
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, number, rows
from manako.views.terminal.steps import Look

_LABEL_CELLS = 12
_SHADED_FROM = (0.02, 0.1, 0.25, 0.5)  # probability from which a cell has the next darker shade
_CONTINUATIONS = 10
_WIDEST = 3  # cells of a snapshot
_STYLES = ("", "blue", "cyan", "green", "bold green")


def dynamics_lines(found: Dynamics, look: Look) -> Iterator[Text]:
    """All of it."""
    steps, header = found.steps, found.header
    c = header.model["config"]
    shape = look.say("view.shape", **{n: c.get(n) for n in ("n_layer", "n_head", "n_embd", "n_positions")})
    named = look.say("view.model", ref=g.visible(model_name(header.run), look.glyphs), shape=shape)
    yield Text(g.prose(named, look.glyphs), style="dim")
    yield Text(look.say("dynamics.title", count=len(found), first=count(steps[0]), last=count(steps[-1])), style="bold")
    if header.damaged:
        yield Text(look.say("dynamics.left_out", steps=", ".join(map(str, header.damaged))), style="bold yellow")
    yield Text("")
    yield from (_sentences if look.plain else _heat)(found, look)
    yield Text("")
    yield from _story(found, look)
    yield Text("")
    yield Text(look.say("dynamics.continuations", seed=found.continuations[0].header.seed), style="bold")
    yield from _continuations(found, look)


def _heat(found: Dynamics, look: Look) -> Iterator[Text]:
    each = lives(found)
    names = [look.label(life, cells=_LABEL_CELLS) for life in each]
    ends = [percent(float(life.p[-1])) for life in each]
    firsts = ["-" if life.first_place is None else count(life.first_place) for life in each]
    wide = max(map(len, [*firsts, look.say("dynamics.first_head")]))
    room = look.columns - _LABEL_CELLS - 7 - max(wide, 8) - 4
    shown = _spread(len(found), max(8, room))
    size = max(1, min(_WIDEST, room // len(shown)))
    cells = [_shades(life.p[shown], look, size) for life in each]
    steps = [found.steps[z] for z in shown]
    columns = [
        Column(["", *names, *[look.say("dynamics.bits_head")]], most=_LABEL_CELLS),
        Column([_ruler(steps, size), *cells, _falling(found.bits_per_character[shown], look, size)]),
        number(["", *ends, fixed(float(found.bits_per_character[-1]), 2)], look.say("dynamics.end_head")),
        Column(["", *firsts, ""], look.say("dynamics.first_head"), right=True),
    ]
    yield from rows(columns, look.columns, ["dim"])
    shades = look.glyphs.shades
    legend = "  ".join(f"{shade} {percent(p)}" for shade, p in zip(shades[1:], _SHADED_FROM, strict=True))
    yield Text(look.say("dynamics.legend", legend=legend), style="dim")


def _sentences(found: Dynamics, look: Look) -> Iterator[Text]:
    for life in lives(found):
        values = {"token": look.spoken(life), "start": percent(float(life.p[0])), "end": percent(float(life.p[-1]))}
        first = life.first_place
        key = "dynamics.plain_never" if first is None else "dynamics.plain_token"
        yield Text(look.say(key, step=None if first is None else count(first), **values))


def _shades(p: npt.NDArray[np.float64], look: Look, size: int) -> Text:
    line = Text(no_wrap=True)
    strengths: list[int] = np.searchsorted(_SHADED_FROM, p, side="right").tolist()
    for strength in strengths:
        line.append(look.glyphs.shades[strength] * size, _STYLES[strength])
    return line


def _falling(values: npt.NDArray[np.float64], look: Look, size: int) -> Text:
    """A row of the same cells: the darkest are the largest fifth of the range, the empty ones the smallest."""
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low) if high > low else np.ones(len(values))
    return Text("".join(look.glyphs.shades[min(4, int(s * 5))] * size for s in share.tolist()), style="magenta")


def _ruler(steps: Sequence[int], size: int) -> str:
    """Numbers of steps over the columns that they belong to, as many as fit."""
    line = ""
    for n, step in enumerate(steps):
        free = not line or n * size > len(line)
        if free and n * size + len(str(step)) <= len(steps) * size:
            line = line.ljust(n * size) + str(step)
    return line


def _story(found: Dynamics, look: Look) -> Iterator[Text]:
    bits = found.bits_per_character
    best = int(bits.argmin())
    values = {"start": fixed(float(bits[0]), 2), "end": fixed(float(bits[-1]), 2), "best": fixed(float(bits[best]), 2)}
    yield Text(look.say("dynamics.bits", step=count(found.steps[best]), **values))
    reached = [life for life in lives(found) if life.first_place is not None]
    yield Text(look.say("dynamics.learned", count=len(reached), all=len(found.tokens)))
    for each in passed(found):
        key = "dynamics.not_passed" if each.step is None else "dynamics.passed"
        name = look.say(f"dynamics.{each.name}")
        step = "" if each.step is None else count(each.step)
        yield Text(look.say(key, name=name, bits=fixed(each.value, 2), step=step))
    for each in nearest(found):
        name = look.say(f"dynamics.{each.name}")
        yield Text(look.say("dynamics.nearest", name=name, bits=fixed(each.value, 2), step=count(each.step or 0)))
    for head in strongest_heads(found):
        name = look.say(f"dynamics.{head.kind}")
        place = {"head": f"{head.layer}.{head.head}", "step": count(head.step)}
        yield Text(
            look.say("dynamics.head", kind=name, score=percent(head.score), chance=percent(head.chance), **place)
        )


def _continuations(found: Dynamics, look: Look) -> Iterator[Text]:
    shown = _spread(len(found), _CONTINUATIONS)
    wide = max(len(count(found.steps[z])) for z in shown)
    for z in shown:
        trace = found.continuations[z]
        line = g.prose(bytes_to_text(trace.vocabulary.join(trace.columns.token_id.tolist())), look.glyphs)
        yield Text(f"{g.pad(count(found.steps[z]), wide, right=True)}  {g.cut(line, max(8, look.columns - wide - 2))}")


def _spread(size: int, most: int) -> list[int]:
    """At most so many of the numbers below `size`, evenly, the first and the last among them.

    >>> _spread(5, 3), _spread(2, 9)
    ([0, 2, 4], [0, 1])
    """
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int)).tolist()
