"""Why a token, in a terminal: the parts that raised and lowered it, what each layer added, and the sum that proves it.

Special here: order and bars go by what moved the probability, how much more a part added than to all tokens on average;
the raw logit part stands beside it. Bars stand on both sides of a middle axis. A logit has no natural scale, so the
longest bar is the largest number in the list, and a line says how much that is. Every number carries its sign.
"""

from collections.abc import Iterator
from functools import partial

from rich.text import Text

from manako.analysis.contributions import Part, Scope, Why
from manako.messages.numbers import addends, fixed, signed, small
from manako.trace.record import Candidate, Step, Trace
from manako.views.terminal import glyphs as g
from manako.views.terminal.again import hint
from manako.views.terminal.columns import Column, blocks, number, rows
from manako.views.terminal.steps import Look, check_lines, chosen_lines, header_lines, heading_lines

_BAR_CELLS = (4, 12, 20)  # of one side: least, below which a bar says nothing; before words stand beside it; most
_RAISED, _LOWERED = "green", "magenta"
_CHECKS = ("contributions_sum_to_logit",)
_NOISE = 1e-6  # of float32: the digits of anything smaller say nothing


def why_lines(
    trace: Trace, step: Step, found: Why, next_best: Why | None, look: Look, scope: Scope = ()
) -> Iterator[Text]:
    """One token of one step, or one rather than another. next_best: the same token rather than the next best.

    scope: a (layer,) or a (layer, head), whose parts alone are listed.
    """
    yield from header_lines(trace.header, look)
    yield from heading_lines(step, look)
    yield from chosen_lines(step, look)
    yield Text("")
    yield from part_lines(step, found, next_best, look, scope)
    if found.switchable and trace.header.model.engine == "numpy":  # the engine that can switch parts off
        part = found.switchable.name
        yield hint("why.switch_off", look, trace, "compare", "--ablate", part, count=step.number, part=part)
    yield from check_lines([c for c in trace.header.self_checks if c.name in _CHECKS or not c.ok], look)


def part_lines(step: Step, found: Why, next_best: Why | None, look: Look, scope: Scope = ()) -> Iterator[Text]:
    """The parts alone, without what stands around them."""
    pending = g.pending_bytes(step.bytes_before)
    yield Text(look.say("why.idea"))
    question = look.say("why.question_rather" if found.rival else "why.question", **_named(found, look, pending))
    yield Text(question, style="bold")
    yield Text("")
    yield from (_sentences if look.plain else _table)(found, look, scope)
    yield Text("")
    yield from (_layer_sentences if look.plain else _layers)(found, look)
    yield Text("")
    yield from _sum_lines(found, look, pending)
    if next_best and next_best.parts:
        yield from _next_best_lines(step, next_best, look, pending)
    yield Text("")
    centred = any(part.over_mean is not None for part in found.parts)
    key = "why.rather_means" if found.rival else "why.over_means" if centred else "why.no_mean"
    yield Text(look.say(key), style="dim")
    if not found.rival:
        yield Text(look.say("why.alike"), style="dim")
    yield Text(look.say("why.meaning"), style="dim")


# --- the strongest parts ----------------------------------------------------------------------------------------------


def _table(found: Why, look: Look, scope: Scope) -> Iterator[Text]:
    shown, rest = found.strongest(look.top, scope)
    others = [rest] if rest.count else []
    longest = max((abs(part.effect) for part in shown), default=0.0)

    def bar(value: float, cells: int) -> Text:
        return look.sided(value / longest if longest else 0.0, cells, _LOWERED, _RAISED)

    names = [
        *(g.visible(part.name, look.glyphs) for part in shown),
        *(look.say("why.rest", count=r.count) for r in others),
    ]
    least, usual, most = (2 * side + 1 for side in _BAR_CELLS)
    bars, words = [partial(bar, part.effect) for part in shown], [Text(_words(part, look), "dim") for part in shown]
    columns = [
        Column(names, look.say("why.part"), most=look.columns),
    ]
    raw = number([signed(part.value) for part in (*shown, *others)], look.say("why.adds"))
    if rest.over_mean is None:
        columns.append(raw)
    else:
        columns += [number([_over(part.over_mean) for part in (*shown, *others)], look.say("why.over")), raw]
    columns.append(Column(bars, wide=usual, most=most, fills=True, least=least, gives_way=2, optional=True))
    columns.append(Column(words, gives_way=1, optional=True))
    yield from rows(columns, look.columns, [""] * len(shown) + ["dim"] * len(others))
    if longest:
        yield Text(look.say("why.scale", longest=fixed(longest, 2)), style="dim")


def _over(value: float | None) -> str:
    return "" if value is None else signed(value)


def _sentences(found: Why, look: Look, scope: Scope) -> Iterator[Text]:
    shown, rest = found.strongest(look.top, scope)
    named = [(_words(part, look) or g.visible(part.name, look.glyphs), part) for part in shown]
    for name, part in [*named, *([(look.say("why.rest", count=rest.count), rest)] if rest.count else [])]:
        key = "why.plain_part" if part.over_mean is None else "why.plain_part_over"
        yield Text(look.say(key, part=name, adds=signed(part.value), over=_over(part.over_mean)))


def _words(part: Part, look: Look) -> str:
    """What a part is called in words; "" for a name that is none of ours."""
    kind = part.name.partition(":")[0]
    known = ("embed", "pos_embed", "head", "attn_bias", "mlp", "final_bias")
    return look.say(f"why.{kind}", layer=part.layer, head=part.head) if kind in known else ""


# --- layer by layer, and the sum --------------------------------------------------------------------------------------


def _layers(found: Why, look: Look) -> Iterator[Text]:
    """A column for each layer; several blocks where the window is too narrow for all."""
    names = Column([look.say("why.heads"), look.say("why.mlps")], look.say("why.layer"))
    layers = [number([_sum(i.attention), _sum(i.mlp)], str(i.layer)) for i in found.layers]
    yield from blocks([names], layers, look.columns)


def _layer_sentences(found: Why, look: Look) -> Iterator[Text]:
    for i in found.layers:
        yield Text(look.say("why.plain_layer", layer=i.layer, heads=_sum(i.attention), mlp=_sum(i.mlp)))


def _sum(value: float | None) -> str:
    return "-" if value is None else signed(value)


def _sum_lines(found: Why, look: Look, pending: bytes) -> Iterator[Text]:
    """Everything together is the logit; for two tokens, the difference of theirs."""
    sums = dict(zip(found.groups, addends(list(found.groups.values()), found.logit), strict=True))
    named = _named(found, look, pending)
    if found.rival is not None:
        values = {"a": signed(found.token.logit), "b": signed(found.rival.logit), "difference": signed(found.logit)}
        yield Text(look.say("why.difference", **values, **named))
    key = "why.sum_rather" if found.rival else "why.sum"
    yield Text(look.say(key, **sums, logit=signed(found.logit), difference=signed(found.logit)), style="bold")
    fits = abs(found.remainder) <= found.allowed
    missing = abs(found.remainder)
    shown = f"<{small(_NOISE)}" if missing < _NOISE else small(missing)
    said = look.say("why.remainder" if fits else "why.remainder_failed", remainder=shown)
    yield Text(said, style="dim" if fits else "bold red")


def _next_best_lines(step: Step, found: Why, look: Look, pending: bytes) -> Iterator[Text]:
    """In one line: which part speaks most for this token and not for the next best; and that a draw may differ."""
    assert found.rival is not None  # the next best
    strongest, against = found.ordered[0], found.ordered[-1]
    values = {
        "difference": signed(found.logit),
        "pro": g.visible(strongest.name, look.glyphs),
        "pro_value": signed(strongest.value),
        "contra": g.visible(against.name, look.glyphs),
        "contra_value": signed(against.value),
    }
    key = "why.likeliest" if found.rival.rank < found.token.rank else "why.next_best"
    yield Text(look.say(key, **values, **_named(found, look, pending)))
    if found.logit < 0 and step.u is not None and found.token.id == step.token_id:
        yield Text(look.say("why.drawn", **_named(found, look, pending)))


def _named(found: Why, look: Look, pending: bytes) -> dict[str, str]:
    def label(token: Candidate) -> str:
        return look.label(token, pending)

    return {"token": label(found.token)} | ({"rival": label(found.rival)} if found.rival else {})
