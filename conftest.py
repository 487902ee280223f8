"""The fast lane: plain `pytest` leaves out what is slow and what needs PyTorch, a browser or Node.

Special here: such files are not even imported, since importing torch alone takes seconds; `-m ""` runs everything.
"""

from pathlib import Path

import pytest

FAST = "not slow"  # as in pyproject.toml
NEEDS_MORE = {  # what the fast lane does not import: why
    "src/manako/training": "torch",
    "src/manako/engines/hf_engine.py": "torch",
    "src/manako/engines/hf_parts.py": "torch",
    "tests/training": "torch",
    "tests/parity": "torch, transformers",
    "tests/integration": "a model of 98 MB",
    "tests/cli/test_evidence.py": "torch: it trains what it asks",
    "tests/cli/test_train.py": "torch",
    "tests/engines/test_hf_engine.py": "torch, transformers",
    "tests/formats/test_legacy_pt.py": "torch, which writes the files",
    "tests/page": "Chromium",
    "tests/server/test_openapi.py": "schemathesis",
    "tests/support/pages.py": "Chromium",
    "tests/support/small_runs.py": "torch",
    "tests/support/toy_hf.py": "torch, transformers",
    "tests/test_kills.py": "torch",
    "tests/views/web": "Node",
}
KNOWN = {  # tests that fail, by the beginning of their ids: what is wrong; take a line off with its repair
    "tests/cli/test_compare.py::test_two_models_with_different_tokenizers": "a long path fills the head of its column",
    "tests/test_encoder.py::test_an_expression_that_is_too_slow": "its limit is of time; a fast machine stays below",
    "tests/test_encoder.py::test_a_normaliser_cannot_take_all_memory": "the message names characters, not the memory",
    "tests/trace/test_record.py::test_a_record_of_a_schema_before_opens": "older records have no contribution_mean",
    "tests/trace/test_tree.py::test_a_tree_of_the_version_before_opens": "older records have no contribution_mean",
    "tests/training/test_memory.py::test_with_little_memory_a_command_ends": "oneDNN says it has no memory its own way",
    "tests/views/web/test_trace_file.py::test_the_same_verdict_on_every_odd": "the page bounds a check's limit",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for begun, reason in KNOWN.items():
            if item.nodeid.startswith(begun):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=False))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    path = collection_path.relative_to(config.rootpath) if collection_path.is_relative_to(config.rootpath) else None
    if path is None or config.option.markexpr != FAST or path.as_posix() not in NEEDS_MORE:
        return None
    return True


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.markexpr == FAST:
        return 'fast lane: without slow tests and without PyTorch, browser and Node; everything: pytest -m ""'
    return None
