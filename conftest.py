"""The fast lane: plain `pytest` leaves out what is slow and what needs PyTorch, a browser or Node.

Special here: such files are not even imported, since importing torch alone takes seconds; `-m ""` runs everything.
"""

import os
import sys
from pathlib import Path

import pytest

# Products are small, here and in all that tests start: more threads would only wait for one another, and spin.
assert "numpy" not in sys.modules  # which reads it when it is imported
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

FAST = "not slow"  # as in pyproject.toml
NEEDS_MORE = {  # what the fast lane does not import: why
    "src/manako/training": "torch",
    "src/manako/engines/hf_engine.py": "torch",
    "src/manako/engines/hf_parts.py": "torch",
    "tests/training": "torch",
    "tests/parity": "torch, transformers",
    "tests/integration": "a model of 98 MB",
    "tests/cli/test_evidence.py": "torch: it trains what it asks",
    "tests/cli/test_import.py": "torch, which writes the file",
    "tests/cli/test_sweep.py": "torch",
    "tests/cli/test_train.py": "torch",
    "tests/experiments/test_dynamics.py": "torch: it trains what it looks at",
    "tests/experiments/test_ray.py": "torch, Ray",
    "tests/experiments/test_sweep.py": "torch",
    "tests/experiments/test_training_step.py": "torch",
    "tests/engines/test_hf_engine.py": "torch, transformers",
    "tests/formats/test_legacy_pt.py": "torch, which writes the files",
    "tests/formats/test_nanogpt.py": "torch, which writes the files",
    "tests/page": "Chromium",
    "tests/server/test_openapi.py": "schemathesis",
    "tests/support/pages.py": "Chromium",
    "tests/support/small_runs.py": "torch",
    "tests/support/toy_hf.py": "torch, transformers",
    "tests/test_kills.py": "torch",
    "tests/views/web": "Node",
}
LONGEST = (  # files with tests of up to a minute: begun last, all other processes would wait for one of them
    "tests/training/test_kills.py",
    "tests/training/test_memory.py",
    "tests/test_kills.py",
    "tests/test_distribution.py",
    "tests/cli/test_train.py",
    "tests/experiments/test_ray.py",
    "tests/experiments/test_sweep.py",
    "tests/integration/test_smollm2.py",
    "tests/page/test_lessons.py",
    "tests/server/test_openapi.py",
    "tests/server/test_soak.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not (item.nodeid.startswith(LONGEST) and item.get_closest_marker("slow")))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    path = collection_path.relative_to(config.rootpath) if collection_path.is_relative_to(config.rootpath) else None
    if path is None or config.option.markexpr != FAST or path.as_posix() not in NEEDS_MORE:
        return None
    return True


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.markexpr == FAST:
        return 'fast lane: without slow tests and without PyTorch, browser and Node; everything: pytest -m ""'
    return None
