"""A small probe of the machine, and the allocator of the test process left as it is."""

import pytest

from manako.training import machine


@pytest.fixture(autouse=True)
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "avoid_page_faults", lambda: None)  # a setting of the whole process
    monkeypatch.setattr(machine, "PROBE", 64)
