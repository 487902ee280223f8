"""One tiny run for all tests of experiments."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of 60 steps with twelve snapshots, beside its corpus; nothing may be written to it."""
    from small_runs import corpus_of, train

    from manako.training import machine
    from manako.training.run import keep_settings

    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "avoid_page_faults", lambda: None)
        patch.setattr(machine, "PROBE", 64)
        run = place / "tiny"
        train(run, corpus_of(place / "corpus"), snapshots=12)
    keep_settings(run, {}, [str(place / "corpus")])
    yield run
