"""Pictures of sweeps and their power laws, as PNG or SVG for a paper, or as a page with the numbers behind them.

Special here: Matplotlib without pyplot, so that nothing is kept between two pictures and no window is looked for. Where
no Japanese font is installed, the words in a picture are English.
"""

import io
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manako import messages
from manako.analysis.scaling import JOINT, Law, Scaling, curves
from manako.analysis.sweep import Outcome
from manako.errors import MissingExtraError, UsageError
from manako.messages.numbers import count, small
from manako.views.still_page import Table, still_page
from manako.views.terminal.scaling import scaling_lines, title
from manako.views.terminal.steps import Look
from manako.views.terminal.sweep import figures, marks, varied

PAGE = ".html"
KINDS = (".png", ".svg", PAGE)
_JAPANESE = ("Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", "Meiryo", "IPAexGothic", "IPAGothic", "TakaoGothic")


def check_plot(path: Path) -> None:
    """Raise UsageError for a name that ends in none of KINDS, MissingExtraError without Matplotlib."""
    if path.suffix.lower() not in KINDS:
        raise UsageError("plot_kind", file=path, kinds=", ".join(KINDS))
    if find_spec("matplotlib") is None:
        raise MissingExtraError("missing_plot")


def sweep_plot(outcomes: Sequence[Outcome], kind: str, lang: str) -> bytes:
    """Bits a character of each run while it was trained, against compute and against steps."""
    picture = _Picture(2, lang)
    for axis, key in zip(picture.axes, ("sweep.chart_x", "sweep.chart_steps"), strict=True):
        for outcome in outcomes:
            a_step = outcome.flops / outcome.steps if key == "sweep.chart_x" else 1.0
            xs, ys = [a_step * step for step, _ in outcome.curve], [bits for _, bits in outcome.curve]
            name = " ".join(f"{name}={value}" for name, value in outcome.varied.items())
            axis.plot(xs, ys, marker="o", markersize=3, linewidth=1, label=_harmless(name))
        picture.label(axis, picture.say(key), picture.say("sweep.chart_y"))
    picture.axes[0].legend(fontsize=7)
    if kind != PAGE:
        return picture.bytes(kind)
    look = Look(lang)
    shown = figures(outcomes, look)
    tables = {look.say("sweep.title"): varied(outcomes, look) | shown}
    return still_page(lang, look.say("sweep.page"), picture.bytes(".svg"), marks(shown, look), tables)


def scaling_plot(found: Sequence[Scaling], kind: str, lang: str) -> bytes:
    """Every law that was fitted, in a panel of its own. There is at least one."""
    laws = [(scaling, law) for scaling in found for law in scaling.laws if isinstance(law, Law)]
    picture = _Picture(len(laws), lang)
    for axis, (scaling, law) in zip(picture.axes, laws, strict=True):
        for size, points, line in curves(law):
            drawn = axis.plot([x for x, _ in line], [y for _, y in line], linewidth=1)
            label = f"N = {small(size)}" if law.variables == JOINT else None
            color = drawn[0].get_color()
            axis.plot([x for x, _ in points], [y for _, y in points], "o", markersize=4, color=color, label=label)
        picture.label(axis, picture.say(f"scaling.x_{law.variables[-1]}"), picture.say("sweep.chart_y"))
        group = " ".join(f"{name}={value}" for name, value in scaling.group)
        axis.set_title(_harmless("\n".join(filter(None, [picture.say(title(law.variables)), group]))), fontsize=9)
        if law.variables == JOINT:
            axis.legend(fontsize=7)
    if kind != PAGE:
        return picture.bytes(kind)
    look = Look(lang, plain=True)
    tables = dict[str, Table]()
    for scaling in found:
        group = " ".join(f"{name}={value}" for name, value in scaling.group)
        caption = look.say("scaling.group" if group else "scaling.all", group=group, runs=count(len(scaling.outcomes)))
        tables[caption] = varied(scaling.outcomes, look) | figures(scaling.outcomes, look)
    said = [line.plain for line in scaling_lines(found, look)]
    return still_page(lang, look.say("scaling.page"), picture.bytes(".svg"), said, tables)


class _Picture:
    """Panels beside each other."""

    def __init__(self, panels: int, lang: str) -> None:
        installed = {font.name for font in import_module("matplotlib.font_manager").fontManager.ttflist}
        fonts = [name for name in _JAPANESE if name in installed]
        self.lang = lang if fonts or lang != "ja" else "en"
        matplotlib: Any = import_module("matplotlib")
        self._style = {"font.family": [*fonts[:1], "DejaVu Sans"], "svg.hashsalt": "manako", "svg.fonttype": "path"}
        self._context: Any = matplotlib.rc_context
        with self._context(self._style):
            self.figure: Any = import_module("matplotlib.figure").Figure(
                figsize=(4.5 * panels, 3.6), layout="constrained"
            )
            self.axes: list[Any] = list(self.figure.subplots(1, panels, squeeze=False)[0])

    def say(self, key: str) -> str:
        """A sentence of the catalog, in a language that the fonts can write."""
        return messages.text(key, self.lang)

    def label(self, axis: Any, x: str, y: str) -> None:
        """Name the axes; x is logarithmic."""
        axis.set_xscale("log")
        axis.set_xlabel(x, fontsize=8)
        axis.set_ylabel(y, fontsize=8)
        axis.tick_params(which="both", labelsize=6)
        axis.grid(True, which="major", linewidth=0.3)

    def bytes(self, kind: str) -> bytes:
        """The picture as a file of one of KINDS."""
        stream = io.BytesIO()
        with self._context(self._style):
            metadata = {"Date": None} if kind == ".svg" else {}
            self.figure.savefig(stream, format=kind.removeprefix("."), dpi=150, metadata=metadata)
        return stream.getvalue()


def _harmless(text: str) -> str:
    """Text in which no dollar begins a formula and no control character stands."""
    return "".join(ch if ch.isprintable() or ch == "\n" else "?" for ch in text).replace("$", r"\$")
