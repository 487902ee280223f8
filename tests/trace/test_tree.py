"""A tree as one file: what was written comes back, every branch fits its parent, and nothing else is believed."""

import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from golden import golden_trace, of_version
from trees import toy_tree

import manako
from manako import messages
from manako.errors import LoadError, UsageError
from manako.trace.file import to_bytes
from manako.trace.tree import Branch, Tree, open_tree, tree_bytes

Meta = dict[str, Any]
Arrays = dict[str, Any]


def parts(data: bytes) -> tuple[Meta, Arrays]:
    """The JSON header and the arrays, read without our own code."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert metadata.keys() == {"manako.tree", "manako.sha256"}
    assert hashlib.sha256(metadata["manako.tree"].encode()).hexdigest() == metadata["manako.sha256"]
    return json.loads(metadata["manako.tree"]), safetensors.numpy.load(data)


def written(path: Path, meta: Meta | str, arrays: Arrays, digest: str | None = None) -> Path:
    """A file with this header and the digest that it should have, or another."""
    text = meta if isinstance(meta, str) else json.dumps(meta)
    metadata = {"manako.tree": text, "manako.sha256": digest or hashlib.sha256(text.encode()).hexdigest()}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))
    return path


def as_array(data: bytes) -> Any:
    return np.frombuffer(data, dtype=np.uint8)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    tree, path = toy_tree(), tmp_path / "tree.manako"
    path.write_bytes(tree_bytes(tree))
    again = open_tree(path)
    assert again.current == tree.current and again.only is None
    assert [(b.id, b.parent, b.keep) for b in again.branches] == [(b.id, b.parent, b.keep) for b in tree.branches]
    for one, other in zip(tree.branches, again.branches, strict=True):
        assert to_bytes(one.trace) == to_bytes(other.trace) and manako.verify(other.trace).ok
    assert tree_bytes(again) == tree_bytes(tree)


def test_the_file_is_as_the_page_of_the_format_says() -> None:
    tree = toy_tree()
    meta, arrays = parts(tree_bytes(tree))
    assert meta == {
        "schema": "manako.tree/2",
        "branches": [
            {"id": "1", "parent": None, "keep": 0},
            {"id": "2", "parent": "1", "keep": 2},
            {"id": "3", "parent": "1", "keep": 0},
            {"id": "2-1", "parent": "2", "keep": 1},
            {"id": "b", "parent": None, "keep": 0},
        ],
        "current": "2-1",
    }
    assert {id: (a.dtype, a.ndim, a.tobytes()) for id, a in arrays.items()} == {
        b.id: (np.uint8, 1, to_bytes(b.trace)) for b in tree.branches
    }


def test_a_branch_is_a_trace_file_by_itself(tmp_path: Path) -> None:
    _, arrays = parts(tree_bytes(toy_tree()))
    (tmp_path / "2.manako").write_bytes(arrays["2"].tobytes())
    assert manako.open(tmp_path / "2.manako").text == toy_tree().branches[1].trace.text


def test_a_single_trace_is_a_tree_of_one_branch(tmp_path: Path) -> None:
    golden_trace().save(tmp_path / "a.manako")
    tree = open_tree(tmp_path / "a.manako")
    assert [(b.id, b.parent, b.keep) for b in tree.branches] == [("1", None, 0)] and tree.current == "1"
    assert tree.only is not None and to_bytes(tree.only) == to_bytes(golden_trace())


def test_a_tree_is_no_trace_and_says_where_it_opens(tmp_path: Path) -> None:
    (tmp_path / "tree.manako").write_bytes(tree_bytes(toy_tree()))
    with pytest.raises(LoadError, match="holds a tree .*manako serve FILE or manako export html FILE") as caught:
        manako.open(tmp_path / "tree.manako")
    assert caught.value.code == "E-TREE-NOT-TRACE" and "5 本の分岐" in caught.value.text("ja")


@pytest.mark.parametrize("content", [b"", b"not a trace", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 9])
def test_what_is_no_record_is_refused_as_by_open(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.manako"
    path.write_bytes(content)
    said: list[str] = []
    for opener in (manako.open, open_tree):
        with pytest.raises(LoadError) as caught:
            opener(path)
        said.append(str(caught.value))
    assert said[0] == said[1]


# --- what makes no tree -----------------------------------------------------------------------------------------------

FIRST, SECOND, _, INNER, OTHER = toy_tree().branches
FOREIGN = replace(SECOND.trace, columns=replace(SECOND.trace.columns, prompt_ids=SECOND.trace.columns.prompt_ids[::-1]))
LATER = replace(SECOND.trace, header=replace(SECOND.trace.header, first_step=4))


@pytest.mark.parametrize(("branches", "current", "part"), [
    ((), "1", "branches"),
    ((FIRST,), "2", "current"),
    ((FIRST, FIRST), "1", "branch 1"),
    ((SECOND, FIRST), "1", "branch 2"),  # the child in front
    ((FIRST, replace(SECOND, parent="9")), "1", "branch 2"),
    ((FIRST, replace(SECOND, parent="2")), "1", "branch 2"),  # its own parent
    ((FIRST, replace(SECOND, parent=None)), "1", "branch 2"),  # a root keeps nothing
    ((replace(FIRST, keep=-1),), "1", "branch 1"),
    ((FIRST, replace(SECOND, keep=1)), "1", None),  # 1 kept and 2 put in are the same tokens and steps
    ((FIRST, replace(SECOND, keep=3)), "1", "branch 2"),  # the third is not the parent's
    ((FIRST, replace(SECOND, keep=5)), "1", "branch 2"),
    ((FIRST, replace(SECOND, keep=-1)), "1", "branch 2"),
    ((FIRST, replace(SECOND, keep=6)), "1", "branch 2"),
    ((FIRST, replace(INNER, keep=5)), "1", "branch 2-1"),
    ((FIRST, replace(OTHER, parent="1")), "1", "branch b"),  # shorter than what it would keep
    ((FIRST, replace(SECOND, trace=FOREIGN)), "1", "branch 2"),
    ((FIRST, replace(SECOND, trace=LATER)), "1", "branch 2"),
    ((replace(FIRST, id=""),), "", "branch "),
    ((replace(FIRST, id="a" * 33),), "a" * 33, "branch " + "a" * 33),
    ((replace(FIRST, id="é"),), "é", "branch é"),
    ((replace(FIRST, id="１"),), "１", "branch １"),  # a digit, but not of ASCII
    ((replace(FIRST, id="1\n"),), "1\n", "branch 1\\n"),
    ((replace(FIRST, id="__metadata__"),), "__metadata__", "branch __metadata__"),
    ((replace(FIRST, id="a" * 32),), "a" * 32, None),
    ((replace(FIRST, id="_-0Z"),), "_-0Z", None),
])  # fmt: skip
def test_branches_that_do_not_fit_are_named(branches: tuple[Branch, ...], current: str, part: str | None) -> None:
    if part is None:
        assert Tree(branches, current).current == current
        return
    with pytest.raises(UsageError) as caught:
        Tree(branches, current)
    assert (caught.value.key, caught.value.values["part"]) == ("tree_unfit", part)
    for lang in messages.LANGUAGES:
        assert part in caught.value.text(lang)


def test_a_tree_has_at_most_ten_thousand_branches() -> None:
    branches = tuple(replace(FIRST, id=str(n)) for n in range(10_001))
    assert len(Tree(branches[:-1], "7").branches) == 10_000
    with pytest.raises(UsageError, match="branches"):
        Tree(branches, "7")


# --- what anyone may have written -------------------------------------------------------------------------------------


def change(**values: Any) -> Callable[[Meta], Meta]:
    """The header with some keys changed; those set to ... are left out."""
    return lambda meta: {key: value for key, value in {**meta, **values}.items() if value is not ...}


def change_branch(number: int, **values: Any) -> Callable[[Meta], Meta]:
    def changed(meta: Meta) -> Meta:
        listed = [change(**values)(b) if n == number else b for n, b in enumerate(meta["branches"])]
        return {**meta, "branches": listed}

    return changed


@pytest.mark.parametrize(("made", "part"), [
    (change(schema="manako.trace/3"), "schema"),
    (change(schema=1), "schema"),
    (change(schema=...), "schema"),
    (change(current="9"), "current"),
    (change(current=["1"]), "current: not of type string"),
    (change(current=...), "current: missing or unknown"),
    (change(more=1), "more: missing or unknown"),
    (change(branches={}), "branches: not of type array"),
    (change(branches=[]), "branches: minItems is 1"),
    (change(branches=None), "branches: not of type array"),
    (change_branch(1, keep=True), "branches.keep: not of type integer"),
    (change_branch(1, keep=2.0), "branches.keep: not of type integer"),
    (change_branch(1, keep="2"), "branches.keep: not of type integer"),
    (change_branch(1, keep=None), "branches.keep: not of type integer"),
    (change_branch(1, keep=10**30), "branches.keep: more than 64 bits"),
    (change_branch(1, keep=-1), "branches.keep: minimum is 0"),
    (change_branch(1, id="a b"), "branches.id: pattern is ^[A-Za-z0-9_-]{1,32}$"),
    (change_branch(1, keep=4), "branch 2"),
    (change_branch(1, keep=...), "branches.keep: missing or unknown"),
    (change_branch(1, more=1), "branches.more: missing or unknown"),
    (change_branch(1, id=2), "branches.id: not of type string"),
    (change_branch(1, id=None), "branches.id: not of type string"),
    (change_branch(1, id="9"), "branch 9"),  # of no array
    (change_branch(1, id="1"), "branch 1"),  # twice
    (change_branch(1, parent=1), "branches.parent: not of type string or null"),
    (change_branch(1, parent=["1"]), "branches.parent: not of type string or null"),
    (change_branch(1, parent="3"), "branch 2"),
    (lambda meta: {**meta, "branches": meta["branches"][:4]}, "branches"),  # an array that no branch names
    (lambda meta: {**meta, "branches": meta["branches"][::-1]}, "branch 2-1"),
    (lambda meta: {**meta, "branches": [*meta["branches"][:4], "b"]}, "branches: not of type object"),
])  # fmt: skip
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, made: Callable[[Meta], Meta], part: str) -> None:
    meta, arrays = parts(tree_bytes(toy_tree()))
    path = written(tmp_path / "x.manako", made(meta), arrays)
    with pytest.raises(LoadError) as caught:
        open_tree(path)
    assert (caught.value.key, str(caught.value.values["part"])) == ("trace_damaged", part)


def test_a_header_with_another_digest_is_refused(tmp_path: Path) -> None:
    meta, arrays = parts(tree_bytes(toy_tree()))
    for digest in ("0" * 64, hashlib.sha256(json.dumps({**meta, "current": "1"}).encode()).hexdigest()):
        with pytest.raises(LoadError, match="__metadata__"):
            open_tree(written(tmp_path / "x.manako", meta, arrays, digest))
    text = {"manako.tree": json.dumps(meta)}
    (tmp_path / "x.manako").write_bytes(safetensors.numpy.save(arrays, text))  # no digest at all
    with pytest.raises(LoadError, match="__metadata__"):
        open_tree(tmp_path / "x.manako")
    assert open_tree(written(tmp_path / "x.manako", {**meta, "current": "1"}, arrays)).current == "1"


def test_a_tree_of_the_version_before_opens_as_it_was(tmp_path: Path) -> None:
    """Written by the version of that schema, its digest inside the header; the traces in it are of version 3."""
    path, tree = Path(__file__).parents[1] / "fixtures" / "tree-1.manako", toy_tree()
    again = open_tree(path)
    assert again.current == tree.current
    for one, other in zip(tree.branches, again.branches, strict=True):
        assert (one.id, one.parent, one.keep) == (other.id, other.parent, other.keep)
        assert one.trace.header.model.weights_sha256 == other.trace.header.model.weights_sha256
        then = other.trace.header  # which told less of the machine, and measured the cache at another step
        header = replace(one.trace.header, prompt_rewritten=True, model=then.model, self_checks=then.self_checks)
        before, columns = of_version(replace(one.trace, header=header), 3).columns, other.trace.columns
        assert header == then and manako.verify(other.trace).ok
        for name in ("prompt_ids", "token_id", "u", "window_start", "rank"):
            assert getattr(before, name).tobytes() == getattr(columns, name).tobytes(), name
        assert before.captured.keys() == columns.captured.keys() and columns.logits is not None
        # The digests in the file hold its bits; the engine of then summed a logit in another order.
        np.testing.assert_allclose(columns.logits, before.logits, rtol=1e-5, atol=1e-5)
    for old, new in ((b"manako.tree/1", b"manako.tree/2"), (b"2-1", b"2-2"), (b"sha256", b"sha257")):
        (tmp_path / "x.manako").write_bytes(path.read_bytes().replace(old, new, 1))
        with pytest.raises(LoadError):
            open_tree(tmp_path / "x.manako")


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{", '{"schema": "manako.tree/2", "schema": "manako.tree/2"}', "[" * 99]
)
def test_a_header_that_is_no_strict_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LoadError) as caught:
        open_tree(written(tmp_path / "x.manako", text, {}))
    assert caught.value.key in ("json_invalid", "trace_damaged")


def test_a_newer_tree_and_a_newer_trace_in_it_say_what_to_do(tmp_path: Path) -> None:
    meta, arrays = parts(tree_bytes(toy_tree()))
    with pytest.raises(LoadError) as caught:
        open_tree(written(tmp_path / "x.manako", {**meta, "schema": "manako.tree/3"}, arrays))
    assert caught.value.key == "trace_newer" and caught.value.values["found"] == "manako.tree/3"
    newer = re.sub(rb"manako\.trace/\d", b"manako.trace/9", arrays["2"].tobytes())
    with pytest.raises(LoadError) as caught:
        open_tree(written(tmp_path / "x.manako", meta, {**arrays, "2": as_array(newer)}))
    assert caught.value.key == "trace_newer" and caught.value.values["found"] == "manako.trace/9"


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "text", "tree", "type", "shape"])
def test_a_branch_that_is_no_whole_trace_is_named(tmp_path: Path, kind: str) -> None:
    meta, arrays = parts(tree_bytes(toy_tree()))
    good = arrays["2"]
    flipped = good.copy()
    flipped[-1] ^= 1
    arrays["2"] = {
        "cut": good[:-8],
        "flipped": flipped,
        "empty": good[:0],
        "text": as_array(b"not a trace"),
        "tree": as_array(tree_bytes(Tree((FIRST,), "1"))),  # a tree in a tree
        "type": good.view(np.int8),
        "shape": good.reshape(1, -1),
    }[kind]
    with pytest.raises(LoadError) as caught:
        open_tree(written(tmp_path / "x.manako", meta, arrays))
    assert caught.value.key == "trace_damaged" and str(caught.value.values["part"]).startswith("branch 2")


@pytest.mark.slow
def test_every_changed_bit_is_found(tmp_path: Path) -> None:
    data, rng, path = tree_bytes(Tree((FIRST, SECOND), "2")), random.Random(0), tmp_path / "x.manako"
    head, refused = 8 + int.from_bytes(data[:8], "little"), 0
    places = [*rng.sample(range(head), 100), *rng.sample(range(head, len(data)), 200)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            assert tree_bytes(open_tree(path)) == data  # 1E-16 for 1e-16: another spelling of the same record
        except LoadError:
            refused += 1
    assert refused >= len(places) - 2
