"""The modules of the page joined into one script."""

from collections.abc import Callable

import pytest

from manako.views import html
from manako.views.html import bundle

MODULES = {
    "page/main.js": """import { LIMIT as TEN, double } from "../text/a.js";
const LIMIT = 1;
result(double(TEN) + LIMIT);
""",
    "text/a.js": """import { LIMIT as ONE } from "./b.js";
export const LIMIT = 9 + ONE;
export function double(n) {
    return 2 * n;
}
""",
    "text/b.js": "export const LIMIT = 1;\n",
}


def test_modules_may_use_the_same_name(node: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_read", MODULES.__getitem__)
    bundle.cache_clear()
    try:
        joined = bundle()
    finally:
        monkeypatch.undo()
        bundle.cache_clear()
    told = node("-e", f"let found; function result(n) {{ found = n; }}\n{joined}console.log(found);")
    assert told.strip() == "21"
