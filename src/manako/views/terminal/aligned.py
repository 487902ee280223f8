"""One text under two models in a terminal: each stretch between shared borders, with the bits that each model needs."""

from collections.abc import Iterator

from rich.text import Text

from manako.analysis.aligned import Aligned
from manako.messages.numbers import count, fixed, signed
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, rows
from manako.views.terminal.steps import Look

_TEXT_CELLS = (8, 30)


def aligned_lines(found: Aligned, look: Look) -> Iterator[Text]:
    """The stretches in order, then each model as a whole."""
    refs = [g.prose_tail(ref, look.glyphs, 40) for ref in found.refs]
    texts = [g.visible(stretch.text, look.glyphs) for stretch in found.stretches]
    if look.plain:
        for text, s in zip(texts, found.stretches, strict=True):
            bits = {"first": fixed(s.bits[0], 2), "second": fixed(s.bits[1], 2), "difference": signed(s.difference)}
            yield Text(look.say("aligned.plain", text=text, **bits))
    else:
        for n, ref in enumerate(refs):
            yield Text(look.say(_MODELS[n], ref=ref), style="bold")
        least, most = _TEXT_CELLS
        columns = [Column(texts, look.say("aligned.text"), most=most, gives_way=1, least=least)]
        for n in range(2):
            cells = [count(s.tokens[n]) for s in found.stretches], [fixed(s.bits[n], 2) for s in found.stretches]
            columns.append(Column(cells[0], look.say(f"aligned.tokens_{n + 1}"), right=True, gap=2))
            columns.append(Column(cells[1], look.say(f"aligned.bits_{n + 1}"), right=True, gap=2))
        differences = [signed(s.difference) for s in found.stretches]
        columns.append(Column(differences, look.say("aligned.difference"), right=True, gap=2))
        yield from rows(columns, look.columns)
        yield Text("")
    for n, ref in enumerate(refs):
        bits, tokens = fixed(found.bits_per_character(n), 3), count(found.tokens(n))
        yield Text(look.say("aligned.whole", ref=ref, bits=bits, tokens=tokens, characters=count(found.characters)))
    more = signed(found.bits_per_character(1) - found.bits_per_character(0))
    yield Text(look.say("aligned.difference_whole", difference=more))
    if found.given:
        yield Text(look.say("aligned.given", text=g.visible(found.given, look.glyphs)), style="dim")


_MODELS = ("aligned.first", "aligned.second")
