"""The runs of a sweep in a terminal: a table, and their held-out text against compute as they were trained.

Special here: a figure that was read before the end of a run has a star, since its learning rate had not come down yet;
an arrow says that a run ended worse than its best.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from manako.analysis.sweep import Failure, Outcome, Reached, compare_runs
from manako.messages.numbers import count, fixed, setting, small
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, blocks
from manako.views.terminal.scatter import LETTERS, Series, chart
from manako.views.terminal.steps import Look

WORSE = 1.002  # times the best: a run that ended above has begun to learn its text by heart


def sweep_lines(results: Sequence[Outcome | Failure], look: Look) -> Iterator[Text]:
    """All runs that have ended, in the order of the grid."""
    outcomes = [each for each in results if isinstance(each, Outcome)]
    if outcomes:
        yield from _sentences(outcomes, look) if look.plain else _table(outcomes, look)
    for each in results:
        if isinstance(each, Failure):
            run, reason = g.prose(each.run, look.glyphs), g.prose(each.error, look.glyphs)
            yield Text(look.say("sweep.failed", run=run, reason=reason))


def varied(outcomes: Sequence[Outcome], look: Look) -> dict[str, list[str]]:
    """Column -> cells: what tells the runs apart."""
    names = dict.fromkeys(name for o in outcomes for name in o.varied)
    return {name: [_value(o.varied.get(name), look) for o in outcomes] for name in names}


def figures(outcomes: Sequence[Outcome], look: Look) -> dict[str, list[str]]:
    """Column -> cells: what the runs came to, and took."""
    compared = compare_runs(outcomes)
    found = {look.say("sweep.bits"): [_best(o) for o in outcomes]}
    if len({o.steps for o in outcomes}) > 1:
        found[look.say("sweep.at_steps", steps=count(compared.steps))] = [_reached(r) for r in compared.at_steps]
    if any(r.early for r in compared.at_flops):
        found[look.say("sweep.at_flops", flops=small(compared.flops))] = [_reached(r) for r in compared.at_flops]
    return found | {
        look.say("sweep.parameters"): [count(o.parameters) for o in outcomes],
        look.say("sweep.steps"): [count(o.steps) for o in outcomes],
        look.say("sweep.epochs"): [fixed(o.epochs, 2) for o in outcomes],
        look.say("sweep.flops"): [small(o.flops) for o in outcomes],
        look.say("sweep.per_token"): [fixed(o.characters_per_token, 2) for o in outcomes],
        look.say("sweep.context"): [count(round(o.context)) for o in outcomes],
        look.say("sweep.minutes"): [fixed(o.seconds / 60, 1) for o in outcomes],
    }


def marks(shown: Mapping[str, list[str]], look: Look) -> list[str]:
    """What the marks in these figures mean, as far as there are any."""
    cells = [cell for column in shown.values() for cell in column]
    keys = (("*", "sweep.early"), ("^", "sweep.worse"))
    return [look.say(key) for mark, key in keys if any(cell.endswith(mark) for cell in cells)]


def _table(outcomes: Sequence[Outcome], look: Look) -> Iterator[Text]:
    letters = LETTERS if len(outcomes) <= len(LETTERS) else ""
    left = [Column([Text(letter, "bold") for letter in letters[: len(outcomes)]])] if letters else []
    left += [Column(cells, name, gap=2, most=20) for name, cells in varied(outcomes, look).items()]
    shown = figures(outcomes, look)
    yield Text(look.say("sweep.title"), style="bold")
    yield from blocks(left, [Column(cells, name, right=True, gap=2) for name, cells in shown.items()], look.columns)
    for meaning in marks(shown, look):
        yield Text(meaning, style="dim")
    if letters:
        series = [
            Series(letter, [(o.flops * step / o.steps, bits) for step, bits in o.curve])
            for letter, o in zip(letters, outcomes, strict=False)
        ]
        yield Text("")
        yield from chart(series, look.columns, look.say("sweep.chart_x"), look.say("sweep.chart_y"), small)


def _sentences(outcomes: Sequence[Outcome], look: Look) -> Iterator[Text]:
    for o in outcomes:
        said = {
            "run": g.prose(o.run, look.glyphs),
            "bits": fixed(o.bits_per_character, 3),
            "parameters": count(o.parameters),
            "steps": count(o.steps),
            "flops": small(o.flops),
            "per_token": fixed(o.characters_per_token, 2),
            "context": count(round(o.context)),
            "minutes": fixed(o.seconds / 60, 1),
        }
        yield Text(look.say("sweep.plain", **said))


def _best(outcome: Outcome) -> str:
    return fixed(outcome.bits_per_character, 3) + worse(outcome)


def worse(outcome: Outcome) -> str:
    """An arrow where a run ended worse than its best."""
    return "^" if outcome.last_bits_per_character > WORSE * outcome.bits_per_character else ""


def _reached(reached: Reached) -> str:
    if reached.bits_per_character is None:
        return "-"
    return fixed(reached.bits_per_character, 3) + ("*" if reached.early else "")


def _value(value: Any, look: Look) -> str:
    if isinstance(value, str):
        return g.visible(value, look.glyphs)
    return str(value).lower() if isinstance(value, bool) else "-" if value is None else setting(value)
