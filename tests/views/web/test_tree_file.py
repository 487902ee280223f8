"""The page's reader and writer of trees against `manako.trace.tree`: the same branches, the same verdicts."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from trees import toy_tree

from manako.errors import LoadError
from manako.trace.file import older_digest, to_bytes
from manako.trace.schema import TRACE
from manako.trace.tree import Branch, Tree, open_tree, tree_bytes

KEY = "manako.tree"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def found(ask: Ask) -> dict[str, Any]:
    return ask("branches", tree_bytes(toy_tree()))


def test_the_page_reads_what_python_wrote(found: dict[str, Any]) -> None:
    tree = toy_tree()
    assert found["current"] == tree.current
    for branch, got in zip(tree.branches, found["branches"], strict=True):
        assert (got["id"], got["parent"], got["keep"]) == (branch.id, branch.parent, branch.keep)
        assert got["bytes"].tobytes() == to_bytes(branch.trace)


def test_python_reads_what_the_page_wrote(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "tree.manako"
    file.write_bytes(ask("rewritten", tree_bytes(toy_tree())).tobytes())
    assert tree_bytes(open_tree(file)) == tree_bytes(toy_tree())


def test_the_stored_tree_of_version_1_is_read(ask: Ask) -> None:
    file = Path(__file__).parents[2] / "fixtures" / "tree-1.manako"
    assert ask("recordErrors", [file.read_bytes()]) == [None]
    got = ask("branches", file.read_bytes())
    assert [(b["id"], b["parent"], b["keep"]) for b in got["branches"]] == [
        (b.id, b.parent, b.keep) for b in open_tree(file).branches
    ]


def test_a_single_trace_is_a_tree_of_one_branch(ask: Ask) -> None:
    trace = toy_tree().branches[0].trace
    got = ask("branches", to_bytes(trace))
    assert [(b["id"], b["parent"], b["keep"]) for b in got["branches"]] == [("1", None, 0)]
    assert got["paths"]["1"]["places"] == [["1", i, None] for i in range(len(trace))]


def test_a_place_has_the_numbers_of_the_branch_that_made_it(found: dict[str, Any]) -> None:
    tree = {branch.id: branch for branch in toy_tree().branches}
    forced = int(tree["2"].trace.columns.prompt_ids[-1])
    assert found["paths"]["2"]["places"] == [
        ["1", 0, None], ["1", 1, None], ["1", 2, forced], ["2", 0, None], ["2", 1, None], ["2", 2, None],
    ]  # fmt: skip
    assert found["paths"]["2-1"]["places"] == [
        ["1", 0, None], ["1", 1, None], ["1", 2, forced], ["2", 0, None], ["2-1", 0, None], ["2-1", 1, None],
    ]  # fmt: skip
    typed = tree["3"].trace.columns.prompt_ids[len(tree["1"].trace.columns.prompt_ids) :]
    assert len(typed) > 1
    rows = found["paths"]["3"]["places"]
    assert rows[0] == ["1", 0, int(typed[0])]
    assert rows[1 : len(typed)] == [None] * (len(typed) - 1)  # no step stands behind them
    assert rows[len(typed) :] == [["3", 0, None], ["3", 1, None]]


def test_rows_are_indented_and_one_text_that_goes_on_is_one_row(ask: Ask, found: dict[str, Any]) -> None:
    assert found["rows"] == [[["1"], 0], [["2"], 1], [["2-1"], 2], [["3"], 1], [["b"], 0]]
    tree = toy_tree()
    first = tree.branches[0].trace
    whole = Tree((*tree.branches, Branch("on", "b", 1, _after(tree.branches[4].trace))), "1")
    assert ask("branches", tree_bytes(whole))["rows"][-1] == [["b", "on"], 0]
    assert len(first)


def _after(trace: Any) -> Any:
    """The same text once more, as if it had been written behind itself."""
    columns = replace(trace.columns, prompt_ids=trace.all_ids)
    return replace(trace, columns=columns, header=replace(trace.header, first_step=len(trace)))


def verdict(data: bytes, file: Path) -> str | None:
    file.write_bytes(data)
    try:
        open_tree(file)
    except LoadError as error:
        return error.key
    return None


def hostile_trees() -> dict[str, bytes]:
    """Files that hold a tree's parts put together wrongly, each with a digest that fits."""
    data = tree_bytes(toy_tree())
    arrays = safetensors.numpy.load(data)
    with_metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][KEY]
    meta = json.loads(with_metadata)
    older = meta | {"schema": "manako.tree/1"}

    def put(changed: Any, columns: Any = None, digest: str | None = None) -> bytes:
        text = changed if isinstance(changed, str) else json.dumps(changed, ensure_ascii=False, sort_keys=True)
        metadata = {KEY: text, "manako.sha256": digest or hashlib.sha256(text.encode()).hexdigest()}
        return safetensors.numpy.save(arrays if columns is None else columns, metadata=metadata)

    def branch(n: int, **values: Any) -> bytes:
        listed = [dict(each) for each in meta["branches"]]
        listed[n] |= values
        return put(meta | {"branches": listed})

    other = to_bytes(toy_tree().branches[4].trace)
    newer = other.replace(TRACE.id.encode(), b"manako.trace/9")
    return {
        "whole": put(meta),
        "newer": put(meta | {"schema": "manako.tree/3"}),
        "another schema": put(meta | {"schema": "x"}),
        "no schema": put({k: v for k, v in meta.items() if k != "schema"}),
        "one key more": put(meta | {"more": 1}),
        "no current": put(meta | {"current": "9"}),
        "current of no text": put(meta | {"current": 1}),
        "no branches": put(meta | {"branches": []}),
        "branches of no list": put(meta | {"branches": {}}),
        "another digest": put(meta, digest="0" * 64),
        "version 1": put(older | {"sha256": older_digest(older)}),
        "version 1, another digest": put(older | {"sha256": "0" * 64}),
        "version 1, its digest where version 2 has it": put(older),
        "not JSON": put("{"),
        "no object": put("[]"),
        "twice a key": put('{"schema": "manako.tree/1", "schema": "manako.tree/1"}'),
        "a missing array": put(meta, {k: v for k, v in arrays.items() if k != "b"}),
        "an array more": put(meta, arrays | {"x": arrays["b"]}),
        "an array of numbers": put(meta, arrays | {"b": arrays["b"].astype(np.int32)}),
        "a square array": put(meta, arrays | {"b": arrays["b"][:4].reshape(2, 2)}),
        "a trace cut short": put(meta, arrays | {"b": arrays["b"][:-1]}),
        "no trace": put(meta, arrays | {"b": np.frombuffer(b"\x89PNG\r\n\x1a\n" + bytes(50), np.uint8)}),
        "a newer trace": put(meta, arrays | {"b": np.frombuffer(newer, np.uint8)}),
        "another's trace": put(meta, arrays | {"2": arrays["b"]}),
        "an id of odd letters": branch(0, id="a b"),
        "an id twice": branch(1, id="1"),
        "an id of no text": branch(1, id=2),
        "a parent behind its child": put(meta | {"branches": meta["branches"][::-1]}),
        "an unknown parent": branch(1, parent="x"),
        "a root that keeps": branch(0, keep=1),
        **{f"keep {keep!r}": branch(1, keep=keep) for keep in (0, 1, 3, 6, -1, 2.0, True, None, 2**70)},
        "one's own parent": branch(1, parent="2"),
    }


def test_the_same_verdict_on_hostile_trees(ask: Ask, tmp_path: Path) -> None:
    files = hostile_trees()
    expected = {name: verdict(data, tmp_path / "tree.manako") for name, data in files.items()}
    got = {n: e and e["key"] for n, e in zip(files, ask("recordErrors", list(files.values())), strict=True)}
    assert got == expected
    # keeping less of the parent fits too: then more of what stands in front counts as put in
    assert [name for name, key in expected.items() if key is None] == ["whole", "version 1", "keep 0", "keep 1"]
    assert set(expected.values()) == {None, "trace_newer", "trace_damaged", "json_invalid"}


def test_the_same_verdict_on_flipped_bits(ask: Ask, tmp_path: Path) -> None:
    data, chance = tree_bytes(toy_tree()), random.Random(7)
    head = 8 + int.from_bytes(data[:8], "little")
    files = []
    for n in range(200):
        changed = bytearray(data)
        changed[chance.randrange(head if n % 2 else len(data))] ^= 1 << chance.randrange(8)
        files.append(bytes(changed))
    expected = [verdict(each, tmp_path / "tree.manako") for each in files]
    assert [e and e["key"] for e in ask("recordErrors", files)] == expected
    assert expected.count(None) == sum(each == data for each in files)
