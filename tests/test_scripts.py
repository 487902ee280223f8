"""Scripts say what they do and contributors are told of them; workflows may only read, and call scripts that exist."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(p for p in (ROOT / "scripts").iterdir() if not p.suffix)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.skipif(os.name == "nt", reason="files have no mode there")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_script_is_bash_that_stops_at_the_first_failure(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and lines[1].startswith("# ") and "set -euo pipefail" in lines
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_contributors_are_told_of_every_script() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [script.name for script in SCRIPTS if f"`scripts/{script.name}`" not in told] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_may_read_and_calls_scripts_that_exist(file: Path) -> None:
    yaml: Any = pytest.importorskip("yaml")
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = {name for step in steps for name in re.findall(r"\bscripts/\w+", step.get("run", ""))}
    assert [name for name in called if not (ROOT / name).exists()] == []
    assert [step["uses"] for step in steps if not re.search(r"@(release/)?v\d+$", step.get("uses", "x@v1"))] == []


def test_negative_control_there_are_scripts_and_workflows() -> None:
    assert len(SCRIPTS) >= 6 and len(WORKFLOWS) >= 3
