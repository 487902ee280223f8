"""`manako doctor`: what a bug report needs, and nothing that it should not have."""

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from commands import Run

from manako import __version__
from manako.cli import doctor


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where PyTorch is not installed: importing it takes seconds."""
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)


def test_the_facts_are_there_for_people_and_programs(run: Run, light: None) -> None:
    found = run("doctor", env={"LANG": "ja_JP.UTF-8"})
    assert (found.code, found.err) == (0, "") and "packages numpy" in found.out and "貼り付け" in found.out
    told = json.loads(run("doctor", "--json").out)
    assert told["schema"] == "manako.doctor/1" and told["manako"] == __version__
    assert told["blas"]["threads"] >= 1 and set(told["extras"]) == set(doctor.EXTRAS)

    assert told["torch"] is None and told["extras"]["train"].startswith(("not installed", "torch "))


@pytest.mark.slow
def test_what_is_installed_is_imported_and_told(run: Run) -> None:
    torch = pytest.importorskip("torch")
    told = json.loads(run("doctor", "--json").out)
    assert told["torch"]["threads"] == torch.get_num_threads()
    assert told["extras"]["train"] == f"torch {metadata.version('torch')}"


def test_no_secret_and_no_name_of_a_person(
    run: Run, light: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "somebody")
    env = {"HF_TOKEN": "secret-1", "AWS_SECRET_ACCESS_KEY": "secret-2", "HF_HOME": str(tmp_path / "somebody" / "hub")}
    out = run("doctor", env=env).out
    assert "secret" not in out and "somebody" not in out and str(Path("~") / "hub") in out


def test_a_user_without_a_home_is_told_all_the_same(run: Run, light: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pwd = pytest.importorskip("pwd")

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    told = run("doctor", "--json")
    assert told.code == 0 and json.loads(told.out)["folders"]["HF_HOME"].startswith("~"), told.err


def test_what_is_broken_is_said_and_stops_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_extra.py").write_text("raise OSError('libx.so is not there\\nsecond line')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "EXTRAS", {"none": ("no_such_package_at_all",), "bad": ("broken_extra",)})
    monkeypatch.setitem(sys.modules, "torch", None)
    told = json.loads(run("doctor", "--json").out)
    assert told["extras"] == {"none": "not installed", "bad": "broken_extra: OSError: libx.so is not there"}
    assert told["torch"] is None
