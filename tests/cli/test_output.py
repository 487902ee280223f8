"""How output looks where: colour, glyphs, width, encodings that lack them, a terminal that is asked for its width."""

import os
import re
import select
import sys
from pathlib import Path

import pytest
from commands import MANAKO, Run, environment

JAPANESE = {"LANG": "ja_JP.UTF-8"}


@pytest.fixture
def view(run: Run, saved: Path):  # noqa: ANN201
    def view(*more: str, **options: object):  # noqa: ANN202
        found = run("view", saved, "--lang", "en", *more, **options)
        assert (found.code, found.err) == (0, "")
        return found.out

    return view


@pytest.mark.parametrize(
    ("words", "env", "tty", "colored"),
    [
        ((), {}, False, False),
        ((), {}, True, True),
        ((), {"NO_COLOR": "1"}, True, False),
        ((), {"NO_COLOR": ""}, True, True),
        ((), {"FORCE_COLOR": "1"}, False, True),
        ((), {"FORCE_COLOR": ""}, False, False),
        ((), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ((), {"NO_COLOR": "", "FORCE_COLOR": "1"}, False, True),
        ((), {"TERM": "dumb"}, True, False),
        ((), {"TTY_COMPATIBLE": "1"}, False, False),
        (("--color", "always"), {"NO_COLOR": "1"}, False, True),
        (("--color", "always"), {"TERM": "dumb"}, False, True),
        (("--color", "never"), {"FORCE_COLOR": "1"}, True, False),
        (("--color", "auto"), {}, True, True),
    ],
)
def test_colour(view, words: tuple[str, ...], env: dict[str, str], tty: bool, colored: bool) -> None:  # noqa: ANN001
    out = view(*words, env=env, tty=tty)
    assert ("\x1b[" in out) == colored
    plain = env.get("TERM") == "dumb"
    assert ("\x1b[1;32m" in out) == (colored and not plain)  # the chosen row: not bold alone


def test_colour_says_nothing_alone(view) -> None:  # noqa: ANN001
    colored = view("--color", "always")
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == view("--color", "never")


def test_json_is_never_coloured(view) -> None:  # noqa: ANN001
    assert "\x1b" not in view("--json", "--color", "always", tty=True, env={"FORCE_COLOR": "1"})


def test_dumb_terminal_is_plain_and_no_color_is_not(view) -> None:  # noqa: ANN001
    assert view(env={"TERM": "dumb"}) == view("--plain")
    assert "percent" in view("--plain") and "█" not in view("--plain")
    assert "█" in view(env={"NO_COLOR": "1"})


@pytest.mark.parametrize(
    ("env", "bar"),
    [
        ({}, "█"),
        ({"LANG": "en_US.UTF-8"}, "█"),
        (JAPANESE, "⣿"),
        (JAPANESE | {"MANAKO_AMBIGUOUS_WIDTH": "1"}, "█"),
        ({"MANAKO_AMBIGUOUS_WIDTH": "2"}, "⣿"),
        ({"MANAKO_AMBIGUOUS_WIDTH": "wide"}, "█"),
    ],
)
def test_glyphs(view, env: dict[str, str], bar: str) -> None:  # noqa: ANN001
    out = view(env=env)
    assert bar in out and not set("█⣿#") & set(out) - {bar}


@pytest.mark.parametrize("encoding", ["cp932", "ascii", "latin-1"])
def test_an_encoding_without_the_glyphs(run: Run, saved: Path, encoding: str) -> None:
    for words in ((), ("--plain",), ("--json",), ("--lang", "ja")):
        found = run("view", saved, *words, encoding=encoding)
        assert (found.code, found.err) == (0, "")
        assert found.out.count("?") == run("view", saved, *words).out.count("?")  # none stands for what is lost
    out = run("view", saved, encoding=encoding).out
    assert "#####" in out and (("私は" in out) if encoding == "cp932" else ("<U+79C1><U+306F>" in out))


def test_rows_line_up_where_characters_are_spelled_out(run: Run, saved: Path) -> None:
    rows = [line for line in run("view", saved, encoding="ascii").out.split("\n") if re.match(r"[> ] *\d+\. ", line)]
    assert rows and len({re.search(r"%|(?<= )-(?= )", row[20:]).start() for row in rows}) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, 100),
        ({"COLUMNS": "60"}, 60),
        ({"COLUMNS": "0"}, 100),
        ({"COLUMNS": "²"}, 100),
        ({"COLUMNS": "-5"}, 100),
        ({"COLUMNS": "x"}, 100),
    ],
)
def test_columns(view, env: dict[str, str], expected: int) -> None:  # noqa: ANN001
    assert view(env=env) == view(env={"COLUMNS": str(expected)})


@pytest.mark.parametrize("columns", ["1", "10", "20", "29", "30", "1000000", "9" * 400])
def test_no_width_is_a_failure(view, run: Run, toy: str, columns: str) -> None:  # noqa: ANN001
    assert view(env={"COLUMNS": columns})
    assert run("compare", "あ", "-m", toy, "-n", "2", env={"COLUMNS": columns}).code == 0


# A real terminal ---------------------------------------------------------------------------------------------------


def in_terminal(words: list[str], answer: bytes, **env: str) -> bytes:
    """Run under a pseudo-terminal that answers a cursor query; all it was sent."""
    import pty

    child, master = pty.fork()
    if child == 0:
        os.execvpe(words[0], words, environment(**env))
    sent = b""
    try:
        while select.select([master], [], [], 30)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # Linux says so when the other side is gone
                break
            if not data:
                break
            sent += data
            if b"\x1b[6n" in data and answer:
                os.write(master, answer)
    finally:
        os.close(master)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, sent
    return sent


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("lang", "answer", "bar", "asked"),
    [
        ("ja_JP.UTF-8", b"\x1b[5;2R", "█", True),
        ("ja_JP.UTF-8", b"\x1b[5;3R", "⣿", True),
        ("ja_JP.UTF-8", b"", "⣿", True),
        ("C.UTF-8", b"", "█", False),
    ],
)
@pytest.mark.slow
def test_a_terminal_is_asked_how_wide_a_bar_is(saved: Path, lang: str, answer: bytes, bar: str, asked: bool) -> None:
    words = [*MANAKO, "view", str(saved), "--step", "1"]
    sent = in_terminal(words, answer, LANG=lang, TERM="xterm", PYTHONUTF8="1").decode()
    assert ("\x1b[6n" in sent) == asked
    before, _, shown = sent.partition("\r\x1b[K") if asked else ("", "", sent)
    assert bar in shown and not set("█⣿") & set(shown) - {bar}
    assert "█" not in before or before.endswith("\r█\x1b[6n") or answer.decode() in before.replace("^[", "\x1b")
