"""What a frozen record with arrays promises: nobody writes into it, and it equals what holds the same."""

import ast
import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from sources import last_name, parsed

import manako
from manako.frozen import Frozen, sealed

SOURCE = Path(manako.__file__).parent


@dataclass(frozen=True, eq=False)
class Rows(Frozen):
    name: str
    rows: np.ndarray
    more: dict[str, np.ndarray]

    @cached_property
    def sums(self) -> np.ndarray:
        return self.rows.sum(axis=1)


def rows(name: str = "a", first: float = 1.0, more: str = "x") -> Rows:
    return Rows(name, np.array([[first, 2.0], [np.nan, 4.0]]), {more: np.arange(3)})


def test_nobody_writes_into_it_and_who_gave_the_array_still_may() -> None:
    given, inside = np.zeros(3), np.zeros(2)
    held = Rows("a", given, {"x": inside})
    for array in (held.rows, held.more["x"], held.rows[:2], replace(held, name="b").rows):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    given[0], inside[0] = 5, 6
    assert held.rows[0] == 5 and held.more["x"][0] == 6  # a view, no copy
    assert np.shares_memory(given, held.rows) and sealed(held.rows) is held.rows


def test_it_equals_what_holds_the_same_bytes() -> None:
    assert rows() == rows() and not rows() != rows() and hash(rows()) == hash(rows())  # NaN is in them
    for other in (rows(name="b"), rows(first=3.0), rows(more="y"), replace(rows(), more={}), "a", None):
        assert rows() != other
    assert rows(first=0.0) != rows(first=-0.0)
    for changed in (rows().rows.astype(np.float32), rows().rows.reshape(4), rows().rows.tolist()):
        assert rows() != replace(rows(), rows=changed)
    assert replace(rows(), rows=rows().rows[:, ::-1]) == replace(rows(), rows=rows().rows[:, ::-1].copy())
    assert [rows("b"), rows()].index(rows()) == 1 and rows() in {rows()}


def test_what_was_worked_out_on_the_way_does_not_count() -> None:
    looked = rows()
    assert looked.sums[0] == 3
    assert looked == rows() == copy.deepcopy(looked) == pickle.loads(pickle.dumps(looked))


# --- every dataclass of ours ------------------------------------------------------------------------------------------


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield path.relative_to(SOURCE).as_posix(), node


def array_names() -> set[str]:
    """What a type of arrays is called in our source: NumPy's own names, and ours for them."""
    names, before = {"ndarray", "NDArray"}, 0
    trees = [parsed(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))]
    while len(names) > before:
        before = len(names)
        for node in (node for tree in trees for node in tree.body if isinstance(node, ast.Assign)):
            if isinstance(node.value, ast.Subscript) and names & named(node.value):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def named(annotation: ast.AST) -> set[str]:
    """The names in a type, but for those that a function takes or gives."""
    if isinstance(annotation, ast.Subscript) and last_name(annotation.value) in ("Callable", "ClassVar"):
        return set()
    return {last_name(annotation)}.union(*(named(child) for child in ast.iter_child_nodes(annotation)))


def ways(node: ast.ClassDef) -> dict[str, str] | None:
    """The options of a dataclass; None of another class."""
    for decorator in node.decorator_list:
        if last_name(decorator.func if isinstance(decorator, ast.Call) else decorator) == "dataclass":
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            return {str(keyword.arg): ast.unparse(keyword.value) for keyword in keywords}
    return None


def undecided(source: list[tuple[str, ast.ClassDef]], arrays: set[str]) -> list[str]:
    """The dataclasses whose `==` would compare arrays, or would pass over them for a class that they inherit from."""
    wrong = set[str]()
    for _, node in source:
        bases = set(map(last_name, node.bases))
        fields = [line.annotation for line in node.body if isinstance(line, ast.AnnAssign)]
        if "Frozen" not in bases and not any(arrays & named(field) for field in fields):
            continue
        for file, each in source:
            options = ways(each) if each is node or each.name in bases else None
            if options is not None and options.get("eq") != "False":
                wrong.add(f"{file}: {each.name}")
    return sorted(wrong)


def test_every_dataclass_with_arrays_says_how_it_is_compared() -> None:
    """By what it holds (`Frozen`), or else by being the same: two arrays have no single truth value."""
    source, arrays = list(classes()), array_names()
    assert {"Array", "Floats", "Ids", "Row", "Tensors"} <= arrays and undecided(source, arrays) == []
    plain = "@dataclass(frozen=True)\nclass Base:\n    name: str\n"
    held = "@dataclass(frozen=True{})\nclass Held({}):\n    rows: Mapping[str, Floats] | None\n"
    seen = list[list[str]]()
    for text in (held.format("", ""), plain + held.format(", eq=False", "Base"), held.format(", eq=False", "Frozen")):
        nodes = [("a.py", node) for node in ast.walk(parsed(text)) if isinstance(node, ast.ClassDef)]
        seen.append(undecided(nodes, arrays))
    assert seen == [["a.py: Held"], ["a.py: Base"], []]


def test_records_are_compared_by_what_they_hold() -> None:
    """What a user holds: nothing of it is the same object when it is opened again."""
    by_content = {node.name for _, node in classes() if set(map(last_name, node.bases)) & {"Frozen", "Capture"}}
    assert {"Trace", "Step", "Columns", "Listed", "Attention", "Dynamics", "StepAttention", "TokenLife"} <= by_content
