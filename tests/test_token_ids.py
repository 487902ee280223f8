"""Ids that a program gives: whole numbers of the vocabulary, or one clear error."""

import array
from typing import Any

import numpy as np
import pytest

from manako.errors import UsageError
from manako.token_ids import check_ids


@pytest.mark.parametrize("given", [
    [],
    (0, 4),
    range(5),
    [np.int64(3), 2],
    np.array([0, 4], dtype=np.uint16),
    np.array([4], dtype=np.uint64),
    np.arange(5, dtype=np.int8)[::2],
    array.array("i", [1, 2]),
    (i for i in (1, 2)),
], ids=lambda v: ascii(v)[:30])  # fmt: skip
def test_ids_of_any_kind_are_an_array(given: Any) -> None:
    expected = [*given] if not hasattr(given, "send") else [1, 2]
    found = check_ids(given, 5)
    assert found.tolist() == expected and found.dtype.kind in "iu"


def test_an_array_is_not_copied() -> None:
    given = np.zeros(9, dtype=np.uint16)
    assert check_ids(given, 1) is given


@pytest.mark.parametrize(("given", "named"), [
    ([-1, 5], "-1"),
    ([0, 5], "5"),
    ([10**6], "1000000"),
    ([10**40], str(10**40)),
    ([-(10**30)], str(-(10**30))),
    ([0, 1.0], "1.0"),
    ([float("nan")], "nan"),
    ([True, 1], "True"),
    ([None], "None"),
    (["1"], "1"),
    ([[0], [1]], "[0]"),
    ("12", "1"),
    (3, "3"),
    (None, "None"),
    (np.array([0, -1], dtype=np.int8), "-1"),
    (np.array([0, 2**63 + 7], dtype=np.uint64), str(2**63 + 7)),
    (np.array([1.0]), "1."),
    (np.array([True]), "True"),
    (np.array([[1]]), "[[1]]"),
    (np.array(3), "3"),
], ids=lambda v: ascii(v)[:30])  # fmt: skip
def test_what_is_no_id_is_refused_by_its_value(given: Any, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_ids(given, 5)
    assert refused.value.key == "token_ids" and refused.value.values["last"] == "4"
    assert named in str(refused.value.values["got"]) and "\n" not in refused.value.text("ja")


def test_there_may_be_too_few_or_too_many() -> None:
    assert len(check_ids([0] * 3, 5, least=1, most=3)) == 3
    for given in ([], [0] * 4, np.zeros(4, dtype=int)):
        with pytest.raises(UsageError) as refused:
            check_ids(given, 5, least=1, most=3)
        assert refused.value.key == "token_ids_count" and refused.value.values["got"] == str(len(given))
