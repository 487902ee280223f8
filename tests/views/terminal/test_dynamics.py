"""A training in a terminal: it fits the window, shades follow the probability, hostile tokens stay text."""

from dataclasses import replace

import numpy as np
import pytest
from golden import golden_trace
from rich.cells import cell_len

from manako.trace.dynamics import Dynamics, DynamicsHeader
from manako.trace.record import Vocabulary
from manako.views.terminal import glyphs as g
from manako.views.terminal.dynamics import dynamics_lines
from manako.views.terminal.steps import Look

HOSTILE = (
    b"</script>",
    b"[bold]",
    b"\x1b[2J",
    "\u202e".encode(),
    b"\xe7\x9c",
    "👩‍👩‍👧".encode(),
    b"",
    "\u3000".encode(),
)


def record(snapshots: int = 4, tokens: tuple[bytes, ...] = ("私".encode(), "は".encode())) -> Dynamics:
    """Probabilities that rise to 0.9 evenly; the second token is the likeliest from the third snapshot on."""
    trace, size, count = golden_trace(), 20, len(tokens)
    p = np.linspace(0.005, 0.9, snapshots)[:, None].repeat(count, axis=1)
    rank = np.full((snapshots, count), 2, dtype=np.int32)
    rank[2:, 1:] = 1
    columns = {
        "step": np.arange(snapshots, dtype=np.int32) * 100,
        "prompt_ids": np.array([0], dtype=np.int32),
        "token_id": np.arange(count, dtype=np.int32),
        "logit": np.log(p).astype(np.float32),
        "logsumexp": np.zeros((snapshots, count)),
        "rank": rank,
    }
    model = {"config": trace.header.model.config}
    header = DynamicsHeader("runs/mine", "私は", count, model, ("",) * snapshots, (7,), (), 0, 0, (), size)
    vocabulary = Vocabulary([*tokens, *[b"x"] * (size - count)], size, frozenset())
    return Dynamics(header, columns, (trace,) * snapshots, vocabulary)


def lines(found: Dynamics, look: Look) -> list[str]:
    return [line.plain for line in dynamics_lines(found, look)]


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("snapshots", [2, 48, 300])
def test_the_map_fits_the_window_and_has_the_last_snapshot(lang: str, columns: int, snapshots: int) -> None:
    shown = lines(record(snapshots), Look(lang, columns))
    rows = [line for line in shown if "90.0%" in line]
    assert len(rows) == 2 and all(cell_len(line) <= columns and g.BLOCK.shades[-1] in line for line in rows)
    assert any("7" in line for line in shown[2:3])  # the snapshot that was left out
    assert f"{(snapshots - 1) * 100:,}" in shown[-1]


def test_shades_follow_the_probability() -> None:
    """0.005, 0.303, 0.602, 0.9: below 2 %, from 25 % on, and twice from 50 % on; three cells each."""
    row = next(line for line in lines(record(), Look("en", 80, g.ASCII)) if "90.0%" in line)
    assert "   ***######" in row
    said = lines(record(), Look("en", 80))
    assert next(line for line in said if line.startswith("'は'")).split()[-1] == "200"
    assert next(line for line in said if line.startswith("'私'")).split()[-1] == "-"


@pytest.mark.parametrize("plain", [False, True])
def test_nothing_but_text_leaves(plain: bool) -> None:
    found = replace(record(tokens=HOSTILE))
    for look in (Look("en", 80, plain=plain), Look("ja", 60, g.ASCII, plain=plain)):
        for line in lines(found, look):
            assert "\x1b" not in line and "\u202e" not in line and "\u200d" not in line
