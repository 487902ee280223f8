"""Power laws through a sweep in a terminal: what was fitted, how well it foretold the largest run, and a picture of it.

Special here: a law that there are too few runs for says so where its numbers would be; nothing is drawn for it.
"""

from collections.abc import Iterator, Sequence

from rich.text import Text

from manako.analysis.scaling import JOINT, Constant, Law, Refusal, Scaling, curves
from manako.messages.numbers import count, fixed, signed, small
from manako.views.terminal import glyphs as g
from manako.views.terminal.scatter import LETTERS, Series, chart
from manako.views.terminal.steps import Look

SYMBOLS = {"parameters": "N", "characters": "D", "flops": "C"}
GREEK = ("α", "β")


def scaling_lines(found: Sequence[Scaling], look: Look) -> Iterator[Text]:
    """The laws of every group of runs."""
    for n, scaling in enumerate(found):
        if n:
            yield Text("")
        name = ", ".join(f"{name}={value}" for name, value in scaling.group)
        key = "scaling.group" if name else "scaling.all"
        said = {"runs": count(len(scaling.outcomes)), "group": g.prose(name, look.glyphs)}
        yield Text(look.say(key, **said), style="bold")
        for law in scaling.laws:
            yield Text("")
            yield from _refused(law, look) if isinstance(law, Refusal) else _fitted(law, look)
    yield Text("")
    yield Text(look.say("scaling.how"), style="dim")


def _refused(refusal: Refusal, look: Look) -> Iterator[Text]:
    yield Text(look.say(title(refusal.variables)), style="bold")
    yield Text(look.say(f"scaling.few_{refusal.of}", have=refusal.have, need=refusal.need))


def _fitted(law: Law, look: Look) -> Iterator[Text]:
    yield Text(look.say(title(law.variables)), style="bold")
    yield Text(f"  {formula(law)}")
    for name, constant in constants(law):
        yield Text(f"  {name} = {_number(constant)}")
    out = law.left_out
    said = {
        "run": g.prose(out.run, look.glyphs),
        "predicted": _number(out.predicted),
        "measured": fixed(out.measured, 3),
        "error": f"{signed(100 * out.error)}%",
    }
    yield Text(look.say("scaling.left_out", **said))
    if look.plain:
        return
    series = [Series(letter, points, line) for letter, (_, points, line) in zip(LETTERS, curves(law), strict=False)]
    x_title = look.say(f"scaling.x_{law.variables[-1]}")
    yield from chart(series, look.columns, x_title, look.say("sweep.chart_y"), small)
    if law.variables == JOINT:
        names = [f"{letter} {small(n)}" for letter, (n, _, _) in zip(LETTERS, curves(law), strict=False)]
        yield Text(look.say("scaling.legend", sizes="  ".join(names)), style="dim")


def title(variables: tuple[str, ...]) -> str:
    """The catalog key of what a law is about."""
    return "scaling.joint" if variables == JOINT else f"scaling.by_{variables[0]}"


def formula(law: Law) -> str:
    """The form that was fitted."""
    symbols = [SYMBOLS[name] for name in law.variables]
    terms = [f"{letter} / {x}^{e}" for letter, x, e in zip("AB", symbols, GREEK, strict=False)]
    return f"L({', '.join(symbols)}) = E + {' + '.join(terms)}"


def constants(law: Law) -> list[tuple[str, Constant]]:
    """Every fitted number by its name."""
    named = [("E", law.irreducible), *zip("AB", law.factors, strict=False), *zip(GREEK, law.exponents, strict=False)]
    return [(name, constant) for name, constant in named]


def _number(constant: Constant) -> str:
    value, low, high = (fixed(x, 3) if x < 100 else small(x) for x in (constant.value, constant.low, constant.high))
    return f"{value}  [{low}, {high}]"
