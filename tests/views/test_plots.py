"""Pictures of sweeps: PNG and SVG, the same bytes each time, and names that are no formula."""

import base64
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from manako.analysis.scaling import JOINT, Constant, Law, LeftOut, Refusal, Scaling
from manako.analysis.sweep import Outcome
from manako.errors import MissingExtraError, UsageError
from manako.views import plots

ONE = Outcome(
    "r", {"x": "$a_b$ \x1b"}, 1000, 300, 64, 10**6, 100, 1e6, 1e9, 60.0, 4.0, 100, 4.0, 1.0, [[50, 5.0], [100, 4.0]]
)
LAW = Law(
    JOINT, [((n, d), 1.0 + 100 / n**0.5 + 1000 / d**0.5) for n in (1e4, 4e4) for d in (1e5, 1e6, 1e7)],
    Constant(1.0, 0.0, 1.5), [Constant(100.0, 50.0, 200.0), Constant(1000.0, 1.0, 2e6)],
    [Constant(0.5, 0.25, 0.75), Constant(0.5, 0.25, 1.0)], LeftOut("r", 4.0, Constant(3.9, 3.5, 4.25)),
)  # fmt: skip
FOUND = [Scaling((("tokenizer", "$a_b$"),), [ONE], [Refusal(("flops",), 4, 5, "flops"), LAW])]


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_each_kind_is_made_and_made_again_the_same(lang: str) -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed: pip install 'manako[plot]'")
    runs = [ONE, replace(ONE, varied={"x": "b"}, flops=2e9)]
    for kind, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        for made in (plots.scaling_plot(FOUND, kind, lang), plots.sweep_plot(runs, kind, lang)):
            assert made.startswith(begin) and len(made) > 5_000
        assert plots.scaling_plot(FOUND, kind, lang) == plots.scaling_plot(FOUND, kind, lang)
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_page_has_the_picture_and_every_number(lang: str) -> None:
    """Well-formed, without a script, and names are text in it, whatever they hold."""
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed: pip install 'manako[plot]'")
    hostile = "</td><script>alert(1)</script>&\"'"
    bpe = {"varied": {"x": hostile}, "steps": 200, "flops": 2e9, "bits_per_character": 3.25}
    runs = [ONE, replace(ONE, run=hostile, **bpe)]
    made = plots.sweep_plot(runs, ".html", lang)
    assert made == plots.sweep_plot(runs, ".html", lang)
    tree = ElementTree.fromstring(made.decode().split("<body>")[1].split("</body>")[0])
    picture = next(tree.iter("img")).attrib["src"].partition("base64,")[2]
    assert base64.b64decode(picture) == plots.sweep_plot(runs, ".svg", lang)
    cells = ["".join(cell.itertext()) for cell in tree.iter("td")]
    assert hostile in cells and {"4.000", "3.250^", "4.000*", "1,000", "200", "2e9"} <= set(cells)
    assert b"<script>alert" not in made and b"default-src 'none'" in made
    found = [replace(FOUND[0], group=(("tokenizer", hostile),), outcomes=runs)]
    law = plots.scaling_plot(found, ".html", lang).decode()
    text = "".join(ElementTree.fromstring(law.split("<body>")[1].split("</body>")[0]).itertext())
    for shown in ("E = 1.000", "[0.250, 1.000]", "3.900", "-2.50%", "3.250^", hostile):
        assert shown in text


def test_names_and_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as refused:
        plots.check_plot(Path("a.pdf"))
    assert refused.value.key == "plot_kind"
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as missing:
        plots.check_plot(Path("a.PNG"))
    assert missing.value.key == "missing_plot"
