"""Two embedded models: a text has the one that reads it, and every surface says what that was trained on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Run
from serving import serving
from toy import toy_checkpoint, toy_tokenizer

import manako
from manako.errors import LoadError
from manako.formats.model_folder import write_checkpoint
from manako.model import load
from manako.refs import EMBEDDED, ENGLISH
from manako.trace.file import read_parts, trace_of

SAID = {"en": "English fiction 1813–1925", "ja": "英語の小説 [b]"}


@pytest.fixture
def english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small stand-in for the English model, in its place, as int8."""
    made, folder = toy_checkpoint(toy_tokenizer()), tmp_path / "demo-en"
    write_checkpoint(folder, replace(made.config, trained_on=SAID), made.tensors, made.tokenizer, int8=True)
    monkeypatch.setitem(EMBEDDED, ENGLISH, folder)
    return folder


def made_by(run: Run, *words: object) -> str:
    found = run(*words, "--json")
    assert found.code == 0, found.err
    return json.loads(found.out)["model"]["ref"]


@pytest.mark.slow
def test_each_command_takes_the_model_that_reads_the_text(run: Run, english: Path, tmp_path: Path) -> None:
    assert made_by(run, "watch", "abc", "-n", 1) == "demo-en"
    assert made_by(run, "watch", "私は", "-n", 1) == "demo"
    assert made_by(run, "watch", "abc", "-n", 1, "-m", "demo") == "demo"
    assert made_by(run, "watch", "-n", 1) == "demo"
    (tmp_path / "a.txt").write_text("abc cab", encoding="utf-8")
    found = run("eval", "--data", tmp_path / "a.txt", "--json")
    assert json.loads(found.out)["loss"] == load("demo-en").evaluate("abc cab").loss
    assert "demo-en" in run("tokens", "abc").out and "demo-en" not in run("tokens", "猫").out


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_header_says_what_the_model_was_trained_on(run: Run, english: Path, tmp_path: Path, lang: str) -> None:
    path = tmp_path / "a.manako"
    found = run("watch", "abc", "-n", 1, "--save", path, "--lang", lang)
    assert SAID[lang] in found.out and SAID[lang] in run("view", path, "--lang", lang).out
    assert SAID[lang] in run("info", "demo-en", "--lang", lang).out
    assert manako.open(path).header.model.trained_on("fr") == SAID["en"]
    assert ("demo-en" in run("info", "--lang", lang).out) == (lang == "en")


def test_a_model_that_says_nothing_has_no_such_line(toy: str) -> None:
    assert load(toy).info.trained_on("en") is None
    told = replace(load(toy).info, config={"trained_on": {"en": 1}})
    assert told.trained_on("en") is None and replace(told, config={"trained_on": "x"}).trained_on("en") is None


def test_words_that_are_none_are_refused(english: Path) -> None:
    path = english / "config.json"
    assert json.loads(path.read_text(encoding="utf-8"))["trained_on"] == SAID
    for said in ("x", ["x"], {"en": 1}, {"en": "x" * 201}):
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"trained_on": said}))
        with pytest.raises(LoadError):
            load("demo-en")


def test_the_server_writes_with_the_model_that_reads_the_prompt(english: Path) -> None:
    with serving(load("demo")) as site:
        site.runs.beside = (load("demo-en"),)
        told = json.loads(site.ask("GET", "/api/model")[1])
        assert told["ref"] == "demo" and [b["weights_sha256"] for b in told["beside"]] == [
            load("demo-en").info.weights_sha256
        ]
        for prompt, ref in (("abc", "demo-en"), ("私は", "demo")):
            site.ask("POST", "/api/generate", {"prompt": prompt, "settings": {"max_new_tokens": 1}})
            (key, kept) = list(site.runs.traces.items())[-1]
            assert trace_of(read_parts(kept.data, ""), "").header.model.ref == ref
            after = {"id": key, "steps": 1}
            site.ask("POST", "/api/generate", {"prompt": "", "after": after, "settings": {"max_new_tokens": 1}})
            kept = list(site.runs.traces.values())[-1]
            assert kept.keep == 1 and trace_of(read_parts(kept.data, ""), "").header.model.ref == ref


@pytest.mark.slow
@pytest.mark.parametrize(("name", "prompt"), [("demo", "私は"), ("demo-en", "The old man")])
def test_cached_and_uncached_logits_agree_in_every_text(name: str, prompt: str) -> None:
    model = manako.load(name)
    for seed in range(12):
        checks = model.trace(prompt, seed=seed, max_new_tokens=40).header.self_checks
        assert checks and all(check.ok for check in checks), (seed, checks)
