"""T21, T22: no text from outside reaches the terminal as anything but text, by whatever door it comes in.

Sixty sequences, each as a token, split over two tokens, as prompt, model name, file name, stop text and wrong argument.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyte
import pytest
from commands import Run
from golden import golden_trace

from manako.cli.console import fail
from manako.cli.showing import VIEWS
from manako.trace.model_name import model_name
from manako.trace.record import Vocabulary

ESC, BEL, ST = "\x1b", "\x07", "\x1b\\"
SEQUENCES = [
    *(f"{ESC}[2J", f"{ESC}[H", f"{ESC}[1A", f"{ESC}[2K", f"{ESC}[999D", f"{ESC}[3J", f"{ESC}[?25l", f"{ESC}[?1049h"),
    *(f"{ESC}[31m", f"{ESC}[0m", f"{ESC}[8m", f"{ESC}[6n", f"{ESC}[c", f"{ESC}[>c", f"{ESC}[5n", f"{ESC}[21t"),
    *(f"{ESC}]0;owned{BEL}", f"{ESC}]2;owned{ST}", f"{ESC}]8;;http://x{BEL}click{ESC}]8;;{BEL}", f"{ESC}]4;1;red{BEL}"),
    *(f"{ESC}]52;c;aGk={BEL}", f"{ESC}]1337;File=:AAAA{BEL}", f"{ESC}]9;note{BEL}", f"{ESC}]7;file:///{BEL}"),
    *(f"{ESC}P+q544e{ST}", f"{ESC}_apc{ST}", f"{ESC}^pm{ST}", f"{ESC}Xsos{ST}", f"{ESC}c", f"{ESC}7{ESC}8", f"{ESC}M"),
    *(f"{ESC}(0", f"{ESC}#8", f"{ESC}%G", f"{ESC}=", f"{ESC}[!p", ESC, f"{ESC}[", f"{ESC}]"),
    *("\x9b2J", "\x9b31m", "\x9d0;owned\x9c", "\x90q\x9c", "\x84", "\x85", "\x8d", "\x98x\x9c"),
    *("safe\rEVIL", "abc\b\b\bxyz", "\x07" * 50, "\x0b\x0c", "\x0e\x0f", "\x7f\x7f", "\x00", "a\tb", "x\ny"),
    *("\u202egpj.exe", "\u2066a\u2069", "\u200e\u200f\u061c", "\u2028\u2029"),
    *(
        "a\u200b\ufeff\u00ad",
        "e" + "\u0301" * 1000,
        "\U000e0041\U000e007f",
        "[bold]x[/bold]",
        "[link=http://x]y[/link]",
    ),
    *(":smile:", "%s{0}{got}", "\u3000\u00a0"),
]
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
OWN_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PILED = re.compile("\u0301{3}")


def record(path: Path, sequence: str, split: bool) -> None:
    """A record in which the sequence is a token, or two that follow each other, and the model's name."""
    data = sequence.encode()
    cut = next((n for n in range(1, len(data)) if data[n] & 0xC0 == 0x80), max(1, len(data) // 2)) if split else 0
    tokens = [b"a", data[:cut], data[cut:]] if split else [b"a", data, b"b"]
    trace = golden_trace(2)
    rows = np.full((2, 3), -40.0, np.float32)
    rows[0, 1] = rows[1, 2] = 10
    header = replace(trace.header, special_ids=(), model=replace(trace.header.model, ref=sequence))
    columns = replace(
        trace.columns,
        token_id=np.array([1, 2], np.int32),
        prompt_ids=np.array([0], np.int32),
        logits=rows,
        rank=np.array([1, 1], np.int32),
    )
    replace(trace, header=header, columns=columns, vocabulary=Vocabulary(tokens, 3, frozenset())).save(path)


def check(text: str) -> None:
    assert not FORBIDDEN.search(text), ascii(FORBIDDEN.search(text))
    assert text.startswith("{") or not PILED.search(text)  # JSON is for programs


def each(sequences: list[str]) -> list[object]:
    """All of them, of which plain pytest takes one of each kind."""
    kinds = (f"{ESC}[2J", ESC, f"{ESC}]0;", "]52", "]8;", "\r", "\x9b", "\x9d", "\x00", "\u202e", "\u0301", "[bold]")
    usual = {next(s for s in sequences if s == kind or (kind != ESC and kind in s)) for kind in kinds}
    marks = [() if s in usual else (pytest.mark.slow,) for s in sequences]
    return [pytest.param(s, marks=m, id=ascii(s)[1:40]) for s, m in zip(sequences, marks, strict=True)]


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("sequence", each(SEQUENCES))
def test_as_token(run: Run, tmp_path: Path, sequence: str, split: bool) -> None:
    path = tmp_path / "a.manako"
    record(path, sequence, split)
    views = [("--view", view) for view in VIEWS]
    for words in ((), *views, ("--view", "text", "--plain"), ("--plain",), ("--lang", "ja"), ("--json",)):
        found = run("view", path, *words)
        assert found.code == 0
        check(found.out)
    document = json.loads(found.out)
    ours = {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;32m", "\x1b[1;33m", "\x1b[1;31m", "\x1b[33m", "\x1b[1;7;31m"}
    for view in VIEWS:
        colored = run("view", path, "--view", view, "--color", "always", env={"COLUMNS": "60"})
        check(OWN_COLOUR.sub("", colored.out))
        assert set(OWN_COLOUR.findall(colored.out)) <= ours
    assert document["model"]["ref"] == model_name(sequence)
    if not split:
        assert document["steps"][1]["text_before"] == "a" + sequence


@pytest.mark.parametrize("sequence", each(SEQUENCES))
def test_as_prompt_stop_and_name(
    run: Run, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (("-n", "1"), ("-n", "1", "--plain"), ("-n", "1", "--json"), ("-n", "1", "--jsonl")):
        found = run("watch", "-", "-m", toy, *words, "--stop", sequence, stdin=sequence.encode())
        assert found.code == 0
        check(found.out)
        check(found.err)
    compared = run("compare", "-", "-m", toy, "-n", "2", "--stop", sequence, stdin=sequence.encode())
    check(compared.out + compared.err)
    if "\x00" in sequence:
        return  # no argument and no file name can hold it
    name = sequence.replace("/", "_")[:60]
    saved = run("watch", "a", "-m", toy, "-n", "1", "--save", f"./{name}.manako")
    check(saved.err)
    for words in (
        ("view", f"./{name}.manako", "--step", "9"),
        ("view", f"./{sequence}"),
        ("verify", f"./{sequence}"),
        ("eval", "-m", toy, "--data", f"./{sequence}"),
        ("import", f"./{sequence}", "-o", "x"),
        ("watch", "a", "-m", f"./{sequence}"),
        ("watch", "a", "-m", f"{sequence}/name"),
        ("watch", "a", "-t", f"{sequence}"),
        ("watch", "a", "--color", f"{sequence}"),
        ("watch", "a", f"b{sequence}"),
        ("watch", "a", f"--{sequence}"),
        ("--lang", "ja", f"z{sequence}"),
    ):
        found = run(*words)
        assert found.code in (2, 3) and found.out == "" and found.err.startswith("manako: ")
        check(found.err)
        assert found.err.count("\n") == 1


@pytest.mark.slow
def test_a_terminal_keeps_title_cursor_and_earlier_lines(run: Run, toy: str, tmp_path: Path) -> None:
    screen = pyte.HistoryScreen(100, 30, history=100_000)
    stream = pyte.ByteStream(screen)
    stream.feed(b"EARLIER LINE\r\n")
    for n, sequence in enumerate(SEQUENCES[::3]):
        path = tmp_path / f"{n}.manako"
        record(path, sequence, split=n % 2 == 0)
        out = run("view", path, "--color", "always").out + run("view", f"/no{sequence}".replace("\0", "")).err
        stream.feed(out.replace("\n", "\r\n").encode())
    assert screen.title == "" and screen.icon_name == ""
    assert screen.cursor.x == 0 and not screen.cursor.hidden
    first = screen.history.top[0]
    assert "".join(first[x].data for x in range(12)) == "EARLIER LINE"
    assert screen.mode == pyte.Screen(100, 30).mode


def test_an_error_is_one_safe_line(capsys: pytest.CaptureFixture[str]) -> None:
    for sequence in SEQUENCES:
        assert fail(f"x {sequence} y", "E-X", 7) == 7
        check(text := capsys.readouterr().err)
        assert text.count("\n") == 1 and text.endswith(" y [E-X]\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a file name there is text")
def test_a_file_name_that_is_not_utf8(run: Run, tmp_path: Path, toy: str) -> None:
    name = bytes(tmp_path) + b"/\xff\x9b.manako"
    assert run("watch", "a", "-m", toy, "-n", "1", "--save", name).code == 0
    found = run("watch", "a", "-m", toy, "-n", "1", "--save", name)
    assert found.code == 2 and "\\udcff\\udc9b.manako exists already" in found.err
    assert run("verify", name).code == 0
