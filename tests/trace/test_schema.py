"""schema.json against what it must agree with: the sampler, the records, and the page about the format."""

import json
from pathlib import Path
from typing import Any

import manako
from manako.engines.captures import RECORDERS
from manako.sampling import STAGES, Sampling
from manako.trace.captures import CLASSES
from manako.trace.schema import CAPTURES

ROOT = Path(__file__).parents[2]
TABLE: dict[str, Any] = json.loads((Path(manako.__file__).parent / "trace" / "schema.json").read_text("utf-8"))
GROUPS: dict[str, dict[str, Any]] = TABLE["columns"] | TABLE["captures"]


def test_every_column_speaks_of_what_the_table_names() -> None:
    named = [name for group in GROUPS.values() for name in group]
    assert len(set(named)) == len(named)
    for group in GROUPS.values():
        for column in group.values():
            assert column["dtype"] in TABLE["dtypes"] and column.get("numbers", "id") in TABLE["numbers"]
            assert all(type(axis) is int or axis.split("+")[0] in TABLE["axes"] for axis in column["axes"])


def test_stages_are_those_of_the_sampler_in_its_default_order() -> None:
    listed = [{key: value for key, value in stage.items() if key != "since"} for stage in TABLE["stages"]]
    assert listed == [{"name": s.name} | s.rule | {"neutral": s.neutral} for s in STAGES]
    assert [stage["name"] for stage in TABLE["stages"]] == list(Sampling().order)


def test_whatever_is_new_raises_the_version() -> None:
    """So that an older program says that a trace is newer than it, not that it is damaged."""
    first = {"repetition_penalty", "presence_penalty", "frequency_penalty", "temperature"}
    first |= {"top_k", "top_p", "min_p", "typical_p"}
    assert {stage["name"] for stage in TABLE["stages"] if "since" not in stage} <= first
    columns = [column for group in GROUPS.values() for column in group.values()]
    since = [each.get("since", 1) for each in (*TABLE["trace"]["header"].values(), *columns, *TABLE["stages"])]
    assert max(since) == TABLE["trace"]["version"]


def test_the_captures_of_the_table_have_a_class_and_a_recorder_each_in_one_order() -> None:
    assert tuple(TABLE["captures"]) == CAPTURES == tuple(CLASSES) == tuple(each.name for each in RECORDERS)


def test_the_page_about_the_format_names_every_column_and_key() -> None:
    text = (ROOT / "docs" / "trace-format.md").read_text("utf-8")
    names = [name for group in GROUPS.values() for name in group] + list(TABLE["trace"]["header"])
    assert [name for name in names if f"`{name}`" not in text] == []
