"""What a header says of NumPy's linear algebra: how many threads there are, not how many somebody asked for."""

import json
import os
import subprocess
import sys

import pytest

from manako.families import blas

ASKED = [
    {},
    {"OMP_NUM_THREADS": "64"},
    {"OPENBLAS_NUM_THREADS": "0", "OMP_NUM_THREADS": "1"},
    {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"},
    {"OMP_NUM_THREADS": "1,1"},
    {"OMP_NUM_THREADS": "²"},
    {"OPENBLAS_NUM_THREADS": "-1", "OMP_NUM_THREADS": " 1x"},
]


@pytest.mark.slow
@pytest.mark.skipif(blas._openblas("get_num_threads") is None, reason="its linear algebra does not tell")
def test_the_rule_is_that_of_the_library() -> None:
    """In processes of their own, since the library reads the variables when it is loaded."""
    code = "from manako.families.blas import *; print(threads(), threads_by_rule())"
    quiet = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=quiet | asked, stdout=subprocess.PIPE, text=True)
        for asked in ASKED
    ]
    told = [process.communicate()[0].split() for process in started]
    assert [len(each) for each in told] == [2] * len(ASKED), json.dumps(told)
    for asked, (library, rule) in zip(ASKED, told, strict=True):
        assert library == rule, asked
    assert told[3] == ["1", "1"]


def test_the_library_is_asked_where_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes the number while a program runs is believed; without an answer the rule stands in."""
    monkeypatch.setattr(blas, "_openblas", lambda name: lambda: 7)
    assert blas.threads() == 7
    monkeypatch.setattr(blas, "_openblas", lambda name: None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert blas.threads() == 1 and blas.kernel.__wrapped__() == {}
