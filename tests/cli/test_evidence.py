"""`manako evidence`: the corpus of a run is found and proved to be the one; text, JSON, one line for what is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run, environment
from small_runs import TEXT, corpus_of, train

import manako
from manako.analysis.evidence import evidence
from manako.corpus.packed import open_packed
from manako.formats import run_folder
from manako.training.run import keep_settings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run, with its corpus beside it."""
    home = tmp_path_factory.mktemp("evidence")
    corpus = corpus_of(home / "corpus")
    train(home / "run", corpus, steps=6, eval_interval=2)
    keep_settings(home / "run", {}, [str(corpus.folder)])
    return home / "run"


@pytest.mark.slow
def test_json_is_what_the_analysis_says(run: Run, trained: Path) -> None:
    words = ("evidence", "私は", "-m", trained, "--seed", "3", "-n", "4", "-t", "0.9", "--json")
    found = run(*words)
    assert (found.code, found.err) == (0, "")
    document = json.loads(found.out)
    trace = manako.load(trained).trace("私は", seed=3, max_new_tokens=4, temperature=0.9)
    corpus = open_packed(trained.parent / "corpus")
    assert document["schema"] == "manako.evidence/1" and document["corpus"]["digest"] == corpus.digest
    assert [step["chosen"]["id"] for step in document["steps"]] == trace.columns.token_id.tolist()
    for step in document["steps"]:
        expected = evidence(trace, step["index"], corpus)
        assert [c["count"] for c in step["contexts"]] == [o.count for o in expected.occurrences]
    tokenizer = manako.load(trained).tokenizer
    text = b"".join(tokenizer.decode(ids.tolist()) for ids in corpus.train.documents(corpus.start_id))
    assert document["steps"][0]["contexts"][1]["count"] == text.count("私は".encode()) > 30
    assert run(*words, "--lang", "ja").out == found.out
    one = json.loads(run(*words, "--step", "2").out)
    assert one["steps"] == [document["steps"][1]]


def test_one_step_without_being_told(run: Run, trained: Path) -> None:
    found = run("evidence", "私は", "-m", trained, "--seed", "3")
    assert found.code == 0 and found.out.count("--- Step") == 1
    assert "training text" in found.out and "k=2" in found.out and "Longest match: k = 2" in found.out
    japanese = run("evidence", "私は", "-m", trained, "--seed", "3", "--lang", "ja", "--plain")
    assert japanese.code == 0 and "学習テキスト" in japanese.out and "k = 2 の次では" in japanese.out


def test_every_reference_to_a_run_finds_its_corpus(run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_folder.steps(trained)[0]
    assert not (
        run_folder.step_folder(trained, first) / run_folder.STATE
    ).exists()  # thinned: the last checkpoint knows it
    folder = run_folder.step_folder(trained, first)
    outs = [run("evidence", "私", "-m", ref, "--seed", "1", "--json") for ref in (f"run:{trained}@{first}", folder)]
    monkeypatch.chdir(folder)
    outs.append(run("evidence", "私", "-m", ".", "--seed", "1", "--json"))
    assert [out.code for out in outs] == [0, 0, 0], outs
    documents = [json.loads(out.out) for out in outs]
    assert documents[0]["steps"] == documents[1]["steps"] == documents[2]["steps"]


@pytest.mark.slow
def test_a_run_made_from_text_has_its_corpus_inside(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "data.txt"
    text.write_text(TEXT, encoding="utf-8")
    shape = ("--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "8", "--batch-size", "2")
    assert run("train", "--data", text, "--out", tmp_path / "m", *shape, "--steps", "2").code == 0
    text.unlink()
    found = run("evidence", "私は猫である。名前", "-m", tmp_path / "m", "--seed", "1", "--json")
    step = json.loads(found.out)["steps"][0]
    assert len(step["contexts"]) == len(step["looked_for"]["ids"]) == 8  # no more than the model's window


def test_a_saved_record(run: Run, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.manako"
    assert run("watch", "私は", "-m", trained, "--seed", "3", "-n", "3", "--save", path).code == 0
    made = run("evidence", "私は", "-m", trained, "--seed", "3", "-n", "3", "--json")
    opened = run("evidence", path, "--data", trained.parent / "corpus", "--json")
    assert (opened.code, opened.err) == (0, "") and json.loads(opened.out) == json.loads(made.out)
    lost = run("evidence", path)
    assert (lost.code, lost.out) == (4, "") and "--data" in lost.err and lost.err.count("\n") == 1
    missing = run("evidence", "none.manako", "-m", trained, "--json")
    assert missing.code == 2 and "E-SOURCE-MISSING" in missing.err and "--text" in missing.err
    text = run("evidence", "none.manako", "-m", trained, "--json", "--text")
    assert json.loads(text.out)["prompt"]["text"] == "none.manako"


def test_a_model_that_is_in_no_run_needs_its_corpus(run: Run, trained: Path, toy: str, tmp_path: Path) -> None:
    for ref in ("demo", toy):
        found = run("evidence", "私", "-m", ref)
        assert (found.code, found.out) == (4, "") and "--data" in found.err and "E-EVIDENCE-NO-CORPUS" in found.err
    alone = shutil.copytree(run_folder.checkpoint(trained), tmp_path / "alone")
    assert run("evidence", "私", "-m", alone).code == 4
    assert run("evidence", "私", "-m", alone, "--data", trained.parent / "corpus").code == 0


def test_a_corpus_of_another_vocabulary(run: Run, trained: Path, toy: str) -> None:
    found = run("evidence", "私", "-m", toy, "--data", trained.parent / "corpus")
    assert (found.code, found.out) == (2, "") and "E-EVIDENCE-VOCABULARY" in found.err and found.err.count("\n") == 1


def test_a_corpus_that_moved_or_is_another_one(run: Run, trained: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(trained.parent, tmp_path / "home"))
    (home / "corpus").rename(home / "moved")
    keep_settings(home / "run", {}, [str(home / "corpus")])
    lost = run("evidence", "私", "-m", home / "run")
    assert lost.code == 3 and "--data" in lost.err and "E-EVIDENCE-CORPUS-MOVED" in lost.err
    assert run("evidence", "私", "-m", home / "run", "--data", home / "moved").code == 0
    corpus_of(home / "other", TEXT[: len(TEXT) // 2])
    wrong = run("evidence", "私", "-m", home / "run", "--data", home / "other")
    assert wrong.code == 2 and "E-RESUME-CORPUS" in wrong.err
    shard = home / "moved" / "train-00000.ids"
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    damaged = run("evidence", "私", "-m", home / "run", "--data", home / "moved")
    assert damaged.code == 3 and "E-CORPUS-SHARD-DAMAGED" in damaged.err
    assert run("evidence", "私", "-m", home / "run", "--data", home / "none").code == 3


@pytest.mark.slow
def test_it_needs_no_torch(trained: Path) -> None:
    code = "import sys\nfrom manako.cli import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    command = [sys.executable, "-W", "error", "-c", code, "evidence", "私", "-m", str(trained), "--json"]
    found = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert found.returncode == 0 and json.loads(found.stdout)["schema"] == "manako.evidence/1", found.stderr


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("--longest", "0"), "E-EVIDENCE-LONGEST"),
        (("--longest", "257"), "E-EVIDENCE-LONGEST"),
        (("--longest", "many"), "E-EVIDENCE-NUMBER"),
        (("--step", "2"), "E-VIEW-STEP"),
        (("-n", "0", "--step", "1"), "E-VIEW-NO-STEPS"),
        (("--top", "0"), "E-TOP"),
        (("--seed", "-1"), "E-SEED"),
    ],
)
def test_what_makes_no_sense(run: Run, trained: Path, words: tuple[str, ...], key: str) -> None:
    for lang in ("en", "ja"):
        found = run("evidence", "私", "-m", trained, *words, "--lang", lang)
        assert (found.code, found.out) == (2, "") and f"[{key}]" in found.err and found.err.count("\n") == 1


def test_nothing_asked(run: Run, trained: Path) -> None:
    found = run("evidence", "私", "-m", trained, "-n", "0")
    assert found.code == 0 and "--- Step" not in found.out
    assert json.loads(run("evidence", "私", "-m", trained, "-n", "0", "--json").out)["steps"] == []


def test_a_long_prompt_is_announced(run: Run, trained: Path) -> None:
    found = run("evidence", "私は猫である。" * 4, "-m", trained, "--json")
    assert found.err == "manako: the prompt has 28 tokens; the model sees only the last 16\n"
    assert len(json.loads(found.out)["steps"][0]["looked_for"]["ids"]) == 16
