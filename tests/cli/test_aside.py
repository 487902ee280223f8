"""Work in a thread that holds up nobody's end."""

import subprocess
import sys

import pytest
from commands import environment

from manako.cli.aside import aside

ENDS = """
import sys, time
from manako.cli.aside import aside, leave
import torch

def work():
    while True:
        torch.ones(1000).sum()

aside(work)
time.sleep(0.2)
print("said")
print("told", file=sys.stderr)
leave(3)
"""


def test_what_it_comes_to_is_a_result_or_an_error() -> None:
    assert aside(lambda: 5).result() == 5
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0).result()


@pytest.mark.slow
def test_a_command_ends_while_compiled_code_is_at_work() -> None:
    """All that was said is there, and the code; PyTorch's own threads would abort as Python closes."""
    done = subprocess.run([sys.executable, "-c", ENDS], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "told\n")
