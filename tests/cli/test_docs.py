"""docs/cli.md is what --help prints."""

import importlib.util
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.slow
def test_the_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_cli", PAGE.with_name("make_cli.py"))
    assert spec and spec.loader
    make_cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_cli)
    assert PAGE.read_text(encoding="utf-8") == make_cli.page(), "run: python docs/make_cli.py"
