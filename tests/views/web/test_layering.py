"""The page's own layers: a module imports modules of earlier rows and of its own, types included.

An element imports no other one but its own parts. Circles are refused by `html.bundle`.
"""

import posixpath
import re
from collections.abc import Mapping

import pytest

from manako.views.html import WEB

ROWS = (
    "trace",
    "text",
    "engine",
    "analysis",
    "elements",
    "comparison",
    "learning",
    "merges",
    "lessons",
    "page",
    "training",
)
PARTS = {
    ("attention.js", "heads.js"),
    ("lens.js", "lens-grid.js"),
    ("ribbon.js", "tints.js"),
}  # element, the one that it holds
IMPORT = re.compile(r'(?:from|import\(|^import) ?"(\.{1,2}/[a-z0-9./-]+\.js)"', re.MULTILINE)
SOURCES = {path.relative_to(WEB).as_posix(): path.read_text(encoding="utf-8") for path in WEB.rglob("*.js")}


def violations(sources: Mapping[str, str]) -> set[tuple[str, str]]:
    elements = {name for name, text in sources.items() if "customElements.define" in text and "elements/" in name}
    found: set[tuple[str, str]] = set()
    for name, text in sources.items():
        for path in IMPORT.findall(text):
            other = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            assert other in sources, f"{name} imports {path}"
            row, its = (ROWS.index(each.split("/")[0]) for each in (name, other))
            is_element = name in elements and other in elements and "checks.js" not in other  # which also has sentences
            if its > row or (is_element and (posixpath.basename(name), posixpath.basename(other)) not in PARTS):
                found.add((name, other))
    return found


def test_layers_import_downwards_only() -> None:
    assert violations(SOURCES) == set()
    assert {name.split("/")[0] for name in SOURCES} == set(ROWS)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("engine/gpt2.js", 'import { verifying } from "../analysis/verification.js";'),
        ("trace/tree.js", 'import { say } from "../text/messages.js";'),
        ("elements/act.js", '/** @import {Store} from "../page/store.js" */'),
        ("analysis/inside.js", '/** @typedef {import("../elements/view.js").View} View */'),
        ("elements/why.js", 'import "./lens.js";'),
    ],
)
def test_negative_control_an_import_upwards_or_across_is_seen(name: str, line: str) -> None:
    assert len(violations({**SOURCES, name: SOURCES[name] + line})) == 1
