"""Free memory: what the system can give, which is not what nobody uses."""

from pathlib import Path

import pytest

from manako import memory

MEMINFO = """MemTotal:       24684508 kB
MemFree:            2048 kB
MemAvailable:   21504000 kB
Cached:         21000000 kB
SwapFree:           1000 kB
HugePages_Total:       0
"""


def test_what_the_system_keeps_of_files_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path / "memory.max")
    monkeypatch.setattr(memory, "_limit", lambda: None)
    assert memory.available_memory() == 21_505_000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() == 21_505_000 * 1024
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert memory.available_memory() == 10**9
    (tmp_path / "memory.max").unlink()
    (tmp_path / "meminfo").unlink()  # another system
    assert memory.available_memory() is None
