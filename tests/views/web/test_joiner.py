"""The modules of the page joined into one script."""

from collections.abc import Callable

import pytest

from manako.views import html
from manako.views.html import bundle

MODULES = {
    "page/file.js": """import { TEN, double } from "../text/a.js";
import table from "../../x/table.json" with { type: "json" };
const LIMIT = 1;
result(double(TEN) + LIMIT + table.kept);
""",
    "text/a.js": """import { ONE } from "./b.js";
const LIMIT = 9;
export const TEN = LIMIT + ONE;
export function double(n) {
    return 2 * n;
}
""",
    "text/b.js": "const LIMIT = 1; // of its own\nexport const ONE = LIMIT;\n",
    "../x/table.json": '{"about": "</script>", "kept": 100}',
}


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The script of some modules instead of the page's own."""

    def made(**changed: str) -> str:
        sources = MODULES | {name.replace("__", "/") + ".js": text for name, text in changed.items()}
        monkeypatch.setattr(html, "_read", sources.__getitem__)
        bundle.cache_clear()
        try:
            return bundle()
        finally:
            monkeypatch.undo()
            bundle.cache_clear()

    return made


def test_what_is_not_exported_may_have_any_name(node: Callable[..., str], joined: Callable[..., str]) -> None:
    told = node("-e", f"let found; function result(n) {{ found = n; }}\n{joined()}console.log(found);")
    assert told.strip() == "121"


def test_a_module_is_a_function_of_its_own_only_where_another_has_its_names(joined: Callable[..., str]) -> None:
    wrapped = "const { ONE } = (() => {"
    assert wrapped in joined() and wrapped not in joined(text__b="const FIRST = 1;\nexport const ONE = FIRST;\n")
    for other in ("export const TEN = LEAST;\n", "export const TEN = { LEAST };\n"):  # of the browser, as it were
        own = "function LEAST() {}\nexport const ONE = LEAST;\n"
        assert wrapped in joined(text__a='import { ONE } from "./b.js";\n' + other, text__b=own)


@pytest.mark.parametrize("start", ["page/file.js", "page/live.js", "training/main.js", "training/worker.js"])
def test_the_scripts_declare_nothing_twice(node: Callable[..., str], start: str) -> None:
    node("-e", "new Function(require('fs').readFileSync(0, 'utf8'))", given=bundle(start))


def test_of_a_table_only_what_the_module_reads_is_taken_along(joined: Callable[..., str]) -> None:
    assert 'const table = {"kept":100};' in joined() and "about" not in joined()


def test_what_nobody_needs_is_left_out_with_what_only_that_needed(joined: Callable[..., str]) -> None:
    more = "const ONLY = 5;\nexport const UNUSED = ONLY + 1;\nexport function idle() {\n    return helped();\n}\n"
    more += "async function helped() {\n    return 1;\n}\n"
    assert joined(text__b=MODULES["text/b.js"] + more) == joined()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"text__b": "export const ONE = 1;\nexport const TEN = 10;\n"}, "export the same name"),
        ({"text__b": 'import { TEN } from "./a.js";\nexport const ONE = 1;\n'}, "import each other"),
        ({"text__b": "export const ONE = 1;\nexport default ONE;\n"}, "only named imports and exports"),
        (
            {"text__a": 'import { ONE as one } from "./b.js";\nexport const TEN = one;\n'},
            "only named imports and exports",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(changed: dict[str, str], why: str, joined: Callable[..., str]) -> None:
    with pytest.raises(AssertionError, match=why):
        joined(**changed)
