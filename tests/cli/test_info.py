"""`manako info`: what a model is, what can be seen of it, and its chat template as text."""

import json
from pathlib import Path

from commands import Run
from toy import write_toy
from toy_llama import write_toy_llama

import manako


def test_the_facts_are_those_of_the_model(run: Run, toy: str) -> None:
    found, info = run("info", toy), manako.load(toy).info
    assert found.code == 0 and info.weights_sha256 in found.out and info.tokenizer_sha256 in found.out
    assert f"layers 2, heads 2, width 12, context 16, vocabulary {info.config['vocab_size']}" in found.out
    assert "attention, lens, contributions, residual" in found.out
    assert "<|endoftext|>" in found.out and "template" not in found.out
    assert run("info", toy, "--lang", "ja").code == 0
    assert "demo-en (gpt2)" in run("info", "--lang", "en").out and "demo (gpt2)" in run("info", "--lang", "ja").out


def test_the_document_has_the_facts_of_the_model(run: Run, toy: str, tmp_path: Path) -> None:
    found, model = json.loads(run("info", toy, "--json").out), manako.load(toy)
    assert (found["schema"], found["weights_sha256"]) == ("manako.info/1", model.info.weights_sha256)
    assert found["parameters"] == model.engine.n_parameters and found["lacks"] == {}
    assert found["start"] == ["<|endoftext|>"] and found["captures"] == list(model.captures)
    write_toy(tmp_path / "m", attention=False, residual=False)
    lacking = json.loads(run("info", tmp_path / "m", "--json").out)
    assert "attention" in lacking["lacks"] and "attention" not in lacking["captures"]


def test_what_an_ablated_model_cannot_give(run: Run, tmp_path: Path) -> None:
    write_toy(tmp_path / "m", attention=False, residual=False)
    found = run("info", tmp_path / "m")
    assert "no_residual, no_attention" in found.out
    assert "cannot capture attention: it was trained without attention" in found.out
    assert "cannot capture contributions: " in found.out


def test_a_chat_template_is_text(run: Run, tmp_path: Path) -> None:
    write_toy_llama(tmp_path / "m")
    template = "{{ ''.__class__.__mro__ }}\x1b[2J{% for i in range(10**9) %}{% endfor %}"
    (tmp_path / "m" / "chat_template.jinja").write_text(template, encoding="utf-8")
    found = run("info", tmp_path / "m")
    assert found.code == 0 and "{{ ''.__class__.__mro__ }}" in found.out and "\x1b" not in found.out
    assert "not applied" not in found.err and "not applied" in run("watch", "あ", "-m", tmp_path / "m", "-n", "1").err


def test_bad_references_are_one_line(run: Run, tmp_path: Path) -> None:
    for ref, code in ((tmp_path / "none", 3), ("gguf:none.gguf", 3), ("openai:x@http://127.0.0.1:1", 4)):
        found = run("info", ref)
        assert found.code == code and found.err.count("\n") == 1
