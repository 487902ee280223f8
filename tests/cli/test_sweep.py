"""`manako sweep` as a user types it."""

import json
from pathlib import Path

import pytest
from commands import Run, unread

pytestmark = pytest.mark.usefixtures("small_probe")
TINY = [*"--set n_layer=1 --set n_head=1 --set n_embd=8 --set block_size=8 --set batch_size=2 --set device=cpu".split()]
SHORT = [*TINY, "--steps", "4", "--set", "eval_interval=2", "--lang", "en"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("私は猫である。名前はまだ無い。\n" * 80, encoding="utf-8")
    return tmp_path / "a.txt"


def test_one_command_plans_trains_and_compares(run: Run, text: Path, tmp_path: Path) -> None:
    words = ["sweep", "--data", text, "--out", tmp_path / "s", *SHORT, "--vary", "tokenizer=char,bpe:280"]
    done = run(*words)
    assert done.code == 0, done.err
    assert "2 runs of" in done.err and "FLOPs in total" in done.err and "1_tokenizer=char: " in done.err
    assert done.err.index("FLOPs in total") < done.err.index("run 1 of 2")
    assert "tokenizer" in done.out and "chars/token" in done.out and "bits per character\n" in done.out
    again = run("sweep", "--out", tmp_path / "s", "--lang", "ja")
    assert again.code == 0 and "2 回のうち 2 回の学習は済んでいます" in again.err and "文字/トークン" in again.out
    plain = run("sweep", "--out", tmp_path / "s", "--plain", "--lang", "en")
    assert "2_tokenizer=bpe-280: " in plain.out and "characters of context" in plain.out
    told = json.loads(run("sweep", "--out", tmp_path / "s", "--json").out)
    assert [each["varied"] for each in told] == [{"tokenizer": "char"}, {"tokenizer": "bpe:280"}]


def test_one_file_holds_the_whole_grid(run: Run, text: Path, tmp_path: Path) -> None:
    settings = 'n_layer = 1\nn_head = 1\nblock_size = 8\nbatch_size = 2\nsteps = 9\ndevice = "cpu"\n'
    (tmp_path / "grid.toml").write_text(f"data = {json.dumps(str(text))}\n{settings}[vary]\nn_embd = [8, 16]\n")
    done = run("sweep", "--config", tmp_path / "grid.toml", "--steps", "2", "--out", tmp_path / "s", "--json")
    assert done.code == 0 and [each["steps"] for each in json.loads(done.out)] == [2, 2], done.err


def test_a_run_that_cannot_be_trained_ends_with_code_1(run: Run, text: Path, tmp_path: Path) -> None:
    words = ["--vary", "learning_rate=1e-3,1e300", "--set", "grad_clip=1e300", "--set", "optimizer=adamw"]
    done = run("sweep", "--data", text, "--out", tmp_path / "s", *SHORT, *words)
    assert done.code == 1 and "1 of 2 runs failed" in done.err, done.err
    assert "2_learning_rate=1e+300 failed: " in done.out and "E-LOSS-NOT-FINITE" in done.out


@pytest.mark.slow
def test_the_plot_is_drawn_where_nobody_reads_the_table(text: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed: pip install 'manako[plot]'")
    words = ["--vary", "learning_rate=1e-3,1e300", "--set", "grad_clip=1e300", "--set", "optimizer=adamw"]
    plot = ["--plot", tmp_path / "a.svg"]
    code, said = unread("sweep", "--data", text, "--out", tmp_path / "s", *SHORT, *words, *plot)
    assert code == 1 and "1 of 2 runs failed" in said and (tmp_path / "a.svg").exists(), said


@pytest.mark.parametrize(("words", "code", "key"), [
    (["--vary", "n_embd"], 2, "E-SWEEP-FORM"),
    (["--vary", "n_embed=8"], 2, "E-SETTING-UNKNOWN"),
    (["--vary", "seed=1", "--vary", "seed=2"], 2, "E-SWEEP-TWICE"),
    (["--set", "seed=1,2"], 2, "E-SWEEP-ONE-VALUE"),
    (["--flops", "1e9"], 2, "E-SWEEP-BUDGETS"),
    (["--vary", "seed=" + ",".join(map(str, range(100))), "--vary", "warmup_steps=" + ",".join(map(str, range(100)))],
     2, "E-SWEEP-MANY"),
    (["--config", "none.toml"], 3, "E-FILE-MISSING"),
    (["--ray", "127.0.0.1:1"], 5, "E-MISSING-RAY"),
], ids=str)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Run, text: Path, tmp_path: Path, words: list[str], code: int, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manako.experiments.on_ray.find_spec", lambda name: None)
    if key == "E-SWEEP-BUDGETS":
        words = [*words, "--vary", "steps=1,2"]
    tiny = TINY if key == "E-SWEEP-BUDGETS" else SHORT
    for lang in ("en", "ja"):
        given = [*tiny, *words] if "--lang" in tiny else [*tiny, *words, "--lang", lang]
        done = run("sweep", "--data", text, "--out", tmp_path / "s", *given)
        assert done.code == code and done.err.count("\n") == 1 and f"[{key}" in done.err, done.err
        assert not (tmp_path / "s").exists()


def test_an_option_of_train_is_answered_by_how_a_sweep_takes_it(run: Run) -> None:
    assert "(--set n_layer=...?)" in run("sweep", "--n-layer", "2", "--lang", "en").err
    assert "--set" not in run("sweep", "--n-lyer", "2").err and "--set" not in run("watch", "私", "--n-layer", "2").err


def test_without_text_and_without_a_sweep(run: Run, tmp_path: Path) -> None:
    done = run("sweep", "--out", tmp_path / "s", "--vary", "seed=1,2")
    assert done.code == 2 and "E-SWEEP-DATA" in done.err and not (tmp_path / "s").exists()
    none = run("sweep", "--data", tmp_path / "none.txt", "--out", tmp_path / "t", *SHORT, "--vary", "seed=1,2")
    assert none.code == 3 and "E-FILE-MISSING" in none.err
