"""How many threads a command leaves to the linear algebra, which NumPy reads when it is imported."""

import os
import subprocess
import sys

import pytest

from manako.cli import draws_little


@pytest.mark.parametrize(("words", "little"), [
    ("watch 私は", True),
    ("--lang ja watch 私は -n 15", True),
    ("compare 私は --max-new-tokens 100", True),
    ("watch 私は -n 101", False),
    ("watch 私は -n x", False),
    ("watch 私は --max-new-tokens=5000", False),
    ("watch 私は -m runs/mine", False),
    ("watch 私は --model=runs/mine", False),
    ("train --data a --out b", False),
    ("", False),
])  # fmt: skip
def test_few_tokens_of_an_embedded_model_have_one(words: str, little: bool) -> None:
    assert draws_little(words.split()) == little


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.slow
@pytest.mark.parametrize(("given", "used"), [(None, 1), ("2", min(2, CORES))])  # OpenBLAS starts no more
def test_what_the_user_set_stays(given: str | None, used: int) -> None:
    environment = {n: v for n, v in os.environ.items() if not n.endswith("_NUM_THREADS")}
    environment |= {} if given is None else {"OPENBLAS_NUM_THREADS": given}
    code = (
        "import sys, os; from manako.cli import main; sys.argv = ['manako', 'watch', 'a', '-n', '1', '--json']; main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert found.returncode == 0 and f'"threads": {used}' in found.stdout, found.stderr
