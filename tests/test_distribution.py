"""What is published: the sdist holds what its README calls, the wheel what runs, the description no dead link."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from manako.refs import EMBEDDED

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (file,) = dist.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_sdist_holds_what_its_readme_calls(dist: Path) -> None:
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    called = set(re.findall(r"\]\((?!\w+:|#)([^)#]+)", README)) | set(re.findall(r"\bscripts/\w+", README))
    assert {x for x in called if x.rstrip("/") not in names and (ROOT / x).is_file()} == set()
    assert {"scripts/install", ".ci/run", "conftest.py", "tests/README.md", "requirements/dev.txt"} <= names
    assert "tests/fixtures/legacy_gpt2mini_char.pt" not in names and not [n for n in names if n.startswith(".venv")]


def test_the_wheel_holds_model_messages_and_types(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    folders = [folder for folder in EMBEDDED.values() if folder.is_dir()]
    expected = {f"manako/models/{folder.name}/{f.name}" for folder in folders for f in folder.iterdir()}
    expected |= {"manako/py.typed", "manako/messages/en.json", "manako/messages/ja.json", "manako/trace/record.py"}
    assert expected <= names and not [n for n in names if n.startswith("tests/")]


def test_the_description_leads_nowhere_that_is_not(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    description = wheel.read(name).decode().split("\n\n", 1)[1]
    relative = re.compile(r"\]\((?!https?:|#)[^)]*\)")
    assert relative.findall(README) and relative.findall(description) == [] and "眼" in description
