"""N19: our ids against AutoTokenizer's on the saved folder, over all blocks of Unicode."""

import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers
from toy import CHARACTERS, random_texts, write_toy

from manako.tokenizer import Tokenizer, from_merges, train_byte_bpe, train_character_bpe, train_characters

transformers.logging.set_verbosity_error()


def character_tokenizer() -> Tokenizer:
    """Some thousand characters of many blocks, the rest as bytes: what the trainer makes."""
    return train_characters([CHARACTERS * 2, "".join(random_texts(150, seed=3)) * 2], min_count=2)


def mixed_texts() -> list[str]:
    words = ["私は", "猫である", "思った", "。", "\n", " the", " cat", " sat", *CHARACTERS]
    return ["".join(random.Random(6).choices(words, k=5000)), *random_texts(300, seed=5)]


def character_bpe_tokenizer() -> Tokenizer:
    """Pieces of common characters, the rest as bytes: what `corpus build --tokenizer bpe` makes."""
    return train_character_bpe(mixed_texts(), 400)


def byte_bpe_tokenizer() -> Tokenizer:
    """Pieces of bytes: what `corpus build --tokenizer byte-bpe` makes."""
    return train_byte_bpe(mixed_texts(), 400)


def byte_level_tokenizer() -> Tokenizer:
    """GPT-2's kind as the library makes it, trained here on mixed text."""
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rust.train_from_iterator(["私は猫である。the cat sat on the mat. " * 9, *random_texts(300, seed=5)], trainer)
    return Tokenizer(rust.to_str())


def merged_tokenizer() -> Tokenizer:
    """What an imported article model has: merges over whole texts."""
    pairs = [(0xE3, 0x81), (0x20, 0x20), (257, 257), (256, 0x82), (0x61, 0x61)]
    vocab = [bytes([b]) for b in range(256)]
    for a, b in pairs:
        vocab.append(vocab[a] + vocab[b])
    return from_merges(vocab, pairs)


MADE = [character_tokenizer, character_bpe_tokenizer, byte_bpe_tokenizer]  # what manako trains


@pytest.mark.parametrize("make", [*MADE, byte_level_tokenizer, merged_tokenizer])
@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_same_ids_and_the_text_comes_back(tmp_path: Path, make: Any, count: int) -> None:
    write_toy(tmp_path / "m", ours := make(), n_layer=1, n_embd=4, n_head=1)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    texts = list(random_texts(count, seed=count))
    their_ids = theirs(texts, add_special_tokens=False)["input_ids"]
    for text, expected in zip(texts, their_ids, strict=True):
        ids = ours.encode(text)
        assert ids == expected
        assert ours.decode(ids) == text.encode()
        if "\ufffd" not in text:
            assert "\ufffd" not in ours.decode(ids).decode()
            assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("make", [*MADE, byte_level_tokenizer])
def test_a_literal_special_token_is_text_with_us(tmp_path: Path, make: Any) -> None:
    write_toy(tmp_path / "m", ours := make(), n_layer=1, n_embd=4, n_head=1)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    literal = "a<|endoftext|>b"
    assert theirs(literal, split_special_tokens=True, add_special_tokens=False)["input_ids"] == ours.encode(literal)
    assert 0 not in ours.encode(literal) and 0 in theirs(literal, add_special_tokens=False)["input_ids"]
    assert theirs.bos_token == theirs.eos_token == theirs.pad_token == "<|endoftext|>"
