"""Small products on one thread, and the allocator of the test process left as it is."""

from collections.abc import Iterator

import pytest
import torch

from manako.training import machine


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(machine, "avoid_page_faults", lambda: None)  # a setting of the whole process
    monkeypatch.setattr(machine, "PROBE", 64)
    yield
    torch.set_num_threads(before)
