"""Tokenizers out of GGUF metadata: ids by definition, and each wrong list refused by the name of its key."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from toy_gguf import SPM_SCORES, SPM_TOKENS, Metadata, spm_metadata

from manako.errors import LoadError, UsageError
from manako.formats.gguf_tokenizer import notices, start_token, token_id, tokenizer_json
from manako.token_table import byte_characters
from manako.tokenizer import Tokenizer

FILE = Path("m.gguf")
SPELL = {byte: ch for ch, byte in byte_characters().items()}


def spelled(data: str) -> str:
    return "".join(SPELL[b] for b in data.encode())


def tokenizer_of(metadata: Metadata) -> Tokenizer:
    return Tokenizer(tokenizer_json(FILE, metadata), str(FILE))


def ggml(**changes: Any) -> Metadata:
    return {f"tokenizer.ggml.{name}": v for name, v in changes.items()}


def byte_level(merges: list[tuple[str, str]], pre: str | None = "gpt-2", more: tuple[str, ...] = ()) -> Metadata:
    """One control token, the bytes, what the merges give, and more words."""
    pairs = [(spelled(a), spelled(b)) for a, b in merges]
    words = dict.fromkeys([*(a + b for a, b in pairs), *map(spelled, more)])
    tokens = ["<|end|>", *(SPELL[b] for b in range(256)), *words]
    types = [3, *[1] * (len(tokens) - 1)]
    made = ggml(model="gpt2", tokens=tokens, token_type=types, merges=[" ".join(p) for p in pairs], eos_token_id=0)
    return made | (ggml(pre=pre) if pre else {})


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token_bytes[i].decode() for i in tokenizer.encode(text)]


# --- byte-level -------------------------------------------------------------------------------------------------------

DIGITS = [("1", "2"), (" ", "1"), (" ", " "), ("12", "3"), ("123", "4"), ("a", "\n"), ("'", "S")]


@pytest.mark.parametrize(("pre", "text", "expected"), [
    ("gpt-2", "1234", ["1234"]),
    ("smollm", "1234", ["1", "2", "3", "4"]),
    ("llama-bpe", "1234", ["123", "4"]),
    ("qwen2", "1234", ["1", "2", "3", "4"]),
    ("gpt-2", "x  1", ["x", " ", " 1"]),
    ("smollm", "x  1", ["x", "  ", "1"]),
    ("llama-bpe", "x  1", ["x", " ", " ", "1"]),
    ("gpt-2", "I'S", ["I", "'", "S"]),
    ("llama-bpe", "I'S", ["I", "'S"]),
    ("gpt-2", "猫 a\n", ["猫", " ", "a", "\n"]),
])  # fmt: skip
def test_words_are_cut_as_the_named_vocabulary_does(pre: str, text: str, expected: list[str]) -> None:
    neko = "猫".encode()
    merges = [(neko[:1], neko[1:2]), (neko[:2], neko[2:])]
    metadata = byte_level(DIGITS, pre)
    for a, b in merges:
        left, right = ("".join(SPELL[x] for x in part) for part in (a, b))
        metadata["tokenizer.ggml.tokens"].append(left + right)
        metadata["tokenizer.ggml.token_type"].append(1)
        metadata["tokenizer.ggml.merges"].append(f"{left} {right}")
    assert pieces(tokenizer_of(metadata), text) == expected


def test_llama_3_takes_a_whole_word_and_others_follow_the_merges() -> None:
    for pre, expected in (("llama-bpe", ["word"]), ("qwen2", ["wo", "r", "d"])):
        assert pieces(tokenizer_of(byte_level([("w", "o")], pre, more=("word",))), "word") == expected


def test_qwen_2_composes_characters_first() -> None:
    decomposed = "か\u3099"
    for pre, expected in (("qwen2", "が"), ("llama-bpe", decomposed)):
        tokenizer = tokenizer_of(byte_level([], pre))
        assert tokenizer.decode(tokenizer.encode(decomposed)).decode() == expected


@pytest.mark.parametrize("pre", [None, "default"])
def test_a_vocabulary_that_does_not_say_how_it_cuts_is_gpt_2s_with_a_notice(pre: str | None) -> None:
    metadata = byte_level(DIGITS, pre)
    assert pieces(tokenizer_of(metadata), "1234") == ["1234"]
    assert [key for key, _ in notices(FILE, metadata)] == ["notice.gguf_pre"]
    assert notices(FILE, byte_level(DIGITS)) == notices(FILE, spm_metadata()) == []


def test_every_text_comes_back_and_a_special_token_in_a_text_is_text() -> None:
    for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
        tokenizer = tokenizer_of(byte_level(DIGITS, pre, more=("<|end|",)))
        for text in ("<|end|>", "私は 猫\r\n\t😀 <|end|>12", "\0", " "):
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids).decode() == text and not tokenizer.special_ids & set(ids)


def test_user_defined_tokens_are_matched_whole_and_are_no_specials() -> None:
    metadata = byte_level([])
    metadata["tokenizer.ggml.tokens"].append("<think> ✓")
    metadata["tokenizer.ggml.token_type"].append(4)
    tokenizer = tokenizer_of(metadata)
    assert pieces(tokenizer, "a<think> ✓b") == ["a", "<think> ✓", "b"]
    assert tokenizer.special_ids == {0}


def test_unused_tokens_at_the_end_are_left_out() -> None:
    metadata = byte_level([])
    metadata["tokenizer.ggml.tokens"] += ["[PAD257]", "[PAD258]"]
    metadata["tokenizer.ggml.token_type"] += [5, 5]
    assert tokenizer_of(metadata).vocab_size == 257


def test_without_types_the_named_ids_are_special() -> None:
    metadata = byte_level([]) | ggml(bos_token_id=0, eot_token_id=4)
    del metadata["tokenizer.ggml.token_type"]
    assert tokenizer_of(metadata).special_ids == {0, 4}


# --- SentencePiece ----------------------------------------------------------------------------------------------------


def sentence_piece(tokens: list[str], scores: list[float], text: str, space: bool) -> list[int]:
    """The definition: again and again join the two neighbours that make the piece with the best score."""
    ids = {token: i for i, token in enumerate(tokens)}
    symbols = list(("▁" if space else "") + text.replace(" ", "▁"))
    while True:
        joined = [(-scores[ids[a + b]], n) for n, (a, b) in enumerate(zip(symbols, symbols[1:])) if a + b in ids]  # noqa: B905
        if not joined:
            return [ids[s] for s in symbols]
        _, n = min(joined)
        symbols[n : n + 2] = [symbols[n] + symbols[n + 1]]


@pytest.mark.parametrize("seed", range(20))
def test_ids_are_those_of_the_definition(seed: int) -> None:
    rng = random.Random(seed)
    letters = "▁abcdef猫"
    # no letter twice in a piece: where "aa" overlaps itself, merges in any order cannot always say what scores do
    found = {"".join(rng.sample(letters, rng.randrange(2, 6))) for _ in range(200)}
    tokens = ["<unk>", *letters, *sorted(found)]
    scores = [0.0, *rng.sample([-float(i) for i in range(1, 1000)], len(tokens) - 1)]
    space = bool(seed % 3)
    metadata = ggml(model="llama", tokens=tokens, scores=scores, token_type=[2, *[1] * (len(tokens) - 1)])
    metadata |= ggml(unknown_token_id=0, add_space_prefix=space)
    tokenizer = tokenizer_of(metadata)
    for _ in range(50):
        text = "".join(rng.choices(" abcdef猫", k=rng.randrange(1, 30)))
        assert tokenizer.encode(text) == sentence_piece(tokens, scores, text, space)


def test_an_unknown_character_becomes_its_bytes_where_the_vocabulary_has_them() -> None:
    metadata = spm_metadata()
    with pytest.raises(UsageError, match=r"猫 U\+732B \(2\)"):
        tokenizer_of(metadata | ggml(token_type=[1, 3, 3, *[1] * 8])).encode("a猫")
    metadata["tokenizer.ggml.tokens"] = SPM_TOKENS + [f"<0x{b:02X}>" for b in range(256)]
    metadata["tokenizer.ggml.scores"] = SPM_SCORES + [0.0] * 256
    metadata["tokenizer.ggml.token_type"] = [2, 3, 3, *[1] * 7, 4] + [6] * 256
    tokenizer = tokenizer_of(metadata)
    assert [tokenizer.token_bytes[i] for i in tokenizer.encode("a猫")] == [b" a", b"\xe7", b"\x8c", b"\xab"]
    assert pieces(tokenizer, "ab<mark>c") == [" ab", "<mark>", " ", "c"]  # a space after each added token, too
    assert tokenizer.special_ids == {0, 1, 2}
    literal = tokenizer.encode("<s>")
    assert not tokenizer.special_ids & set(literal) and tokenizer.decode(literal) == b" <s>"


def test_a_control_token_is_never_put_together_from_pieces() -> None:
    metadata = spm_metadata()
    metadata["tokenizer.ggml.tokens"] = [*SPM_TOKENS, "<", "s>", "<s"]
    metadata["tokenizer.ggml.scores"] = [*SPM_SCORES, -1.0, -1.0, -1.0]
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 1, 1, 1]
    merges = json.loads(tokenizer_json(FILE, metadata))["model"]["merges"]
    assert merges and ["<", "s>"] not in merges


# --- start and end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metadata", "expected"), [
    (ggml(add_bos_token=True, model="gpt2"), 1),
    (ggml(add_bos_token=False, model="llama"), None),
    (ggml(model="llama"), 1),
    (ggml(model="gpt2", pre="llama-bpe"), 1),
    (ggml(model="gpt2", pre="tekken"), 1),
    (ggml(model="gpt2", pre="qwen2"), None),
    (ggml(model="gpt2"), None),
])  # fmt: skip
def test_a_start_token_only_where_the_tokenizer_puts_one(metadata: Metadata, expected: int | None) -> None:
    made = ggml(tokens=["a", "<s>"], bos_token_id=1) | metadata
    assert start_token(FILE, made) == expected
    assert start_token(FILE, {k: v for k, v in made.items() if "bos_token_id" not in k}) is None
    assert (token_id(FILE, made, "bos"), token_id(FILE, made, "eot")) == (1, None)


@pytest.mark.parametrize("name", ["bos", "eos", "eot", "unknown"])
def test_an_unused_token_that_a_key_names_is_used(name: str) -> None:
    made = spm_metadata()
    size = len(SPM_TOKENS)
    more = {"tokens": [*SPM_TOKENS, "x1", "x2", "x3"], "scores": [*SPM_SCORES, 0.0, 0.0, 0.0]}
    types = [*made["tokenizer.ggml.token_type"], 5, 5, 5]
    made |= ggml(**more, token_type=types, add_bos_token=True) | {f"tokenizer.ggml.{name}_token_id": size + 1}
    tokenizer = tokenizer_of(made)
    assert tokenizer.vocab_size == size + 2 and size + 1 in tokenizer.special_ids  # x3 only fills up rows
    assert tokenizer.front_ids == (size + 1 if name == "bos" else 1,)
    assert (tokenizer.unknown_id == size + 1) == (name == "unknown")


# --- refusals ---------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, Metadata]] = {  # name: (the key that the message names, metadata)
    "no model": ("model", {k: v for k, v in spm_metadata().items() if not k.endswith("model")}),
    "model": ("model", spm_metadata() | ggml(model="bert")),
    "no tokens": ("tokens", {k: v for k, v in spm_metadata().items() if not k.endswith("tokens")}),
    "tokens a text": ("tokens", spm_metadata() | ggml(tokens="abc")),
    "tokens numbers": ("tokens", spm_metadata() | ggml(tokens=[1, 2])),
    "a token twice": ("tokens", spm_metadata() | ggml(tokens=[*SPM_TOKENS[:-1], "a"])),
    "no scores": ("scores", {k: v for k, v in spm_metadata().items() if not k.endswith("scores")}),
    "fewer scores": ("scores", spm_metadata() | ggml(scores=SPM_SCORES[:-1])),
    "a score of NaN": ("scores", spm_metadata() | ggml(scores=[*SPM_SCORES[:-1], float("nan")])),
    "whole scores": ("scores", spm_metadata() | ggml(scores=[0] * len(SPM_TOKENS))),
    "more types": ("token_type", spm_metadata() | ggml(token_type=[1] * 12)),
    "type 0": ("token_type", spm_metadata() | ggml(token_type=[0, *[1] * 10])),
    "type 7": ("token_type", spm_metadata() | ggml(token_type=[7, *[1] * 10])),
    "byte -1": ("token_type", spm_metadata() | ggml(tokens=["<0x-1>", *SPM_TOKENS[1:]], token_type=[6, *[1] * 10])),
    "byte 100": ("token_type", spm_metadata() | ggml(tokens=["<0x100>", *SPM_TOKENS[1:]], token_type=[6, *[1] * 10])),
    "byte in small letters": (
        "token_type",
        spm_metadata() | ggml(tokens=["<0xe3>", *SPM_TOKENS[1:]], token_type=[6, *[1] * 10]),
    ),
    "byte of another type": ("token_type", spm_metadata() | ggml(tokens=["<0xE3>", *SPM_TOKENS[1:]])),
    "unknown id": ("unknown_token_id", spm_metadata() | ggml(unknown_token_id=11)),
    "unknown id -1": ("unknown_token_id", spm_metadata() | ggml(unknown_token_id=-1)),
    "a rewriting": ("precompiled_charsmap", spm_metadata() | ggml(precompiled_charsmap=[1, 2])),
    "spaces": ("remove_extra_whitespaces", spm_metadata() | ggml(remove_extra_whitespaces=True)),
    "space flag": ("add_space_prefix", spm_metadata() | ggml(add_space_prefix=0)),
    "pre": ("pre", byte_level([], "no-such-name")),
    "pre a list": ("pre", byte_level([]) | ggml(pre=["gpt-2"])),
    "no merges": ("merges", {k: v for k, v in byte_level([]).items() if not k.endswith("merges")}),
    "merge of one": ("merges", byte_level([]) | ggml(merges=["a"])),
    "merge of three": ("merges", byte_level([]) | ggml(merges=["a b c"])),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_list_is_named(name: str) -> None:
    key, metadata = WRONG[name]
    with pytest.raises(LoadError) as caught:
        tokenizer_of(metadata)
    assert caught.value.key in ("gguf_value", "gguf_missing")
    assert caught.value.values["name"] == f"tokenizer.ggml.{key}" and "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", [
    byte_level([]) | ggml(merges=["a b"]),  # what it gives is no token
    byte_level([]) | ggml(merges=["a 猫"]),
    byte_level([]) | ggml(tokens=["<|end|>", "a" * 1025], token_type=[3, 1]),
    spm_metadata() | ggml(tokens=["<" * 1025, *SPM_TOKENS[1:]]),
])  # fmt: skip
def test_what_the_library_or_the_table_refuses_names_the_file(metadata: Metadata) -> None:
    with pytest.raises(LoadError, match=r"^m\.gguf is not a tokenizer") as caught:
        tokenizer_of(metadata)
    assert caught.value.key == "tokenizer_unreadable"


@pytest.mark.parametrize("tokens", [
    ["a" * n for n in range(1, 2000)],  # a piece of 2,000 letters
    [f"{i:08}" * 32 for i in range(10_000)],  # 2.5 million characters of them
])  # fmt: skip
def test_pieces_that_would_take_long_are_refused(tokens: list[str]) -> None:
    made = ggml(model="llama", tokens=tokens, scores=[0.0] * len(tokens), token_type=[1] * len(tokens))
    with pytest.raises(LoadError, match="tokens"):
        tokenizer_json(FILE, made)


@pytest.mark.parametrize(
    "pre", ["deepseek-r1-qwen", "stablelm2", "tekken", "gpt-4o", "deepseek-v3", "qwen35", "olmo", "refact"]
)
def test_names_of_published_ways_to_find_words_open(pre: str) -> None:
    tokenizer = tokenizer_of(byte_level([], pre))
    for text in ("Hello world's 2026!\r\n\n  私は猫である。", "", "123 4567  x"):
        assert tokenizer.decode(tokenizer.encode(text)).decode() == text
