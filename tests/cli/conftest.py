"""Commands run in this process with streams of their own, and a toy model folder to run them on."""

import io
import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from commands import Result, Run
from toy import write_toy

from manako import cli

MODELS = ("toy", "demo-en")
HIDDEN = ("LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LANG", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder: 2 layers, context 16, characters with byte fallback."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    write_toy(folder)
    return str(folder)


@pytest.fixture(params=MODELS)
def ref(request: pytest.FixtureRequest, toy: str) -> str:
    """A reference for -m."""
    return toy if request.param == "toy" else request.param


class Terminal(io.BytesIO):
    """Bytes that say that they go to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `manako` in this process; its help texts alone keep the language in which pytest was started.

    stdin: bytes. env: variables; none of the developer's terminal show. encoding: of both outputs. tty: whether the
    output is a terminal.
    """

    def run(
        *arguments: object,
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        encoding: str = "utf-8",
        tty: bool = False,
    ) -> Result:
        words = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments]
        with monkeypatch.context() as patch, mock.patch.dict(os.environ):  # a command may set variables for itself
            for name in (*HIDDEN, "MANAKO_AMBIGUOUS_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
                patch.delenv(name, raising=False)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            out, err = Terminal() if tty else io.BytesIO(), io.BytesIO()
            patch.setattr(sys, "argv", ["manako", *words])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding, newline="\n", write_through=True))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding, newline="\n", write_through=True))
            with pytest.raises(SystemExit) as ended:
                cli.main()
            sys.stdout.flush()
            sys.stderr.flush()
            found = Result(int(ended.value.code or 0), out.getvalue().decode(encoding), err.getvalue().decode(encoding))
        return found

    return run


@pytest.fixture
def saved(run: Run, toy: str, tmp_path: Path) -> Path:
    """A record of four steps."""
    path = tmp_path / "a.manako"
    assert run("watch", "私は", "-m", toy, "--seed", 3, "-n", 4, "--save", path).code == 0
    return path
