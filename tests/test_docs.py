"""The documentation is executed: every Python block and every command of the quickstarts runs as it stands."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from commands import MANAKO, environment

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.ja.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{n}")
    for page in PAGES
    for n, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M))
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.slow
def test_every_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "<docs>", "exec"), {})


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [x for x in links if not x.startswith("http") and not (page.parent / x).exists()]
    assert missing == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart.md", "quickstart.ja.md"])
def test_the_commands_of_a_quickstart_run(name: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    commands = [
        shlex.split(line)
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
        for line in block.splitlines()
    ]
    assert len(commands) == 11
    for program, *words in commands:
        assert program == "manako"
        made = subprocess.run([*MANAKO, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert made.returncode == 0, (words, made.stderr)


def test_both_languages_show_the_same_commands() -> None:
    def shown(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        found = [*re.findall(r"`(manako [a-z][^`]+)`", text), *re.findall(r"^manako [a-z]+ .* --?[a-z].*$", text, re.M)]
        return [re.sub(r" --lang \w\w|\".*\"", "", command) for command in found]

    assert shown(READMES[0]) == shown(READMES[1])
    assert set(shown(ROOT / "docs" / "quickstart.md")) == set(shown(ROOT / "docs" / "quickstart.ja.md"))


def test_the_glossaries_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_glossary", ROOT / "docs" / "make_glossary.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    for lang, path in made.PAGES.items():
        assert path.read_text(encoding="utf-8") == made.page(lang), "run: python docs/make_glossary.py"


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.name)
def test_the_tree_of_the_readme_is_the_tree(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    named = set(re.findall(r"^[├└]── (\S+?)/? ", text, re.M))
    there = {p.name for p in (ROOT / "src" / "manako").iterdir() if not p.name.startswith("_") and p.name != "py.typed"}
    assert {name.split("/")[0] for name in named} == there
