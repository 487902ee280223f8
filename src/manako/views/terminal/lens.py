"""The logit lens in a terminal: a line for each layer, how the chosen token fares there, and what is first instead.

Special here: bars are absolute, a full one is 100 %. The tokens that were first anywhere stand below with their p at
every layer; where the window is too narrow for numbers, in tenths, one digit a layer, so that thirty layers fit.
"""

from collections.abc import Iterable, Iterator
from functools import partial

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.lens import EMBED, LensStep, LensToken
from manako.messages.numbers import percent
from manako.trace.record import Trace
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, blocks, number, rows
from manako.views.terminal.steps import BAR_CELLS, Look, check_lines, chosen_lines, header_lines, heading_lines

_LABEL_CELLS = (6, 10)  # least, where thirty layers stand beside a name, and most
_BESIDE = 5  # candidates in a line, where nobody says how many
_THREE = 3  # of them matter more than a bar
_SAID = 3  # candidates in a sentence, likewise
_CHECKS = ("lens_last_equals_logits",)


def lens_lines(
    trace: Trace, found: LensStep, look: Look, part: tuple[int, ...] = (), top: int | None = None
) -> Iterator[Text]:
    """One step: settings, what each layer would have said, where the chosen token appears and wins, the self-check.

    part: a (layer,) to show alone, with all candidates on record. top: candidates of a layer.
    """
    yield from header_lines(trace.header, look)
    yield from heading_lines(found.step, look)
    yield from chosen_lines(found.step, look)
    yield Text("")
    yield from one_layer_lines(found, part[0], look, top) if part else layer_lines(found, look, top)
    yield from check_lines([c for c in trace.header.self_checks if c.name in _CHECKS or not c.ok], look)


def layer_lines(found: LensStep, look: Look, top: int | None = None) -> Iterator[Text]:
    """The layers alone, without what stands around them."""
    pending = g.pending_bytes(found.step.bytes_before)
    token = look.label(found.step.chosen, pending)
    yield Text(look.say("lens.question", token=token), style="bold")
    yield from _sentences(found, look, pending, top) if look.plain else _table(found, look, pending, top)
    yield Text(look.say("lens.embed_is"), style="dim")
    yield Text("")
    yield Text(_where(found, look, pending), style="bold")
    yield Text("")
    yield from (_followed_sentences if look.plain else _followed)(found, look, pending)
    yield Text("")
    yield Text(look.say("lens.meaning"), style="dim")


# --- layer by layer ---------------------------------------------------------------------------------------------------


def one_layer_lines(found: LensStep, layer: int, look: Look, top: int | None = None) -> Iterator[Text]:
    """The candidates of one layer, counted from 0, and the chosen token where it is not among them."""
    pending, place = g.pending_bytes(found.step.bytes_before), layer + 1  # the embedding stands in front
    shown, chosen = found.first[place][:top], found.chosen[place]
    shown = shown if chosen.rank <= len(shown) else (*shown, chosen)
    yield Text(look.say("lens.one_layer", at=_place(found, place, look)), style="bold")
    if look.plain:
        for r in shown:
            key = "plain.chosen" if r.id == chosen.id else "plain.candidate"
            yield Text(look.say(key, rank=r.rank, token=look.spoken(r, pending), p=percent(r.p)[:-1]))
    else:
        styles = ["bold green" if r.id == chosen.id else "" for r in shown]
        marks = [look.glyphs.mark if r.id == chosen.id else " " for r in shown]
        columns = [
            Column([f"{mark}{r.rank}" for mark, r in zip(marks, shown, strict=True)], right=True),
            Column([look.label(r, pending, _LABEL_CELLS[1]) for r in shown], wide=_LABEL_CELLS[1]),
            number([percent(r.p) for r in shown], "p"),
            Column([partial(look.bar, r.p) for r in shown], most=BAR_CELLS, fills=True, gives_way=1, optional=True),
        ]
        yield from rows(columns, look.columns, styles)
    yield Text("")
    yield Text(look.say("lens.meaning"), style="dim")


def _table(found: LensStep, look: Look, pending: bytes, top: int | None) -> Iterator[Text]:
    labels = [[look.label(r, pending, _LABEL_CELLS[1]) for r in row[: top or _BESIDE]] for row in found.first]
    label_cells = max(cell_len(label) for row in labels for label in row)
    styles = ["bold green" if chosen.rank == 1 else "" for chosen in found.chosen]

    def styled(texts: Iterable[str]) -> list[Text]:
        return [Text(*each) for each in zip(texts, styles, strict=True)]

    def bar(n: int, cells: int) -> Text:
        return Text(look.bar(found.chosen[n].p, cells), styles[n])

    def candidate(layer: int, n: int) -> Text:
        reading, taken = found.first[layer][n], found.first[layer][n].id == found.step.token_id
        named = f"{look.glyphs.mark if taken else ' '}{g.pad(labels[layer][n], label_cells)}"
        return Text(named + g.pad(percent(reading.p), 8, right=True), "bold green" if taken else "")

    layers, head = range(len(found.layers)), " " + look.say("lens.first_head")
    turns = len(labels[0])  # the last candidate gives way first, the bar before the last three
    behind = max(1, turns - _THREE + 1)
    columns = [
        Column(found.layers, look.say("lens.layer_head"), right=True),
        number(styled(percent(r.p) for r in found.chosen), "p"),
        Column(styled(str(r.rank) for r in found.chosen), look.say("lens.rank_head"), right=True),
        Column([partial(bar, n) for n in layers], wide=8, most=20, fills=True, gives_way=behind, optional=True),
    ]
    for n in range(len(labels[0])):
        turn = turns - n + (n < _THREE) if n else 0
        cells = [candidate(layer, n) for layer in layers]
        columns.append(Column(cells, head * (n == 0), gives_way=turn, optional=n > 0))
    yield from rows(columns, look.columns)


def _sentences(found: LensStep, look: Look, pending: bytes, top: int | None) -> Iterator[Text]:
    token = look.spoken(found.step.chosen, pending)
    for n, (chosen, first) in enumerate(zip(found.chosen, found.first, strict=True)):
        said = [f"{look.spoken(r, pending)} {percent(r.p)[:-1]}" for r in first[: top or _SAID]]
        values = {"layer": _place(found, n, look), "first": ", ".join(said), "token": token}
        yield Text(look.say("lens.plain_layer", p=percent(chosen.p)[:-1], rank=chosen.rank, **values))


def _where(found: LensStep, look: Look, pending: bytes) -> str:
    """Where the chosen token appears and where it wins, in one sentence."""
    token = look.label(found.step.chosen, pending)
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
    layers, most = found.layers, _LABEL_CELLS[1]
    numbers = len(layers) * 8 <= look.columns - 1 - most
    if not numbers:  # a digit for each layer matters more than the end of a name
        most = min(max(look.columns - 2 - len(layers), _LABEL_CELLS[0]), most)
    chosen = [row[0].id == found.step.token_id for row in found.tracked]
    names = [
        (look.glyphs.mark if taken else " ") + look.label(row[0], pending, most)
        for row, taken in zip(found.tracked, chosen, strict=True)
    ]
    styles = ["bold green" if taken else "" for taken in chosen]
    token = look.label(found.step.chosen, pending)
    yield Text(look.say("lens.followed" if numbers else "lens.followed_tenths", token=token))
    if numbers:
        columns = [number([percent(row[n].p) for row in found.tracked], layer) for n, layer in enumerate(layers)]
        yield from blocks([Column(names)], columns, look.columns, styles)
        return
    heads = list(zip(*(_digit_head(layer) for layer in layers), strict=True))
    heads = [head for head in heads if any(ch != " " for ch in head)]
    digits = [*heads, *(list(map(_tenths, row)) for row in found.tracked)]
    columns = [Column([row[n] for row in digits], gap=n == 0) for n in range(len(layers))]
    yield from blocks([Column(["", ""][: len(heads)] + names)], columns, look.columns, ["dim"] * len(heads) + styles)


def _followed_sentences(found: LensStep, look: Look, pending: bytes) -> Iterator[Text]:
    token = look.spoken(found.step.chosen, pending)
    yield Text(look.say("lens.followed", token=token))
    for row in found.tracked:
        said = ", ".join(f"{_place(found, n, look)} {percent(r.p)[:-1]}" for n, r in enumerate(row))
        token = look.spoken(row[0], pending)
        yield Text(look.say("lens.plain_followed", token=token, p=said))


def _tenths(reading: LensToken) -> str:
    return "." if reading.p < 0.01 else str(min(int(reading.p * 10), 9))


def _digit_head(layer: str) -> str:
    """The number of a layer in two lines of one cell: tens, at every tenth, and units; e is the embedding."""
    return " e" if layer == EMBED else (layer[-2] if len(layer) > 1 and layer[-1] == "0" else " ") + layer[-1]


def _place(found: LensStep, n: int, look: Look) -> str:
    layer = found.layers[n]
    return look.say("lens.embedding") if layer == EMBED else look.say("lens.layer", number=layer)
