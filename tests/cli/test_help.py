"""Help in both languages: every line fits the window by cells, and no word of click is left in the Japanese one."""

from collections.abc import Iterator

import click
import pytest
from commands import Run

from manako import messages
from manako.cli import COMMANDS, group
from manako.messages.lines import cells


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    yield command, context
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, inner.context_class(inner, info_name=name, parent=context))


def helps() -> list[str]:
    top = group.context_class(group, info_name="manako", **group.context_settings)
    return [command.get_help(context) for command, context in commands(group, top)]


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_every_help_fits(lang: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LC_ALL", lang)
    found = helps()
    assert len(found) == len(COMMANDS) + 6  # the group; corpus build and show; export html, model and site
    for page in found:
        usage = page.partition("\n\n")[2]  # names may be wider than a narrow window
        terms = [line for line in usage.splitlines() if not line.startswith("  -")]
        assert max(map(cells, terms)) <= columns, page


def test_words_of_click_are_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    for page in helps():
        for word in ("Usage", "Options:", "Commands:", "Show this", "[default", "[required]"):
            assert word not in page
    assert any("（既定値: " in page for page in helps()) and any("（必須）" in page for page in helps())


def test_h_is_short_and_help_is_whole_and_in_groups(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, str] = {}
    for flag in ("-h", "--help"):
        monkeypatch.setattr("sys.argv", ["manako", "watch", flag])
        shown[flag] = run("watch", flag).out
    assert [f"--{name} " in shown["-h"] for name in ("model", "temperature", "seed", "view", "save")] == [True] * 5
    assert "--typical-p" not in shown["-h"] and "manako watch --help" in shown["-h"]
    assert "--typical-p" in shown["--help"] and shown["--help"].count("--plain") == 1
    assert len(shown["-h"].splitlines()) < len(shown["--help"].splitlines()) / 2
