"""Results of a sweep: read strictly, and compared at the same steps and the same compute."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from manako.analysis.sweep import RESULTS, Failure, Outcome, Reached, compare_runs, read_results, results_lines, within
from manako.errors import LoadError

ONE = Outcome(
    run="1_tokenizer=char", varied={"tokenizer": "char"}, parameters=1000, embeddings=300, block_size=64,
    corpus_characters=500, steps=100, characters=2000.0, flops=1e9, seconds=60.0, bits_per_character=4.0, best_step=75,
    last_bits_per_character=4.1, characters_per_token=1.0, curve=[[25, 6.0], [50, 5.0], [75, 4.0], [100, 4.1]],
)  # fmt: skip
TWO = replace(
    ONE, run="2_tokenizer=bpe-300", varied={"tokenizer": "bpe:300"}, steps=50, flops=2e9, characters_per_token=1.5,
    curve=[[25, 5.5], [50, 3.9]],
)  # fmt: skip


def test_what_follows_from_the_figures() -> None:
    assert ONE.epochs == 4 and ONE.different_characters == 500 and TWO.context == 96
    assert replace(ONE, characters=100.0).different_characters == 100


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found: list[Outcome | Failure] = [ONE, Failure("3_x", {"n_embd": 64, "no_attention": True}, "it broke [E-X]"), TWO]
    (tmp_path / RESULTS).write_bytes(results_lines(found))
    assert read_results(tmp_path) == found


@pytest.mark.parametrize("change", [
    {"steps": -1}, {"steps": 1.5}, {"curve": []}, {"curve": [[1]]}, {"curve": [[1, "a"]]}, {"run": 3}, {"more": 1},
    {"varied": {"a": None}}, {"corpus_characters": 0}, {"characters": 0}, {"bits_per_character": True}, {"error": "x"},
    {"parameters": 0}, {"steps": 0}, {"block_size": 0}, {"flops": 0}, {"characters_per_token": 0.0},
    {"parameters": 10**400}, {"flops": 1e300}, {"curve": [[10**400, 1]]},
], ids=str)  # fmt: skip
def test_a_line_that_is_none_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / RESULTS).write_text(json.dumps(asdict(ONE)) + "\n" + json.dumps(asdict(ONE) | change) + "\n")
    with pytest.raises(LoadError) as refused:
        read_results(tmp_path)
    assert refused.value.key == "json_invalid" and f"{RESULTS}:2" in str(refused.value)


def test_a_run_may_begin_at_its_best_and_know_its_text_by_heart(tmp_path: Path) -> None:
    known = replace(ONE, best_step=0, bits_per_character=0.0, seconds=0.0, curve=[[0, 0.0], [100, 0.0]])
    (tmp_path / RESULTS).write_bytes(results_lines([known]))
    assert read_results(tmp_path) == [known]


def test_within_a_budget_it_is_the_best_so_far() -> None:
    assert within(ONE, 100) == Reached(4.0, 100, False)
    assert within(ONE, 74.9) == Reached(5.0, 50, True)
    assert within(ONE, 10) == Reached(None, 0, True)


def test_the_same_steps_and_the_same_compute() -> None:
    compared = compare_runs([ONE, TWO])
    assert (compared.steps, compared.flops) == (50, 1e9)
    assert compared.at_steps == (Reached(5.0, 50, True), Reached(3.9, 50, False))
    assert compared.at_flops == (Reached(4.0, 100, False), Reached(5.5, 25, True))


def test_budgets_that_differ_by_a_step_are_the_same() -> None:
    compared = compare_runs([ONE, replace(TWO, flops=1.004e9)])
    assert [r.early for r in compared.at_flops] == [False, False]
