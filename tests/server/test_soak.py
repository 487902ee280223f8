"""Many generations one after another: memory, descriptors and threads end as they were after the first few.

`pytest tests/server/test_soak.py -m "" --soak 2000` is the size for a night.
"""

import os
import sys
import threading
from pathlib import Path

import pytest
from serving import close, serving

import manako
from manako.server import generations

FEW = 60
FLAT = 24 * 2**20  # bytes: what an allocator may keep for itself


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_many_generations_leave_nothing_behind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "KEPT_BYTES", 2_000_000)  # traces that are kept on purpose would hide what leaks
    count = request.config.getoption("soak") or FEW
    seen: list[tuple[int, int, int]] = []
    with serving(manako.load("demo")) as server:
        for number in range(count):
            response = server.generate("私は", seed=number, max_new_tokens=15)
            text = response.read()
            close(response)
            assert text.count(b"event: step") == 15 or b"event: end" in text
            if number % max(1, count // 20) == 0:
                seen.append((memory(), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()))
    early, late = seen[len(seen) // 4], seen[-1]
    print([f"{m / 2**20:.0f} MB, {d} files, {t} threads" for m, d, t in seen])  # noqa: T201
    assert late[0] - early[0] < FLAT and late[1] <= early[1] + 2 and late[2] <= early[2] + 2
