"""The logit lens in a terminal: a line for each layer, how the chosen token fares there, and what is first instead.

Special here: bars are absolute, a full one is 100 %. The tokens that were first anywhere stand below with their p at
every layer; where the window is too narrow for numbers, in tenths, one digit a layer, so that thirty layers fit.
"""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.lens import EMBED, LensStep, Reading
from manako.messages.numbers import percent
from manako.trace.record import Trace
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look, check_lines, chosen_lines, header_lines, heading_lines

_NUMBER_CELLS = 8  # a space and seven, as 0.0123% needs
_LABEL_CELLS = (6, 10)  # least, where thirty layers stand beside a name, and most
_BESIDE = (3, 5)  # candidates in a line: more than the first number only where they leave room for a bar; and at most
_BAR_CELLS = (8, 20)  # least, below which a bar says nothing, and most
_CHECKS = ("lens_last_equals_logits",)


def lens_lines(trace: Trace, found: LensStep, look: Look) -> Iterator[Text]:
    """One step: settings, what each layer would have said, where the chosen token appears and wins, the self-check."""
    pending = g.pending_bytes(found.step.bytes_before)
    yield from header_lines(trace.header, look)
    yield from heading_lines(found.step, look)
    yield from chosen_lines(found.step, look)
    yield Text("")
    token = g.label(found.step.chosen, look.glyphs, look.lang, 40, pending)
    yield Text(look.say("lens.question", token=token), style="bold")
    yield from (_sentences if look.plain else _table)(found, look, pending)
    yield Text(look.say("lens.embed_is"), style="dim")
    yield Text("")
    yield Text(_where(found, look, pending), style="bold")
    yield Text("")
    yield from (_followed_sentences if look.plain else _followed)(found, look, pending)
    yield Text("")
    yield Text(look.say("lens.meaning"), style="dim")
    yield from check_lines([c for c in trace.header.self_checks if c.name in _CHECKS or not c.ok], look)


# --- layer by layer ---------------------------------------------------------------------------------------------------


def _table(found: LensStep, look: Look, pending: bytes) -> Iterator[Text]:
    heads = [look.say("lens.layer_head"), "p", look.say("lens.rank_head")]
    layer_cells = max(map(cell_len, [heads[0], *found.layers]))
    rank_cells = 1 + max(map(cell_len, [heads[2], *(str(r.rank) for r in found.chosen)]))
    labels = [[_label(r, look, pending) for r in row[: _BESIDE[1]]] for row in found.first]
    label_cells = max(cell_len(label) for row in labels for label in row)
    each = 2 + label_cells + _NUMBER_CELLS  # a space and the mark in front
    room = look.columns - layer_cells - _NUMBER_CELLS - rank_cells
    count = min(max(room // each, 1), _BESIDE[1])
    count -= count > _BESIDE[0] and room - count * each <= _BAR_CELLS[0]
    bar_cells = min(room - count * each - 1, _BAR_CELLS[1])
    bar_cells = bar_cells if bar_cells >= _BAR_CELLS[0] else 0
    left = [g.pad(heads[0], layer_cells, right=True), g.pad(heads[1], _NUMBER_CELLS, right=True)]
    head = "".join(left) + g.pad(heads[2], rank_cells, right=True)
    head = g.pad(head, cell_len(head) + bool(bar_cells) + bar_cells) + "  " + look.say("lens.first_head")
    yield Text(g.cut(head, look.columns), style="dim")
    for layer, chosen, first, names in zip(found.layers, found.chosen, found.first, labels, strict=True):
        line = Text(g.pad(layer, layer_cells, right=True))
        style = "bold green" if chosen.rank == 1 else ""
        line.append(g.pad(percent(chosen.p), _NUMBER_CELLS, right=True), style)
        line.append(g.pad(str(chosen.rank), rank_cells, right=True), style)
        if bar_cells:
            line.append(" " + g.pad(look.glyphs.full * round(chosen.p * bar_cells), bar_cells), style)
        for reading, name in zip(first[:count], names[:count], strict=True):
            taken = reading.id == chosen.id
            cell = f" {look.glyphs.mark if taken else ' '}{g.pad(name, label_cells)}"
            line.append(cell + g.pad(percent(reading.p), _NUMBER_CELLS, right=True), "bold green" if taken else "")
        line.rstrip()
        yield line


def _sentences(found: LensStep, look: Look, pending: bytes) -> Iterator[Text]:
    token = g.plain_label(found.step.chosen, look.glyphs, look.lang, pending)
    for n, (chosen, first) in enumerate(zip(found.chosen, found.first, strict=True)):
        said = [f"{g.plain_label(r, look.glyphs, look.lang, pending)} {percent(r.p)[:-1]}" for r in first[: _BESIDE[0]]]
        values = {"layer": _place(found, n, look), "first": ", ".join(said), "token": token}
        yield Text(look.say("lens.plain_layer", p=percent(chosen.p)[:-1], rank=chosen.rank, **values))


def _where(found: LensStep, look: Look, pending: bytes) -> str:
    """Where the chosen token appears and where it wins, in one sentence."""
    token = g.label(found.step.chosen, look.glyphs, look.lang, 40, pending)
    appears, wins = found.appears, found.wins
    if appears is None:
        return look.say("lens.nowhere", token=token, rank=found.chosen[-1].rank)
    at = _place(found, appears, look)
    if wins is None:
        return look.say("lens.never_wins", token=token, at=at, rank=found.chosen[-1].rank)
    if wins == appears:
        return look.say("lens.wins_at_once", token=token, at=at)
    return look.say("lens.wins", token=token, at=at, wins=_place(found, wins, look))


# --- the tokens that were first somewhere -----------------------------------------------------------------------------


def _followed(found: LensStep, look: Look, pending: bytes) -> Iterator[Text]:
    """A row for each token that was first at a layer: numbers where all layers fit, else a digit for each."""
    layers, most = len(found.layers), _LABEL_CELLS[1]
    numbers = layers * _NUMBER_CELLS <= look.columns - 1 - most
    if not numbers:  # a digit for each layer matters more than the end of a name
        most = min(max(look.columns - 2 - layers, _LABEL_CELLS[0]), most)
    labels = [_label(row[0], look, pending, most) for row in found.tracked]
    left = 1 + max(map(cell_len, labels)) + (not numbers)
    each = _NUMBER_CELLS if numbers else 1
    beside = max((look.columns - left) // each, 1)
    token = g.label(found.step.chosen, look.glyphs, look.lang, 40, pending)
    yield Text(look.say("lens.followed" if numbers else "lens.followed_tenths", token=token))
    for start in range(0, layers, beside):
        part = slice(start, start + beside)
        for head in [_cells(found.layers[part])] if numbers else _digit_heads(found.layers[part]):
            yield Text((" " * left + head).rstrip(), style="dim")
        for name, row in zip(labels, found.tracked, strict=True):
            taken = row[0].id == found.step.token_id
            mark = look.glyphs.mark if taken else " "
            shown = _cells([percent(r.p) for r in row[part]]) if numbers else "".join(map(_tenths, row[part]))
            yield Text(g.pad(mark + name, left) + shown, style="bold green" if taken else "")


def _followed_sentences(found: LensStep, look: Look, pending: bytes) -> Iterator[Text]:
    token = g.plain_label(found.step.chosen, look.glyphs, look.lang, pending)
    yield Text(look.say("lens.followed", token=token))
    for row in found.tracked:
        said = ", ".join(f"{_place(found, n, look)} {percent(r.p)[:-1]}" for n, r in enumerate(row))
        token = g.plain_label(row[0], look.glyphs, look.lang, pending)
        yield Text(look.say("lens.plain_followed", token=token, p=said))


def _tenths(reading: Reading) -> str:
    return "." if reading.p < 0.01 else str(min(int(reading.p * 10), 9))


def _digit_heads(layers: Sequence[str]) -> Iterator[str]:
    """The number of each layer in one cell: tens above, where there are any, and units; e is the embedding."""
    if any(len(layer) > 1 for layer in layers if layer != EMBED):
        yield "".join(layer[-2] if layer != EMBED and len(layer) > 1 and layer[-1] == "0" else " " for layer in layers)
    yield "".join("e" if layer == EMBED else layer[-1] for layer in layers)


def _cells(numbers: Sequence[str]) -> str:
    return "".join(g.pad(number, _NUMBER_CELLS, right=True) for number in numbers)


def _label(reading: Reading, look: Look, pending: bytes, cells: int = _LABEL_CELLS[1]) -> str:
    return g.label(reading, look.glyphs, look.lang, cells, pending)


def _place(found: LensStep, n: int, look: Look) -> str:
    layer = found.layers[n]
    return look.say("lens.embedding") if layer == EMBED else look.say("lens.layer", number=layer)
