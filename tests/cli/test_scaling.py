"""`manako scaling` as a user types it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Run, unread

from manako.analysis.sweep import RESULTS, Failure, Outcome, results_lines

ONE = Outcome("r", {}, 1000, 300, 64, 10**9, 100, 1e6, 1e9, 60.0, 4.0, 100, 4.0, 1.0, [[100, 4.0]])


def write(sweep: Path, sizes: int, texts: int) -> None:
    runs: list[Outcome | Failure] = [
        replace(ONE, run=f"{n}-{d}", parameters=1000 * 2**n, characters=1e5 * 2**d, flops=6e8 * 2 ** (n + d),
                bits_per_character=1.5 + 4 / 2 ** (0.3 * n) + 3 / 2 ** (0.4 * d))
        for n in range(sizes) for d in range(texts)
    ]  # fmt: skip
    (sweep / RESULTS).write_bytes(results_lines([*runs, Failure("x", {}, "broken")]))


@pytest.mark.slow
def test_laws_are_fitted_shown_and_drawn(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install 'manako[plot]'")
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed: pip install 'manako[plot]'")
    write(tmp_path, 3, 3)
    done = run("scaling", tmp_path, "--plot", tmp_path / "a.html", "--lang", "en")
    assert done.code == 0 and "1 failed runs are left out" in done.err, done.err
    assert "Largest run left out (2-2): predicted" in done.out and "Not fitted: 3 different numbers" in done.out
    assert b"data:image/svg+xml" in (tmp_path / "a.html").read_bytes()
    [told] = json.loads(run("scaling", tmp_path, "--json").out)
    assert told["laws"][3]["left_out"]["measured"] == pytest.approx(1.5 + 4 / 2**0.6 + 3 / 2**0.8)
    again = run("scaling", tmp_path, "--plot", tmp_path / "a.html")
    assert again.code == 2 and "E-TARGET-EXISTS" in again.err


def test_too_few_runs_are_refused_plainly(run: Run, tmp_path: Path) -> None:
    write(tmp_path, 2, 2)
    done = run("scaling", tmp_path, "--lang", "ja")
    assert done.code == 4 and "E-SCALING-NONE" in done.err and done.out.count("当てはめません") == 4


@pytest.mark.slow
def test_the_plot_is_drawn_and_the_code_kept_where_nobody_reads(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install 'manako[plot]'")
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed: pip install 'manako[plot]'")
    write(tmp_path, 3, 3)
    plot = tmp_path / "a.svg"
    code, said = unread("scaling", tmp_path, "--plot", plot)
    assert code == 0 and str(plot) in said and plot.stat().st_size, said
    write(tmp_path, 2, 2)
    code, said = unread("scaling", tmp_path)
    assert code == 4 and "E-SCALING-NONE" in said


@pytest.mark.parametrize(("content", "code", "key"), [
    (None, 3, "E-FILE-MISSING"), (b"{", 3, "E-JSON-INVALID"), (b"{}\n", 3, "E-JSON-INVALID"),
    (b"", 4, "E-SCALING-NONE"),
])  # fmt: skip
def test_folders_that_hold_no_results(run: Run, tmp_path: Path, content: bytes | None, code: int, key: str) -> None:
    if content is not None:
        (tmp_path / RESULTS).write_bytes(content)
    done = run("scaling", tmp_path)
    assert done.code == code and key in done.err and "Traceback" not in done.err
