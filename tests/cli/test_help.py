"""Help in both languages: every line fits the window by cells, and no word of click is left in the Japanese one."""

import pytest
from commands import Run, every_command

from manako import messages
from manako.cli import COMMANDS
from manako.messages.lines import cells


def helps() -> list[str]:
    return [command.get_help(context) for command, context in every_command()]


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_every_help_fits(lang: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LC_ALL", lang)
    found = helps()
    assert len(found) == len(COMMANDS) + 7  # the group; corpus build and show; export html, model, site and trainer
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
