"""Nobody reads stdout any more, as behind `| head`: the files are written, and the exit code is what it would be."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commands import unread
from lanes import mostly_slow

import manako
from manako.trace.file import to_bytes
from manako.trace.tree import open_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe has another error there")


QUIET = {
    "help": ["--help"],
    "help of a command": ["watch", "--help"],
    "version": ["--version"],
    "view": ["view", "TRACE"],
    "view, all steps": ["view", "TRACE", "--view", "steps"],
    "view, JSON": ["view", "TRACE", "--json"],
    "verify": ["verify", "TRACE"],
    "attention": ["attention", "私", "-m", "TOY"],
    "eval": ["eval", "-m", "TOY", "--data", "TEXT"],
    "watch, a step that it never came to": ["watch", "私", "-m", "TOY", "-n", "9", "--step", "9"],
    "tokens": ["tokens", "私は", "-m", "TOY"],
    "info": ["info", "TOY"],
}


@pytest.mark.parametrize("name", mostly_slow(QUIET, fast={"help", "view"}))  # a process each
def test_every_command_ends_without_a_word(name: str, toy: str, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("私は猫。", encoding="utf-8")
    names = {"TRACE": saved, "TOY": toy, "TEXT": tmp_path / "text"}
    assert unread(*(names.get(word, word) for word in QUIET[name])) == (0, "")


RUNS = ["-m", "TOY", "-n", "3", "--seed", "1"]
SAVED = {  # words, and how many texts the file has
    "watch": (["watch", "私", *RUNS, "--view", "steps"], 1),
    "watch, a given text": (["watch", "私は", "-m", "TOY", "--given"], 1),
    "watch, a given text as JSON": (["watch", "私は", "-m", "TOY", "--given", "--json"], 1),
    "samples": (["watch", "私", *RUNS, "--samples", "3"], 3),
    "samples as JSON": (["watch", "私", *RUNS, "--samples", "3", "--json"], 3),
    "samples, a line each": (["watch", "私", *RUNS, "--samples", "3", "--jsonl"], 1),  # it stops
    "compare": (["compare", "私", *RUNS], 3),
    "compare as JSON": (["compare", "私", *RUNS, "--json"], 3),
    "compare, a line each": (["compare", "私", *RUNS, "--jsonl"], 1),
    "compare, a given text": (["compare", "私は", "-m", "TOY", "-m", "demo", "--given"], 2),
}


@pytest.mark.parametrize("name", mostly_slow(SAVED, fast={"watch, a given text"}))
def test_what_was_made_is_saved(name: str, toy: str, tmp_path: Path) -> None:
    words, texts = SAVED[name]
    path = tmp_path / "a.manako"
    code, said = unread(*(toy if word == "TOY" else word for word in words), "--save", path)
    assert code == 0 and said.startswith(f"manako: saved {path} (") and said.count("\n") == 1, said
    assert len(open_tree(path).branches) == texts


@pytest.mark.slow
def test_the_exit_code_is_kept(saved: Path, tmp_path: Path) -> None:
    trace = manako.open(saved)
    wrong = replace(trace.columns, p=trace.columns.p / 2)
    changed = tmp_path / "changed.manako"
    changed.write_bytes(to_bytes(replace(trace, columns=wrong)))
    for words in ([], ["--json"]):
        code, said = unread("verify", changed, *words)
        assert code == 1 and said.count("[E-VERIFY]") == (not words), said
