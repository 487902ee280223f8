"""The grid of a sweep: every combination, checked before any text is read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manako.errors import LoadError, UsageError
from manako.experiments.grid import Grid, read_grid, read_values


def test_every_combination_in_order_the_last_fastest() -> None:
    grid = Grid(["a.txt"], {"n_layer": 2}, {"n_embd": [64, 128], "tokenizer": ["char", "bpe:2048"], "data": [0.1, 1]})
    points = list(grid.points())
    assert len(grid) == len(points) == 8 and len({p.name for p in points}) == 8
    assert points[0].name == "1_n_embd=64_tokenizer=char_data=0.1"
    assert points[2].name == "3_n_embd=64_tokenizer=bpe-2048_data=0.1"
    assert points[2].varied == {"n_embd": 64, "tokenizer": "bpe:2048", "data": 0.1}
    told = points[2].settings
    assert (told["n_layer"], told["tokenizer"], told["vocab_size"], told["data"]) == (2, "bpe", 2048, 0.1)
    assert points[0].settings["vocab_size"] == 8192  # the default: characters have no size


def test_runs_keep_no_snapshots_unless_asked() -> None:
    [point] = Grid(["a.txt"], {}, {"seed": [1]}).points()
    [asked] = Grid(["a.txt"], {"snapshots": 48}, {"seed": [1]}).points()
    assert (point.settings["snapshots"], asked.settings["snapshots"]) == (0, 48)


def test_ablation_switches_vary_too() -> None:
    name, values = read_values("no-attention=false,true")
    points = list(Grid(["a.txt"], {}, {name: values, "norm": ["pre", "post"]}).points())
    assert [(p.settings["no_attention"], p.settings["norm"]) for p in points] == [
        (False, "pre"), (False, "post"), (True, "pre"), (True, "post"),
    ]  # fmt: skip
    assert points[3].name == "4_no_attention=true_norm=post"


def test_a_grid_of_billions_is_counted_and_not_made() -> None:
    many = list(range(1, 1001))
    assert len(Grid(["a"], {}, {"seed": many, "n_layer": many, "steps": many, "batch_size": many})) == 10**12


@pytest.mark.parametrize(("base", "vary", "key"), [
    ({}, {"n_embed": [64]}, "setting_unknown"),
    ({"layers": 2}, {}, "setting_unknown"),
    ({}, {"max_minutes": [1, 2]}, "sweep_timed"),
    ({"replay": "runs/a"}, {}, "sweep_timed"),
    ({}, {"validation": [0.1, 0.2]}, "sweep_fixed"),
    ({}, {"kana": ["any", "modern"]}, "sweep_fixed"),
    ({"n_embd": 64}, {"n_embd": [64]}, "sweep_twice"),
    ({}, {"n_embd": [64, 64]}, "sweep_values"),
    ({}, {"n_embd": []}, "sweep_values"),
    ({"data": 0.5}, {}, "sweep_share_set"),
    ({"steps": 5}, {"flops": [1e9]}, "sweep_budgets"),
    ({}, {"n_embd": [64, 10]}, "train_heads"),
    ({}, {"n_embd": ["many"]}, "training_range"),
    ({}, {"n_layer": [2, 5000]}, "training_range"),
    ({"min_count": "a"}, {}, "training_range"),
    ({"tokenizer": "bpe"}, {"vocab_size": [300, "x"]}, "training_range"),
    ({"validation": "half"}, {}, "training_range"),
    ({"encoding": 5}, {}, "setting_text"),
    ({"authors": "夏目"}, {}, "setting_texts"),
    ({"skip_bad": 1}, {}, "setting_switch"),
    ({}, {"data": [0.1, 1.5]}, "sweep_share"),
    ({}, {"data": [True]}, "sweep_share"),
    ({}, {"flops": [-1]}, "training_range"),
    ({}, {"no_attention": [1]}, "setting_switch"),
    ({}, {"norm": ["rms"]}, "cli_choice"),
    ({}, {"tokenizer": ["bpe:many"]}, "sweep_tokenizer"),
    ({}, {"tokenizer": ["bpe:" + "9" * 5000]}, "training_range"),
    ({}, {"tokenizer": ["words"]}, "tokenizer_kind"),
    ({}, {"optimizer": ["sgd"]}, "cli_choice"),
    ({"format": "pdf"}, {}, "cli_choice"),
])  # fmt: skip
def test_what_makes_no_sense_is_one_line(base: dict[str, Any], vary: dict[str, list[Any]], key: str) -> None:
    with pytest.raises(UsageError) as refused:
        list(Grid(["a.txt"], base, vary).points())
    assert refused.value.key == key and "\n" not in refused.value.text("ja")


@pytest.mark.parametrize("data", [[], ["-"]])
def test_there_is_text_that_can_be_read_again(data: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        Grid(data, {}, {})
    assert refused.value.key == "sweep_data"


@pytest.mark.parametrize("text", ["n_embd", "n_embd=", "n_embd=,", "=3"])
def test_a_form_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        read_values(text)


def test_numbers_switches_and_names_are_read() -> None:
    assert read_values("learning_rate=1e-3,0.5") == ("learning_rate", [1e-3, 0.5])
    assert read_values("flops=1e12") == ("flops", [1e12])
    assert read_values("optimizer=adamw") == ("optimizer", ["adamw"])
    assert read_values("encoding=932") == ("encoding", ["932"])
    assert read_values("seed=" + "9" * 5000) == ("seed", ["9" * 5000])  # more than Python reads as a number
    assert read_values("n-layer=٣") == ("n_layer", ["٣"])  # refused later, by its range


def test_a_file_says_the_same_and_options_go_before_it(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('data = ["a.txt"]\nn_layer = 2\nsteps = 9\nsample = "x"\n[vary]\nn_embd = [64, 128]\ndata = 0.5\n')
    grid = read_grid(path, (), {}, {})
    assert grid == Grid(["a.txt"], {"n_layer": 2, "steps": 9}, {"n_embd": [64, 128], "data": [0.5]})
    told = read_grid(path, ["b.txt"], {"flops": 1e9, "n_embd": 32}, {"n_layer": [1, 2]})
    assert told == Grid(["b.txt"], {"flops": 1e9, "n_embd": 32}, {"data": [0.5], "n_layer": [1, 2]})


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    grid = Grid(["a.txt"], {"n_layer": 2, "authors": ["夏目"]}, {"tokenizer": ["char", "bpe:300"], "data": [0.5, 1]})
    (tmp_path / "s.toml").write_bytes(grid.to_toml())
    again = read_grid(tmp_path / "s.toml", (), {}, {})
    assert again.to_toml() == grid.to_toml() and list(again.points()) == list(again.points())
    assert [p.name for p in again.points()] == [p.name for p in grid.points()]
    numpy = Grid(["a.txt"], {"n_layer": np.int64(2), "authors": ("夏目",)}, grid.vary | {"data": np.array([0.5, 1])})
    assert list(numpy.points()) == [replace(p, name=q.name) for p, q in zip(grid.points(), numpy.points(), strict=True)]


@pytest.mark.parametrize(("content", "error", "key"), [
    ("n_layers = 2", UsageError, "config_key"),
    ("[vary]\nn_embed = [2]", UsageError, "config_key"),
    ("vary = 3", UsageError, "sweep_toml"),
    ("data = 3", UsageError, "sweep_toml"),
    ("= 3", LoadError, "toml_invalid"),
])  # fmt: skip
def test_files_that_are_no_grid(tmp_path: Path, content: str, error: type[UsageError], key: str) -> None:
    (tmp_path / "s.toml").write_text(content)
    with pytest.raises(error) as refused:
        read_grid(tmp_path / "s.toml", ["a"], {}, {})
    assert refused.value.key == key
