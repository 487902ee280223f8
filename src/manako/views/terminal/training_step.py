"""One step of training in a terminal: each token of a text before and after, each part of the model and its share.

Special here: fewer bits are to the left, as their sign is; bars have the scale of their own table, which a line says.
Changes keep two significant digits at any rate, for at a small one two decimals would all be 0.00.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from rich.text import Text

from manako.analysis.training_step import PartMoved, TrainingStep
from manako.messages.numbers import count, fixed, percent, small
from manako.trace.model_name import model_name
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, number, rows
from manako.views.terminal.steps import Look

_LABEL_CELLS = 12
_BAR_CELLS = (9, 25)  # least, below which a bar says nothing, and most
_FEWER, _MORE = "green", "magenta"


def training_step_lines(found: TrainingStep, look: Look) -> Iterator[Text]:
    """All of it."""
    run = g.prose(model_name(found.run), look.glyphs)
    yield Text(look.say("training_step.title", run=run, step=count(found.step)), style="bold")
    size = {"tokens": count(found.read_tokens), "loss": fixed(found.loss, 3), "norm": small(found.gradient_norm)}
    if found.read is None:
        yield Text(look.say("training_step.read_batch", **size), style="dim")
    else:
        yield Text(look.say("training_step.read_text", text=g.prose(found.read, look.glyphs)))
        yield Text(look.say("training_step.read_size", **size), style="dim")
    rates = [f"AdamW {small(found.learning_rate)}", *([f"Muon {small(found.muon_rate)}"] if found.muon_rate else [])]
    yield Text(look.say(f"training_step.rate_{found.rate_from}", rates=", ".join(rates)), style="dim")
    yield Text("")
    yield Text(look.say("training_step.tokens"))
    yield from (_token_sentences if look.plain else _tokens)(found, look)
    yield Text("")
    yield Text(look.say("training_step.parts"))
    yield from (_part_sentences if look.plain else _parts)(found, look)
    yield Text("")
    values = {"before": fixed(found.before, 2), "after": fixed(found.after, 2), "predicted": change(found.predicted)}
    if found.error is None:
        yield Text(look.say("training_step.unchanged", **values), style="bold")
    else:
        values |= {"change": change(found.change), "error": percent(found.error)}
        yield Text(look.say("training_step.compared", **values), style="bold")
    yield Text(look.say("training_step.meaning"), style="dim")
    yield Text(look.say("training_step.momentum"), style="dim")


def change(bits: float) -> str:
    """With its sign and two significant digits.

    >>> change(-0.0203), change(1.2e-6), change(0.0)
    ('-0.02', '+1.2e-6', '0')
    """
    return f"{'+' if bits > 0 else '-' if bits < 0 else ''}{small(abs(bits))}"


def _tokens(found: TrainingStep, look: Look) -> Iterator[Text]:
    tokens, name = found.tokens, partial(_title, look)
    columns = [
        Column([*(look.label(t, cells=_LABEL_CELLS) for t in tokens), name("sum")], name("token"), most=_LABEL_CELLS),
        number([*(fixed(t.before, 2) for t in tokens), fixed(found.before, 2)], name("before")),
        number([*(fixed(t.after, 2) for t in tokens), fixed(found.after, 2)], name("after")),
        number([*(change(t.change) for t in tokens), change(found.change)], name("change")),
        _bars([t.change for t in tokens], look),
    ]
    yield from rows(columns, look.columns, [""] * len(tokens) + ["bold"])
    if longest := max(abs(t.change) for t in tokens):
        yield Text(look.say("training_step.scale", longest=small(longest)), style="dim")


def _parts(found: TrainingStep, look: Look) -> Iterator[Text]:
    parts, name = found.parts, partial(_title, look)
    columns = [
        Column([*(_named(part, look) for part in parts), name("sum")], name("part")),
        number([small(part.distance) for part in parts], name("distance")),
        replace(number([small(part.relative) for part in parts], name("relative")), gives_way=2, optional=True),
        number([*(change(part.predicted) for part in parts), change(found.predicted)], name("predicted")),
        _bars([part.predicted for part in parts], look),
    ]
    yield from rows(columns, look.columns, [""] * len(parts) + ["bold"])


def _bars(values: Sequence[float], look: Look) -> Column:
    longest, (least, most) = max(map(abs, values)) or 1.0, _BAR_CELLS
    cells = [partial(look.sided, value / longest, left=_FEWER, right=_MORE) for value in values]
    return Column(cells, wide=most, most=most, least=least, gives_way=1, optional=True)


def _token_sentences(found: TrainingStep, look: Look) -> Iterator[Text]:
    for t in found.tokens:
        values = {"before": fixed(t.before, 2), "after": fixed(t.after, 2), "change": change(t.change)}
        yield Text(look.say("training_step.plain_token", token=look.spoken(t), **values))


def _part_sentences(found: TrainingStep, look: Look) -> Iterator[Text]:
    for part in found.parts:
        values = {
            "distance": small(part.distance),
            "relative": small(part.relative),
            "predicted": change(part.predicted),
        }
        yield Text(look.say("training_step.plain_part", part=_named(part, look), **values))


def _named(part: PartMoved, look: Look) -> str:
    return look.say(f"training_step.{part.kind}", layer=part.layer)


def _title(look: Look, name: str) -> str:
    return look.say(f"training_step.{name}")
