"""What each command loads: help needs click alone, and nothing but training ever imports torch (F46)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment
from golden import golden_trace
from toy import write_toy

HEAVY = ("torch", "transformers", "numpy", "rich", "starlette", "uvicorn", "tokenizers", "textual", "safetensors")
NEVER = (
    "torch", "transformers", "starlette", "uvicorn", "textual", "matplotlib", "http.client", "asyncio",
    "importlib.metadata",
)  # fmt: skip
RUN = """
import json, sys
from manako.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_toy(folder / "toy")
    golden_trace().save(folder / "a.manako")
    (folder / "text.txt").write_text("私は猫。", encoding="utf-8")
    return folder


def loaded(folder: Path, *words: str) -> set[str]:
    command = [sys.executable, "-W", "error", "-c", RUN, *words]
    found = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return set(json.loads(found.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--lang", "ja", "-h"]], ids=" ".join)
def test_help_needs_nothing_heavy(files: Path, words: list[str]) -> None:
    modules = loaded(files, *words)
    assert modules & {*HEAVY} == set()
    assert {m for m in modules if m.startswith("manako")} == {
        "manako",
        "manako.cli",
        "manako.cli.aside",
        "manako.cli.console",
        "manako.cli.help",
        "manako.errors",
        "manako.messages",
        "manako.messages.lines",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["watch", "あ", "-m", "toy", "-n", "2"],
        ["watch", "あ", "-n", "2"],
        ["compare", "あ", "-m", "toy", "-n", "2"],
        ["view", "a.manako"],
        ["verify", "a.manako"],
        ["eval", "-m", "toy", "--data", "text.txt"],
        ["watch", "--help"],
        ["train", "--help"],
    ],
    ids=" ".join,
)
@pytest.mark.slow
def test_no_command_but_train_loads_torch(files: Path, words: list[str]) -> None:
    modules = loaded(files, *words)
    assert modules & {*NEVER} == set()


def test_import_is_light(files: Path) -> None:
    code = "import sys, json, manako; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stderr == ""
    assert set(json.loads(found.stdout)) & {*HEAVY, "click", "manako.trace"} == set()


def test_a_record_opens_without_the_tokenizer_library(files: Path) -> None:
    code = "import sys, manako; t = manako.open('a.manako'); t.text; print(sorted(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=files, capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"'torch'", "'tokenizers'", "'rich'", "'click'"} & set(found.stdout.strip("[]\n").split(", "))
