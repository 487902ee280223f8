"""Attention in a terminal: the text with each token's share below it, the strongest tokens, layers, a matrix of heads.

Special here: a digit stands below every token, so that colour is never the only cue: 9 is the largest share, and sinks,
which would leave all others at 0, are apart from that scale and marked S. The matrix has one scale for all heads.
Whatever has no room is summed and said.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from manako.analysis.attention import SINK_FIRST, SINK_TIMES, Floats, Key, StepAttention, strongest
from manako.messages.numbers import count, fixed, percent, perplexity
from manako.trace.record import SelfCheck
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, number, rows
from manako.views.terminal.steps import BAR_CELLS, Look, check_lines, chosen_lines

Scope = tuple[int, ...]  # () for all heads, (layer,), or (layer, head)

_TEXT_LINES = 8  # of the text; what stands before them is summed
_LEAST_ROOM = 12  # cells for the text, however narrow the window
_LABEL_CELLS = (8, 20)
_SHARE_CELLS = 8  # a space and seven, as 0.0123% needs
_LEAST_BAR = 8
_MOST_BESIDE = 6  # tokens in the line of a layer or a head
_TINTS = ("", "white on blue", "black on cyan", "black on green", "black on yellow")  # brighter for more
_SHADED_FROM = (0.02, 0.1, 0.25, 0.5)  # weight from which a cell of the matrix has the next darker shade
_MOST_ROWS = 64  # heads in one matrix; a model with more shows its layers
_LETTERS = 4  # of a token, one below the other, over its column of the matrix
_PLAIN_KEYS = 3  # of each layer or head in sentences


def attention_lines(found: StepAttention, look: Look, scope: Scope = ()) -> Iterator[Text]:
    """One step. scope: what is looked at closely, a (layer,) or a (layer, head); all heads by default."""
    layers, heads = found.per_head.shape[:2]
    weights = found.weights(scope)
    yield Text(look.say("step.title", number=found.step.number), style="bold")
    if found.step.window_start:
        yield Text(look.say("step.window", start=found.step.window_start + 1), style="dim")
    yield Text(look.say("attention.looked", keys=count(len(found.keys))))
    yield Text(look.say("attention.spread", count=layers * heads, layers=layers, heads=heads))
    yield Text("")
    if look.plain:
        yield from _sentences(found, weights, look, scope)
    else:
        yield from _pictures(found, weights, look, scope)


def meaning_lines(checks: Sequence[SelfCheck], look: Look) -> Iterator[Text]:
    """What a weight does not mean; the self-check of the rows, and any other that failed."""
    yield Text(look.say("attention.meaning"), style="dim")
    yield from check_lines([c for c in checks if c.name == "attention_rows_sum_to_1" or not c.ok], look)


def _pictures(found: StepAttention, weights: Floats, look: Look, scope: Scope) -> Iterator[Text]:
    layers, heads = found.per_head.shape[:2]
    yield Text(_title(found, look, scope), style="bold")
    yield from _text(found, weights, look)
    yield from chosen_lines(found.step, look)
    yield Text("")
    yield from _table(found, weights, None if scope else found.rollout, look)
    yield from _notes(found, look, scope)
    yield Text("")
    if len(scope) == 2:
        return
    below = [(*scope, n) for n in range(heads if scope else layers)]
    yield Text(look.say("attention.by_head" if scope else "attention.by_layer"))
    yield from _strongest_of_each(found, below, look)
    yield Text("")
    if not scope and layers * heads <= _MOST_ROWS:
        below = [(i, h) for i in range(layers) for h in range(heads)]
    yield from _matrix(found, below, look)
    yield Text("")


def _title(found: StepAttention, look: Look, scope: Scope) -> str:
    layers, heads = found.per_head.shape[:2]
    if len(scope) == 2:
        return look.say("attention.head", name=_name(scope))
    if scope:
        return look.say("attention.layer", layer=scope[0], heads=heads)
    return look.say("attention.mean", count=layers * heads)


def _name(scope: Scope) -> str:
    """A layer as 3, a head as 3.5."""
    return ".".join(map(str, scope))


def _notes(found: StepAttention, look: Look, scope: Scope) -> Iterator[Text]:
    """How widely one head looked, sinks by name, and what rollout is or why there is none."""
    if len(scope) == 2:
        bits = max(0.0, float(found.entropy[scope]))
        yield Text(look.say("attention.entropy", bits=fixed(bits, 2), choices=perplexity(bits)), style="dim")
    layers, per_layer = found.per_head.shape[:2]
    for k, heads in found.sink_heads.items():
        name = look.label(found.keys[k])
        values = {"number": found.keys[k].position + 1, "token": name, "times": SINK_TIMES}
        yield Text(look.say("attention.sink", heads=heads, count=layers * per_layer, **values))
    if found.sink_heads:
        yield Text(look.say("attention.sinks"), style="dim")
    elif len(found.keys) > 1:
        yield Text(look.say("attention.no_sink", first=SINK_FIRST, times=SINK_TIMES), style="dim")
    if not scope:
        lacks = found.rollout_lacks
        yield Text(look.say(f"attention.no_rollout_{lacks}" if lacks else "attention.rollout"), style="dim")


# --- the text ---------------------------------------------------------------------------------------------------------


@dataclass
class _Line:
    first: int
    """Its first key."""
    tokens: Text = field(default_factory=Text)
    digits: Text = field(default_factory=Text)


def _text(found: StepAttention, weights: Floats, look: Look) -> Iterator[Text]:
    """The text up to the choice, a digit below each token; its end where it is long."""
    room = max(look.columns, _LEAST_ROOM)
    sinks, lines, used = found.sink_heads, list[_Line](), room
    even = 1 / len(found.keys)  # the least that 9 stands for: beside a sink that took all, the rest is noise
    largest = max([even, *(w for k, w in enumerate(weights.tolist()) if k not in sinks)])
    for k, key in enumerate(found.keys):
        shown = _spelled(key, look, room)
        cells = cell_len(shown)
        if used + cells > room:
            lines.append(_Line(k))
            used = 0
        digit = round(9 * weights[k] / largest)
        tint = "" if k in sinks else _TINTS[(digit + 1) // 2 if digit < 8 else 4]
        decides = " bold underline" if k == len(found.keys) - 1 else ""
        lines[-1].tokens.append(shown, tint + decides)
        lines[-1].digits.append(g.pad("S" if k in sinks else str(digit), cells))
        used = room if key.bytes.endswith(b"\n") else used + cells  # a line ends where the text's does
    chosen = f" {look.glyphs.mark} {_label(found, None, look, min(40, room - 3))}"
    if used + cell_len(chosen) > room:
        lines.append(_Line(len(found.keys)))
    lines[-1].tokens.append(chosen, "bold green")
    shown = lines[-_TEXT_LINES:]
    if len(lines) > len(shown):
        before = {"count": count(shown[0].first), "share": percent(weights[: shown[0].first].sum())}
        yield Text(look.say("attention.before", **before), style="dim")
    for line in shown:
        yield line.tokens
        if line.digits:
            line.digits.rstrip()
            yield line.digits
    scale = look.say("attention.scale", share=percent(largest))
    yield Text(look.say("attention.scale_sinks", share=percent(largest)) if sinks else scale, style="dim")


def _spelled(key: Key, look: Look, cells: int) -> str:
    """A token in the running text: at least one cell, so that a digit fits below it."""
    if key.special:
        text = look.say("token.special", text=g.visible(key.text, look.glyphs))
    elif not key.bytes:
        text = look.say("token.empty")
    else:
        whole = not g.is_partial(key.bytes)
        text = g.prose(key.text, look.glyphs) if whole else g.visible_bytes(key.bytes, look.glyphs)
    return g.cut(text, cells)


# --- the strongest tokens ---------------------------------------------------------------------------------------------


def _table(found: StepAttention, weights: Floats, rollout: Floats | None, look: Look) -> Iterator[Text]:
    """A row for each: its number in the text, the token, its share, the same by rollout, a bar."""
    best = strongest(weights, look.top)
    rest = sorted(set(range(len(found.keys))) - set(best))
    groups = [*([k] for k in best), *([rest] if rest else [])]
    least, most = _LABEL_CELLS

    def shares(weights: Floats, title: str) -> Column:
        return number([percent(float(weights[keys].sum())) for keys in groups], look.say(title))

    names = [*(partial(_label, found, k, look) for k in best), look.say("step.other", count=count(len(rest)))]
    bars = [partial(look.bar, float(weights[keys].sum())) for keys in groups]
    columns = [
        Column([f"  {found.keys[k].position + 1}" for k in best], right=True),
        Column(names[: len(groups)], look.say("attention.strongest"), most=most, least=least, gives_way=2),
        shares(weights, "attention.share"),
        *([] if rollout is None else [shares(rollout, "attention.by_rollout")]),
        Column(bars, wide=_LEAST_BAR, most=BAR_CELLS, fills=True, gives_way=1, optional=True),
    ]
    yield from rows(columns, look.columns, [""] * len(best) + ["dim"])


def _label(found: StepAttention, k: int | None, look: Look, cells: int) -> str:
    """What stands for a key in a list, or, for None, for the chosen token; with what is special about its place."""
    last = len(found.keys) - 1
    place = "" if k is None else "sink" if k in found.sink_heads else "itself" if k == last else ""
    flag = look.say(f"attention.is_{place}") if place else ""
    end = len(found.keys) if k is None else k
    before = found.step.vocabulary.join([key.id for key in found.keys[max(0, end - 4) : end]])
    token = found.step.chosen if k is None else found.keys[k]
    return look.label(token, g.pending_bytes(before), max(3, cells - cell_len(flag))) + flag


def _strongest_of_each(found: StepAttention, scopes: Sequence[Scope], look: Look) -> Iterator[Text]:
    """A line for each layer or head: the tokens that got most, as many as fit."""
    weights = [found.weights(scope) for scope in scopes]
    keys = [strongest(w, min(_MOST_BESIDE, int(np.count_nonzero(w)))) for w in weights]
    labels = {k: look.label(found.keys[k], cells=_LABEL_CELLS[0] + 1) for row in keys for k in row}
    label_cells = max(map(cell_len, labels.values()), default=0)

    def cell(w: Floats, k: int) -> str:
        return g.pad(labels[k], label_cells) + g.pad(percent(float(w[k])), _SHARE_CELLS, right=True)

    columns = [Column([f"  {_name(scope)}" for scope in scopes], right=True)]
    for n in range(max(map(len, keys))):
        cells = [cell(w, row[n]) if n < len(row) else "" for w, row in zip(weights, keys, strict=True)]
        columns.append(Column(cells, gap=2, gives_way=_MOST_BESIDE - n, optional=n > 0))
    yield from rows(columns, look.columns)


# --- the matrix -------------------------------------------------------------------------------------------------------

_GAP = -1  # in place of a key: some are left out here


def _matrix(found: StepAttention, scopes: Sequence[Scope], look: Look) -> Iterator[Text]:
    """A row for each scope: how widely it looked, a column of two cells for each token, what the left out ones have."""
    bits = found.entropy if len(scopes[0]) == 2 else None  # of one head; layers look as widely as their heads do
    name_cells = max(len(_name(scope)) for scope in scopes) + 1
    left = name_cells + (0 if bits is None else 6) + 1
    keys, outside = list(range(len(found.keys))), ""
    if left + 2 * len(keys) > look.columns:
        outside = g.pad("  " + look.say("attention.outside"), _SHARE_CELLS, right=True)
        keys = _that_fit(found, (look.columns - left - cell_len(outside)) // 2)
    shown = [k for k in keys if k != _GAP]
    yield Text(look.say("attention.heads" if bits is not None else "attention.layers"))
    yield Text(_legend(look, bits is not None), style="dim")
    if len(shown) < len(found.keys):
        yield Text(look.say("attention.part", count=len(shown), keys=count(len(found.keys))), style="dim")
    *above, numbers = _column_heads(found, keys, look)
    for line in above:
        yield Text((" " * left + line).rstrip())
    measure = "" if bits is None else g.pad(look.say("attention.bits"), left - 1, right=True)
    yield Text((g.pad(measure, left) + numbers + outside).rstrip(), style="dim")
    for scope in scopes:
        weights = found.weights(scope)
        line = g.pad(_name(scope), name_cells, right=True)
        line += "" if bits is None else g.pad(fixed(max(0.0, float(bits[scope])), 2), 6, right=True)
        line = g.pad(line, left) + "".join("| " if k == _GAP else 2 * _shade(weights[k], look) for k in keys)
        left_out = percent(max(0.0, float(weights.sum() - weights[shown].sum()))) if outside else ""
        yield Text((line + g.pad(left_out, cell_len(outside), right=True)).rstrip())


def _legend(look: Look, heads: bool) -> str:
    """What the shades mean, and the numbers of bits."""
    levels = {f"shade{n}": shade for n, shade in enumerate(look.glyphs.shades) if n}
    limits = {f"from{n}": f"{fixed(100 * limit, 0)}%" for n, limit in enumerate(_SHADED_FROM, 1)}
    shades = look.say("attention.shades", **levels, **limits)
    return f"{shades}  {look.say('attention.bits_mean')}" if heads else shades


def _shade(weight: float, look: Look) -> str:
    return look.glyphs.shades[sum(weight >= limit for limit in _SHADED_FROM)]


def _that_fit(found: StepAttention, room: int) -> list[int]:
    """The last keys, behind the sinks where they leave some out."""
    count, sinks = len(found.keys), list(found.sink_heads)
    first = count - max(room - len(sinks) - 1, 1)
    return [*(k for k in sinks if k < first), _GAP, *range(first, count)]


def _column_heads(found: StepAttention, keys: Sequence[int], look: Look) -> list[str]:
    """The tokens downwards, each over its column, and below them the number of every fifth in the text."""
    letters = [["|"] * _LETTERS if k == _GAP else _letters(found.keys[k], look) for k in keys]
    height = max((len(each) for each, k in zip(letters, keys, strict=True) if k != _GAP), default=0)
    lines = ["".join(g.pad(each[n] if n < len(each) else "", 2) for each in letters) for n in range(height)]
    numbers = ""
    for column, k in enumerate(keys):
        number = "|" if k == _GAP else str(found.keys[k].position + 1)
        wanted = column == 0 or k == _GAP or (found.keys[k].position + 1) % 5 == 0
        if wanted and len(numbers) <= 2 * column <= 2 * len(keys) - len(number):
            numbers = g.pad(numbers, 2 * column) + number + " "
    return [*lines, g.pad(numbers.rstrip(), 2 * len(keys))]


def _letters(key: Key, look: Look) -> list[str]:
    """The first letters of a token, marks on their letter; bytes that are no whole character as numbers."""
    if not key.special and g.is_partial(key.bytes):
        return [f"{byte:02X}" for byte in key.bytes[:_LETTERS]]
    letters = list[str]()
    for ch in g.visible(key.text.strip(" ") or key.text, look.glyphs):
        if letters and unicodedata.category(ch)[0] == "M":
            letters[-1] += ch
        elif len(letters) == _LETTERS:
            break
        else:
            letters.append(ch)
    return letters


# --- for screen readers -----------------------------------------------------------------------------------------------


def _sentences(found: StepAttention, weights: Floats, look: Look, scope: Scope) -> Iterator[Text]:
    """The text, what was chosen, and the strongest tokens of all, then of each layer or head."""
    layers, heads = found.per_head.shape[:2]
    room = max(8, look.columns * 2)
    yield Text(look.say("step.text", text=g.prose_tail(found.step.text_before, look.glyphs, room)))
    yield from chosen_lines(found.step, look)
    yield Text(_title(found, look, scope))
    for k in strongest(weights, look.top):
        said = look.say("attention.plain_key", **_values(found, k, weights, look))
        if not scope and found.rollout is not None:
            said += look.say("attention.plain_rollout", share=percent(float(found.rollout[k]))[:-1])
        yield Text(said)
    yield from _notes(found, look, scope)
    below = [(*scope, n) for n in range(heads if scope else layers)] if len(scope) < 2 else []
    for each in below:
        own = found.weights(each)
        for k in strongest(own, min(_PLAIN_KEYS, int(np.count_nonzero(own)))):
            key = "attention.plain_head" if scope else "attention.plain_layer"
            yield Text(look.say(key, name=_name(each), **_values(found, k, own, look)))
    yield Text("")


def _values(found: StepAttention, k: int, weights: Floats, look: Look) -> dict[str, object]:
    before = found.step.vocabulary.join([key.id for key in found.keys[max(0, k - 4) : k]])
    token = look.spoken(found.keys[k], g.pending_bytes(before))
    return {"number": found.keys[k].position + 1, "token": token, "share": percent(float(weights[k]))[:-1]}
