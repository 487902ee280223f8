"""Folders without tokenizer.json: the ids are those of `AutoTokenizer`, or the way to it is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from manako.errors import LoadError
from manako.formats.vocabulary_files import read_vocabulary
from manako.refs import Ref

TEXT = "it's  the cat, isn't it? 1234 tables\n\n  don't  stop naïve 私は猫 " * 9
SAMPLES = ["", " ", "  two  spaces ", "it's 12345 TABLES\r\n\n x", "naïve e\u0301 猫であるABC", "<|endoftext|> a"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A byte-level vocabulary as GPT-2 was published."""
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=letters, show_progress=False)
    rust.train_from_iterator([TEXT], trainer)
    spec = json.loads(rust.to_str())["model"]
    vocab = spec["vocab"] | {"<|endoftext|>": len(spec["vocab"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in spec["merges"]), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name, settings", [
    ("GPT2Tokenizer", {}),
    ("GPT2TokenizerFast", {"add_prefix_space": True}),
    ("Qwen2Tokenizer", {}),
])  # fmt: skip
@pytest.mark.slow
def test_ids_are_those_of_transformers(name: str, settings: dict[str, Any], folder: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    size = len(json.loads((folder / "vocab.json").read_text()))
    more = {
        str(size): {"content": "<mask>", "special": False},
        str(size + 1): {"content": "<|im_end|>", "special": True},
    }
    wrapper = {"tokenizer_class": name, "added_tokens_decoder": more, "eos_token": "<|im_end|>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(wrapper))
    ours = read_vocabulary(folder, wrapper)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.vocab_size == len(theirs) == size + 2
    for text in (*SAMPLES, "a <mask> b"):
        assert ours.encode(text) == theirs(text, split_special_tokens=True, add_special_tokens=False)["input_ids"], text
    assert ours.encode("a<|im_end|>b", special=True) == theirs("a<|im_end|>b")["input_ids"]
    assert not ours.front_ids


def test_two_files_alone_are_gpt2s(folder: Path) -> None:
    tokenizer = Ref.parse(str(folder)).tokenizer()
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT.encode()
    assert tokenizer.special_ids == {tokenizer.id_of("<|endoftext|>")}


@pytest.mark.parametrize("wrapper", [{"tokenizer_class": "CodeGenTokenizer"}, {"add_bos_token": True}])
def test_another_class_is_for_transformers(wrapper: dict[str, Any], folder: Path) -> None:
    with pytest.raises(LoadError, match="hf:./FOLDER"):
        read_vocabulary(folder, wrapper)


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "vocab.txt"])
def test_other_files_are_for_transformers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(LoadError, match="hf:./FOLDER"):
        read_vocabulary(tmp_path, {})


@pytest.mark.parametrize("file, content", [
    ("merges.txt", b"#version: 0.2\na b c\n"),
    ("merges.txt", b"\xff"),
    ("merges.txt", b"nothing else\n"),
    ("vocab.json", b"[]"),
    ("vocab.json", b'{"a": "0"}'),
    ("vocab.json", b'{"a": 0, "b": 0}'),
    ("vocab.json", b'{"a": -1}'),
    ("added_tokens.json", b'{"<x>": 1000000}'),
])  # fmt: skip
def test_files_that_lie_are_refused(file: str, content: bytes, folder: Path) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(LoadError) as caught:
        read_vocabulary(folder, {})
    assert str(caught.value).isprintable()
