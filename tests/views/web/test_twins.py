"""What the page's modules compute as Python does is held to Python's own answers: each file of them names a module that
says so, and a test in node that reads it."""

from pathlib import Path

from manako.views.html import WEB

VECTORS = sorted(path.name for path in (Path(__file__).parents[2] / "vectors").glob("*.json"))


def heads() -> dict[str, str]:
    """Module -> its header comment."""
    sources = {p.relative_to(WEB).as_posix(): p.read_text(encoding="utf-8") for p in WEB.rglob("*.js")}
    return {name: text[: text.index("*/")] for name, text in sources.items()}


def test_each_file_of_vectors_has_a_twin_and_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.test.mjs"))
    assert len(VECTORS) >= 5
    for name in VECTORS:
        assert any(f"tests/vectors/{name}" in head for head in heads().values()), f"no module names {name}"
        assert name in tests, f"no test reads {name}"


def test_a_module_names_only_vectors_that_are_there() -> None:
    for name, head in heads().items():
        named = [word.strip("`.,;:") for word in head.split() if word.startswith(("tests/vectors/", "`tests/vectors/"))]
        assert {Path(each).name for each in named} <= {*VECTORS}, name
