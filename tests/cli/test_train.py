"""`manako train` and `manako resume` as a user types them."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import MANAKO, Run, environment

import manako
from manako import load
from manako.cli.training import Watched
from manako.formats import run_folder
from manako.messages.numbers import percent

pytestmark = pytest.mark.usefixtures("small_probe")
TEXT = "私は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 60
TINY = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--batch-size", "4"]
SHORT = [*TINY, "--steps", "8", "--eval-interval", "4", "--lang", "en"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_own_text_to_a_model_that_can_be_watched(run: Run, text: Path, tmp_path: Path) -> None:
    done = run("train", "--data", text, "--out", tmp_path / "m", *SHORT, "--sample", "私は", "--traces")
    assert done.code == 0 and done.out == "" and "step 8/8" in done.err and "sample: 私は" in done.err, done.err
    assert f"manako watch -m {tmp_path / 'm'}" in done.err
    watched = run("watch", "私は", "-m", f"run:{tmp_path / 'm'}@4", "-n", "2", "--seed", "0", "--json")
    assert watched.code == 0 and len(json.loads(watched.out)["steps"]) == 2
    assert manako.verify(manako.open(tmp_path / "m" / "traces" / "step-000008.manako")).failure is None
    learned = json.loads(run("training-step", tmp_path / "m", "--read", "私は猫", "--json").out)
    assert learned["schema"] == "manako.training_step/1" and learned["run"] == "m" and learned["change"] < 0
    assert [token["text"] for token in learned["tokens"]] == list("私は猫") and "schedule" not in learned["rate_from"]
    for lang in ("en", "ja"):
        shown = run("training-step", f"run:{tmp_path / 'm'}@4", "猫", "--learning-rate", "1e-4", "--lang", lang)
        assert shown.code == 0 and "1e-4" in shown.out and shown.err == ""
    failed = run("training-step", f"run:{tmp_path / 'm'}@0", "猫")
    assert failed.code == 4 and "4, 8" in failed.err and failed.err.count("\n") == 1
    settings = tomllib.loads((tmp_path / "m" / "config.toml").read_text(encoding="utf-8"))
    assert settings["steps"] == 8 and settings["n_embd"] == 16 and settings["data"] == [str(text)]


def test_eval_of_the_corpus_of_a_run_is_the_figure_of_the_training(run: Run, text: Path, tmp_path: Path) -> None:
    assert run("train", "--data", text, "--out", tmp_path / "m", *SHORT).code == 0
    said = json.loads((tmp_path / "m" / "metrics.jsonl").read_text().splitlines()[-1])
    found = run("eval", "-m", f"run:{tmp_path / 'm'}@8", "--data", tmp_path / "m" / "corpus", "--json")
    assert json.loads(found.out)["bits_per_character"] == pytest.approx(said["bits_per_character"], abs=3e-6), found.err
    other = run("eval", "--data", tmp_path / "m" / "corpus", "--lang", "en")
    assert other.code == 4 and "E-EVAL-OTHER-VOCABULARY" in other.err and other.err.count("\n") == 1


def test_a_config_file_and_a_preset_give_way_to_flags(run: Run, text: Path, tmp_path: Path) -> None:
    assert run("train", "--data", text, "--out", tmp_path / "a", *SHORT).code == 0
    again = run("train", "--config", tmp_path / "a" / "config.toml", "--out", tmp_path / "b", "--lang", "en")
    assert again.code == 0, again.err
    weights = [(run_folder.step_folder(tmp_path / n, 8) / "model.safetensors").read_bytes() for n in "ab"]
    assert weights[0] == weights[1]
    other = run("train", "--preset", "laptop-5min", "--config", tmp_path / "a" / "config.toml", "--seed", "5",
                "--out", tmp_path / "c")  # fmt: skip
    made = tomllib.loads((tmp_path / "c" / "config.toml").read_text(encoding="utf-8"))
    assert other.code == 0 and made["seed"] == 5 and made["n_layer"] == 1 and made["max_minutes"] == 5


@pytest.mark.parametrize("flags", [["--no-residual"], ["--norm", "post"], ["--no-attention"]], ids=str)
def test_each_ablation_can_be_watched_and_is_named(run: Run, text: Path, tmp_path: Path, flags: list[str]) -> None:
    assert run("train", "--data", text, "--out", tmp_path / "m", *SHORT, *flags).code == 0
    watched = run("watch", "私は", "-m", tmp_path / "m", "-n", "1", "--lang", "en")
    assert watched.code == 0 and "model trained with ablations" in watched.out
    step = run("training-step", tmp_path / "m", "--read", "私は", "--learning-rate", "1e-5", "--json")
    kinds = [part["kind"] for part in json.loads(step.out)["parts"]]
    assert ("attn" in kinds) == ("--no-attention" not in flags) and kinds[-1] == "final_norm"


def test_a_packed_corpus_is_trained_on_where_it_lies(run: Run, text: Path, tmp_path: Path) -> None:
    assert run("corpus", "build", text, "-o", tmp_path / "packed").code == 0
    done = run("train", "--data", tmp_path / "packed", "--out", tmp_path / "m", *SHORT)
    assert done.code == 0 and not (tmp_path / "m" / "corpus").exists(), done.err
    (tmp_path / "packed").rename(tmp_path / "moved")
    lost = run("resume", tmp_path / "m", "--lang", "en")
    assert lost.code == 3 and "packed" in lost.err and lost.err.count("\n") == 1
    assert run("resume", tmp_path / "m", "--data", tmp_path / "moved").code == 0
    assert run("corpus", "build", text, "-o", tmp_path / "other", "--min-count", "70").code == 0
    wrong = run("resume", tmp_path / "m", "--data", tmp_path / "other", "--lang", "en")
    assert wrong.code == 2 and "E-RESUME-CORPUS" in wrong.err, wrong.err


@pytest.mark.parametrize(
    "words, code, key",
    [
        (["--steps", "0"], 2, "E-TRAINING-RANGE"),
        (["--n-embd", "10", "--n-head", "4"], 2, "E-TRAIN-HEADS"),
        (["--n-layer", "0"], 2, "E-TRAINING-RANGE"),
        (["--n-layer", "5000"], 2, "E-TRAINING-RANGE"),
        (["--seed", str(2**64)], 2, "E-TRAINING-RANGE"),
        (["--learning-rate", "nan"], 2, "E-TRAINING-RANGE"),
        (["--max-minutes", "0"], 2, "E-TRAINING-RANGE"),
        (["--optimizer", "sgd"], 2, "E-CLI-CHOICE"),
        (["--block-size", "100000"], 2, "E-TEXT-TOO-SHORT"),
        (["--batch-sise", "3"], 2, "E-CLI-NO-SUCH-OPTION"),
        (["--probe", "a"], 2, "E-PROBE"),
        (["--probe", "=b"], 2, "E-PROBE"),
    ],
    ids=str,
)
def test_bad_settings_leave_nothing(
    run: Run, text: Path, tmp_path: Path, words: list[str], code: int, key: str
) -> None:
    tiny = [
        word for flag, value in zip(TINY[::2], TINY[1::2], strict=True) if flag not in words for word in (flag, value)
    ]
    done = run("train", "--data", text, "--out", tmp_path / "m", *tiny, *words, "--lang", "en")
    last = done.err.strip().splitlines()[-1]
    assert done.code == code and key in last, done.err
    assert not (tmp_path / "m").exists()


def test_a_probe_says_what_each_checkpoint_gives(run: Run, text: Path, tmp_path: Path) -> None:
    """Equal to the score of the text by that checkpoint; kept with the run for what goes on later."""
    done = run("train", "--data", text, "--out", tmp_path / "m", *SHORT, "--probe", "私=は")
    (line,) = [line for line in done.err.splitlines() if line.startswith("“私” → “は”")]
    step = load(tmp_path / "m").score("私は").steps[-1]
    assert f"{percent(step.chosen.p_model)} (rank {step.chosen.rank}, step " in line
    assert tomllib.loads((tmp_path / "m" / "config.toml").read_text())["probe"] == ["私=は"]


@pytest.mark.parametrize(
    "content, code, key",
    [(b"", 3, "E-CORPUS-EMPTY-FILE"), (bytes(range(32)) * 9, 3, "E-CORPUS-BINARY"), (None, 3, "E-FILE-MISSING")],
    ids=["empty", "binary", "missing"],
)
def test_bad_text_leaves_nothing(run: Run, tmp_path: Path, content: bytes | None, code: int, key: str) -> None:
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    done = run("train", "--data", tmp_path / "x.txt", "--out", tmp_path / "m", *SHORT)
    assert done.code == code and key in done.err and not (tmp_path / "m").exists()


def test_a_config_with_an_unknown_key_suggests_the_nearest(run: Run, text: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("n_layers = 3\n")
    done = run("train", "--data", text, "--config", tmp_path / "c.toml", "--out", tmp_path / "m", "--lang", "en")
    assert done.code == 2 and '"n_layers" (n_layer?)' in done.err and not (tmp_path / "m").exists()


@pytest.mark.parametrize("words", [
    ["--tokenizer", "bpe"], ["--min-count", "3"], ["--validation", "0.5"], ["--author", "夏目"], ["--kana", "modern"],
    ["--vocab-size", "500", "--tokenizer", "bpe"], ["--encoding", "cp932"], ["--format", "text"], ["--field", "body"],
], ids=str)  # fmt: skip
def test_settings_that_a_packed_corpus_was_not_made_with_are_refused(
    run: Run, text: Path, tmp_path: Path, words: list[str]
) -> None:
    assert run("corpus", "build", text, "-o", tmp_path / "packed", "--min-count", "4").code == 0
    done = run("train", "--data", tmp_path / "packed", "--out", tmp_path / "m", *SHORT, *words)
    assert done.code == 2 and "E-TRAIN-PACKED-SETTING" in done.err and not (tmp_path / "m").exists()


def test_what_a_packed_corpus_says_of_itself_is_what_the_run_says(run: Run, text: Path, tmp_path: Path) -> None:
    made = ["--tokenizer", "bpe", "--vocab-size", "300", "--validation", "0.2", "--encoding", "UTF8"]
    assert run("corpus", "build", text, "-o", tmp_path / "packed", *made).code == 0
    fitting = ["--tokenizer", "bpe", "--encoding", "utf-8", "--validation", "0.2"]
    done = run("train", "--data", tmp_path / "packed", "--out", tmp_path / "m", *SHORT, *fitting)
    assert done.code == 0, done.err
    settings = tomllib.loads((tmp_path / "m" / "config.toml").read_text(encoding="utf-8"))
    assert (settings["tokenizer"], settings["vocab_size"], settings["validation"]) == ("bpe", 300, 0.2)
    again = run("train", "--config", tmp_path / "m" / "config.toml", "--out", tmp_path / "again")
    assert again.code == 0, again.err


@pytest.mark.skipif(sys.platform != "linux", reason="file systems that take any bytes as a name")
def test_names_that_are_not_utf8_end_in_records_with_escaped_bytes(run: Run, text: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"\x94L\xff")
    data, packed, made = tmp_path / f"{odd}.txt", tmp_path / f"{odd}c", tmp_path / f"{odd}m"
    text.rename(data)
    assert run("corpus", "build", data, "-o", packed, "--author", "").code == 0
    corpus = json.loads((packed / "corpus.json").read_text(encoding="utf-8"))
    assert corpus["sources"] == [str(tmp_path) + "/\\x94L\\xff.txt"]
    refused = run("train", "--data", data, "--out", made, *SHORT, "--sample", odd)
    assert refused.code == 2 and "E-PROMPT-SURROGATE" in refused.err and not made.exists()
    for number, source in enumerate((data, packed)):
        run_of = tmp_path / f"{odd}{number}"
        assert run("train", "--data", source, "--out", run_of, *SHORT, "--sample", "a\x7f").code == 0
        settings = tomllib.loads((run_of / "config.toml").read_text(encoding="utf-8"))
        assert settings["sample"] == "a\x7f" and settings["data"][0].startswith(str(tmp_path) + "/\\x94L\\xff")
        gone_on = run("resume", run_of, *(["--data", packed] if number else []))
        assert gone_on.code == 0, gone_on.err
        assert run("eval", "-m", run_of, "--data", data).code == 0


def test_a_folder_in_use_or_not_a_run_is_refused(run: Run, text: Path, tmp_path: Path) -> None:
    assert run("train", "--data", text, "--out", tmp_path / "m", *SHORT).code == 0
    again = run("train", "--data", text, "--out", tmp_path / "m", *SHORT)
    assert again.code == 1 and "E-TARGET-EXISTS-FOLDER" in again.err
    with run_folder.locked(tmp_path / "m"):
        held = run("resume", tmp_path / "m")
    assert held.code == 1 and "E-RUN-IN-USE" in held.err
    none = run("resume", tmp_path)
    assert none.code == 3 and "E-RUN-NONE" in none.err


def start(*words: object) -> subprocess.Popen[str]:
    command = [*MANAKO, *map(str, words), "--lang", "en"]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("plain", [False, True])
def test_a_panel_is_for_terminals_and_not_where_lines_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    class Trainer:
        here = SimpleNamespace(first=True)
        progress = SimpleNamespace(step=0, seconds=0.0)
        status = staticmethod(lambda: {"step": 0, "steps": 1, "left": ""})
        share = staticmethod(lambda: 0.0)

    seen = Watched(tmp_path, "", False, (), plain=plain, color="never")
    monkeypatch.setattr(seen, "watch", lambda folder, step: None)
    monkeypatch.setattr(sys, "stderr", stderr := StringIO())
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with seen.show(Trainer()):
        pass
    assert ("\x1b[" in stderr.getvalue()) is not plain


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal_a_panel_is_rewritten_and_a_summary_stays(text: Path, tmp_path: Path) -> None:
    import pty

    import pyte

    leader, follower = pty.openpty()
    words = [
        "train",
        "--data",
        str(text),
        "--out",
        str(tmp_path / "m"),
        *TINY,
        "--steps",
        "300",
        "--probe",
        "私=は",
        "--lang",
        "en",
    ]
    env = dict(environment()) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    shown = b""
    with subprocess.Popen([*MANAKO, *words], env=env, stdout=follower, stderr=follower) as process:
        os.close(follower)
        while True:
            try:
                data = os.read(leader, 65_536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            shown += data
        assert process.wait(timeout=120) == 0, shown[-2000:].decode()
    os.close(leader)
    for wanted in (rb"loss of each batch: [\d.]+", rb"tokens/s; the work is", "“私” → “は”".encode(), b"Ctrl-C"):
        assert re.search(wanted, shown), wanted
    screen = pyte.Screen(100, 40)
    pyte.ByteStream(screen).feed(shown)
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert any(line.startswith("manako: done; to watch the model: manako watch") for line in lines), lines
    assert any(re.fullmatch(r"loss of a batch: [\d.]+ → [\d.]+ nats per token by step 300", line) for line in lines)
    assert not any("Ctrl-C" in line or "step 300/300" in line for line in lines), lines


TO_BE_STOPPED = [*TINY, "--steps", "150", "--eval-interval", "25", "--snapshots", "6"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stopped."""
    place = tmp_path_factory.mktemp("whole")
    (place / "data.txt").write_text(TEXT, encoding="utf-8")
    with start("train", "--data", place / "data.txt", "--out", place / "m", *TO_BE_STOPPED) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return place / "m"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_stopped_and_resumed_it_ends_as_if_nothing_had_been(
    text: Path, tmp_path: Path, whole: Path, number: int
) -> None:
    with start("train", "--data", text, "--out", tmp_path / "m", *TO_BE_STOPPED) as process:
        assert process.stderr
        for line in process.stderr:
            if "step 50/" in line:
                process.send_signal(number)
                break
        rest = process.stderr.read()
        code = process.wait(timeout=120)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: -15, signal.SIGKILL: -9}[number], rest
    if number != signal.SIGKILL:
        assert f"stopping after step {int(run_folder.pointed(tmp_path / 'm', 'last').name[5:])}" in rest
        assert "Traceback" not in rest
    with start("resume", tmp_path / "m") as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0 and re.search(r"resumed at step \d+ of 150", err), err
    for name in ("model.safetensors", run_folder.STATE_ARRAYS):
        both = [(run_folder.step_folder(run, 150) / name).read_bytes() for run in (whole, tmp_path / "m")]
        assert both[0] == both[1], name


@pytest.mark.slow
def test_two_processes_learn_as_one(run: Run, text: Path, tmp_path: Path) -> None:
    """The same command under torchrun: 7 sequences a step, so that the shares of the two are unequal."""
    settings: list[Any] = [*TINY[:-1], "7", "--steps", "50", "--eval-interval", "25", "--dtype", "float32"]
    words = ["train", "--data", str(text), *settings]
    one = run(*words, "--out", tmp_path / "one")
    assert one.code == 0, one.err
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name in ("two", "again"):
        command = [*torchrun, "-m", "manako", *words, "--lang", "en", "--out", str(tmp_path / name)]
        env = environment(PYTHONPATH=os.pathsep.join(sys.path))
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and done.stderr.count("step 50/50") == 1, done.stderr
    lines = {n: (tmp_path / n / "metrics.jsonl").read_text().splitlines() for n in ("one", "two", "again")}
    found = {n: [json.loads(line) for line in rows] for n, rows in lines.items()}
    assert len(found["one"]) == len(found["two"]) > 5
    for a, b in zip(found["one"], found["two"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a.get("validation_loss") == pytest.approx(b.get("validation_loss"), abs=1e-5)
    both = [(run_folder.step_folder(tmp_path / n, 50) / "model.safetensors").read_bytes() for n in ("two", "again")]
    assert both[0] == both[1]  # run to run to the bit
