"""Text to ids and back: bytes of every token, nothing lost in silence (P15-P17), hostile files refused (T10)."""

import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from toy import random_texts, toy_tokenizer, unicode_blocks

from manako import tokenizer as tokenizer_module
from manako.encoder import KNOWN_PATTERNS
from manako.errors import LoadError, UsageError
from manako.formats.vocabulary_files import read_vocabulary
from manako.tokenizer import (
    LEAST_BPE_VOCAB,
    MAX_FILE_BYTES,
    Tokenizer,
    from_characters,
    from_merges,
    train_byte_bpe,
    train_character_bpe,
    train_characters,
)

LEARNED = "私は猫である。名前はまだ無い。It is a truth universally acknowledged. 猫猫猫 the the then\n" * 20


SPECIAL = json.loads(toy_tokenizer().source)["added_tokens"][0]
N = toy_tokenizer().vocab_size


def byte_level_bpe(vocab_size: int = 400) -> Tokenizer:
    """What GPT-2 has: byte-level BPE, made with the tokenizers library."""
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rust.train_from_iterator([LEARNED], trainer)
    return Tokenizer(rust.to_str())


def metaspace_bpe() -> Tokenizer:
    """What SentencePiece models have after conversion: Metaspace, byte fallback, a special <unk>."""
    rust = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    rust.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    rust.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        max_token_length=8,
        special_tokens=["<unk>", *(f"<0x{b:02X}>" for b in range(256))],
        show_progress=False,
    )
    rust.train_from_iterator(LEARNED.split(), trainer)
    spec = json.loads(rust.to_str())
    spec["added_tokens"] = spec["added_tokens"][:1]  # the byte tokens are ordinary entries in such files
    return Tokenizer(json.dumps(spec))


# --- ids, bytes and back (N19) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [toy_tokenizer, byte_level_bpe, metaspace_bpe])
def test_random_texts_come_back_byte_for_byte(make: Any) -> None:
    tokenizer = make()
    assert len(unicode_blocks()) > 1000
    for text in random_texts(2000):
        back = tokenizer.decode(tokenizer.encode(text))
        if make is metaspace_bpe:
            assert back == b" " + text.replace("▁", " ").encode()  # its normaliser puts a space in front
        else:
            assert back == text.encode()


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    tokenizer = toy_tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids).decode() == text
    assert 0 not in ids  # the document start is only ever put in by id


def test_byte_level_bytes_are_exact_also_for_half_characters() -> None:
    tokenizer = byte_level_bpe()
    ids = [next(i for i, b in enumerate(tokenizer.token_bytes) if b == bytes([value])) for value in "龘".encode()]
    assert b"".join(tokenizer.token_bytes[i] for i in ids) == "龘".encode()
    assert tokenizer.decode(ids[:2]) == "龘".encode()[:2]
    spaced = [b for b in tokenizer.token_bytes if b.startswith(b" ")]
    assert b" the" in spaced and not any("Ġ".encode() in b for b in tokenizer.token_bytes)


def test_metaspace_and_byte_tokens_are_spelled_out() -> None:
    tokenizer = metaspace_bpe()
    assert tokenizer.token_bytes[0] == b"<unk>" and tokenizer.special_ids == {0} and tokenizer.unknown_id == 0
    assert tokenizer.token_bytes[1 + 0xE3] == b"\xe3"
    assert b" the" in tokenizer.token_bytes and not any("▁".encode() in b for b in tokenizer.token_bytes)
    assert tokenizer.decode(tokenizer.encode("龘")) == " 龘".encode()


def test_a_token_that_only_looks_like_a_byte_is_text() -> None:
    spec = json.loads(toy_tokenizer().source)
    spec["model"]["vocab"] |= {"<0xZZ>": N, "<0x+1>": N + 1, "<0x123>": N + 2}
    tokenizer = Tokenizer(json.dumps(spec))
    assert [tokenizer.token_bytes[i] for i in range(N, N + 3)] == [b"<0xZZ>", b"<0x+1>", b"<0x123>"]


@pytest.mark.parametrize("make", [toy_tokenizer, byte_level_bpe, metaspace_bpe])
def test_a_literal_special_token_stays_text(make: Any) -> None:
    tokenizer = make()
    for literal in ("<|endoftext|>", "<unk>", "a<|endoftext|>b", "<0xE3>"):
        ids = tokenizer.encode(literal)
        assert not tokenizer.special_ids & set(ids)
        assert tokenizer.decode(ids).decode().strip() == literal


@pytest.mark.parametrize("make", [toy_tokenizer, byte_level_bpe])
def test_documents_are_encoded_as_single_texts_are(make: Any) -> None:
    tokenizer = make()
    texts = ["", "私は<|endoftext|>猫", "龘😀\n", *random_texts(50)]
    assert tokenizer.encode_documents(texts) == [tokenizer.encode(t) for t in texts]


def test_no_truncation_or_padding_from_the_file() -> None:
    spec = json.loads(byte_level_bpe().source)
    spec["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    spec["padding"] = {
        "strategy": {"Fixed": 50},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    tokenizer = Tokenizer(json.dumps(spec))
    assert tokenizer.decode(tokenizer.encode("猫" * 9)).decode() == "猫" * 9


def test_dropout_in_the_file_is_turned_off() -> None:
    spec = json.loads(byte_level_bpe().source)
    spec["model"]["dropout"] = 0.9
    tokenizer = Tokenizer(json.dumps(spec))
    assert {tuple(tokenizer.encode(LEARNED[:60])) for _ in range(20)} == {tuple(byte_level_bpe().encode(LEARNED[:60]))}


def test_fingerprint_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    source = toy_tokenizer().source.replace(", ", ",\r\n ").encode()  # newlines must not be translated
    (tmp_path / "t.json").write_bytes(source)
    assert Tokenizer.from_file(tmp_path / "t.json").fingerprint == hashlib.sha256(source).hexdigest()


def test_ids_that_a_file_leaves_free_are_shown_by_their_number() -> None:
    """Special tokens stand at reserved places; the library would number the last ones itself."""
    spec = json.loads(toy_tokenizer().source)
    spec["model"]["vocab"] |= {"xx": N + 2}
    ends = [{**SPECIAL, "content": f"<{n}>", "id": N + n} for n in (9, 5)]
    spec["added_tokens"] += ends
    tokenizer = Tokenizer(json.dumps(spec))
    assert tokenizer.vocab_size == N + 10 and tokenizer.gaps == {N + n for n in (0, 1, 3, 4, 6, 7, 8)}
    assert tokenizer.token_bytes[N] == b"[%d]" % N and tokenizer.gaps < tokenizer.special_ids
    assert (tokenizer.id_of("<5>"), tokenizer.id_of("<9>"), tokenizer.id_of("<1>")) == (N + 5, N + 9, None)
    assert tokenizer.encode("あ<9>", special=True) == [*tokenizer.encode("あ"), N + 9]
    assert tokenizer.decode(tokenizer.encode("あ<9>[277]")).decode() == "あ<9>[277]"


# --- what a decoder makes of tokens -----------------------------------------------------------------------------------

WORDS_HERE = ["the", "rain", "##ed", "中", "##s", "'", "don", "##'t", "s", ".", "do not", " n't", "[UNK]"]


def word_piece(**changes: Any) -> str:
    rust = tokenizers.Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS_HERE)}, unk_token="[UNK]"))
    rust.normalizer, rust.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    rust.add_special_tokens(["[UNK]"])
    return json.dumps(json.loads(rust.to_str()) | changes)


def end_of_word(**changes: Any) -> str:
    vocab = {"t": 0, "h": 1, "e</w>": 2, "th": 3, "the</w>": 4, "x</w>": 5, "xx": 6}
    rust = tokenizers.Tokenizer(models.BPE(vocab, [("t", "h"), ("th", "e</w>")], end_of_word_suffix="</w>"))
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder("</w>")
    return json.dumps(json.loads(rust.to_str()) | changes)


def spaces_added() -> str:
    """As Gemma has it: runs of spaces are added tokens, some of them with a name of their own."""
    spec = json.loads(metaspace_bpe().source)
    spec["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    size = len(spec["model"]["vocab"])
    for n in (2, 3, 4):
        spec["added_tokens"].append(
            {**spec["added_tokens"][0], "id": size + n - 2, "content": "▁" * n, "special": False, "normalized": True}
        )
    return json.dumps(spec)


def stripped() -> str:
    spec = json.loads(end_of_word())
    spec["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Strip", "content": "t", "start": 1, "stop": 0},
        {"type": "Replace", "pattern": {"String": "x"}, "content": "é"},
    ]}  # fmt: skip
    return json.dumps(spec)


@pytest.mark.parametrize("source", [word_piece(), end_of_word(), spaces_added(), stripped()], ids=len)
def test_a_token_has_the_bytes_that_the_decoder_gives_it(source: str) -> None:
    """Each token behind another one, which is then taken off again; bytes of a part of a character aside."""
    tokenizer, decoder = Tokenizer(source), tokenizers.Tokenizer.from_str(source).decoder
    names = {i: name for name, i in tokenizers.Tokenizer.from_str(source).get_vocab().items()}
    first = min(i for i in names if i not in tokenizer.special_ids and not names[i].startswith(("<0x", "##")))
    for i, name in names.items():
        if i in tokenizer.special_ids or name.startswith("<0x"):
            continue
        both, alone = decoder.decode([names[first], name, names[first]]), decoder.decode([names[first]])
        ours = tokenizer.decode([first, i, first]).decode()
        assert ours.strip() == both.strip() and alone.strip() in ours, name


def test_runs_of_spaces_are_spaces() -> None:
    tokenizer = Tokenizer(spaces_added())
    ids = tokenizer.encode("if x:\n    return  1")
    assert len(tokenizer.token_bytes) - 1 in ids and tokenizer.decode(ids) == b"if x:\n    return  1"


@pytest.mark.parametrize("changes", [{}, {"decoder": None}], ids=str)
def test_word_pieces_show_and_take_plain_text(changes: Any) -> None:
    tokenizer = Tokenizer(word_piece(**changes))
    ids, spans = tokenizer.aligned("The  rained\n中中 the")
    assert tokenizer.decode(ids) == " the rained 中 中 the".encode()
    assert spans == [(0, 3), (4, 9), (9, 11), (11, 13), (13, 14), (14, 18)]


@pytest.mark.parametrize("changes", [{}, {"decoder": None}], ids=str)
def test_ends_of_words_show_and_take_plain_text(changes: Any) -> None:
    tokenizer = Tokenizer(end_of_word(**changes))
    ids, spans = tokenizer.aligned("the x  the")
    assert tokenizer.decode(ids) == b"the x the "
    assert spans == [(0, 4), (4, 6), (7, 10)]


# --- what a vocabulary cannot express ---------------------------------------------------------------------------------


def refused(tokenizer: Tokenizer, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        tokenizer.encode(text)
    assert caught.value.key == "prompt_unknown_characters" and caught.value.exit_code == 2
    return caught.value.values["characters"]


def test_each_unknown_character_is_named_with_its_place() -> None:
    tokenizer = from_characters("あい")
    assert refused(tokenizer, "あ龘い😀") == "龘 U+9F98 (2), 😀 U+1F600 (4)"
    assert refused(tokenizer, "x" * 8).endswith("x U+0078 (5), +3")
    assert tokenizer.encode("いあ") == [1, 0] and tokenizer.encode("") == []


def test_a_character_of_which_only_some_bytes_are_known_is_refused() -> None:
    """é is two bytes; with one of them in the vocabulary the other was dropped in silence."""
    rust = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "Ã": 1}, merges=[]))
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    assert refused(Tokenizer(rust.to_str()), "aé") == "é U+00E9 (2)"


def test_nothing_is_mapped_to_an_ordinary_token() -> None:
    spec = json.loads(from_characters("あい").source)
    spec["model"]["unk_token"] = "あ"
    assert refused(Tokenizer(json.dumps(spec)), "い龘") == "龘 U+9F98 (2)"


def test_a_special_unk_of_a_foreign_vocabulary_is_used_and_known() -> None:
    rust = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "あ": 1}, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    rust.add_special_tokens(["<unk>"])
    tokenizer = Tokenizer(rust.to_str())
    assert tokenizer.encode("あ龘") == [1, 0] and tokenizer.unknown_id == 0 and 0 in tokenizer.special_ids


def test_a_unigram_vocabulary_without_unk_names_the_character() -> None:
    rust = tokenizers.Tokenizer(models.Unigram([("あ", -1.0), ("い", -2.0)], unk_id=None))
    tokenizer = Tokenizer(rust.to_str())
    assert tokenizer.encode("いあ") == [1, 0]
    assert refused(tokenizer, "い龘") == "龘 U+9F98 (2)"


def test_a_normaliser_changes_bytes_and_loses_nothing() -> None:
    rust = tokenizers.Tokenizer.from_str(byte_level_bpe().source)
    rust.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer = Tokenizer(rust.to_str())
    assert tokenizer.decode(tokenizer.encode("ＡＢc㍻")).decode() == "abc平成"


@pytest.mark.parametrize(("text", "index"), [("\ud800", "0"), ("あ\udfffい", "1"), ("ab\ud83d", "2")])
def test_lone_surrogates_are_refused_with_index_and_code(text: str, index: str) -> None:
    with pytest.raises(UsageError) as caught:
        toy_tokenizer().encode(text)
    assert caught.value.key == "prompt_surrogate" and caught.value.values["index"] == index


@pytest.mark.slow
def test_a_million_letters_take_less_than_two_seconds() -> None:
    for tokenizer in (toy_tokenizer(), byte_level_bpe()):
        began = time.monotonic()
        assert len(tokenizer.encode("a" * 10**6)) > 1000
        assert time.monotonic() - began < 20  # a ceiling against hangs: it takes about one second
    began = time.monotonic()
    refused(from_characters("a"), "b" * 10**6)
    assert time.monotonic() - began < 20


# --- hostile files (T10) ----------------------------------------------------------------------------------------------


def changed(path: str, value: Any) -> str:
    """The toy file with one value replaced; path in dots. DELETE takes the key out."""
    spec: Any = json.loads(toy_tokenizer().source)
    *outer, last = path.split(".")
    place = spec
    for key in outer:
        place = place[key]
    if value == "DELETE":
        del place[last]
    else:
        place[last] = value
    return json.dumps(spec)


def with_vocab(**entries: Any) -> str:
    return changed("model.vocab", json.loads(toy_tokenizer().source)["model"]["vocab"] | entries)


HOSTILE_FILES = {
    "empty": "",
    "not json": "{",
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "a string": '"x"',
    "no model": changed("model", "DELETE"),
    "model null": changed("model", None),
    "model a list": changed("model", []),
    "model a text": changed("model", "BPE"),
    "no vocabulary": changed("model.vocab", "DELETE"),
    "vocabulary null": changed("model.vocab", None),
    "vocabulary a number": changed("model.vocab", 5),
    "vocabulary a list of numbers": changed("model.vocab", [1, 2]),
    "vocabulary a list of empty lists": changed("model.vocab", [[]]),
    "unknown model type": changed("model.type", "Evil"),
    "entry of 1,025 bytes": with_vocab(**{"x" * 1025: N}),
    "entry of a megabyte": with_vocab(**{"x" * 2**20: N}),
    "id 2^31": with_vocab(xx=2**31),
    "id 2^63": with_vocab(xx=2**63),
    "id 10^400": with_vocab(xx=10**400),
    "id -1": with_vocab(xx=-1),
    "id null": with_vocab(xx=None),
    "id a text": with_vocab(xx="5"),
    "id a list": with_vocab(xx=[5]),
    "id a float": with_vocab(xx=float(N)),
    "id true": with_vocab(xx=True),
    "a gap of 5,000": with_vocab(xx=N + 5_000),
    "an id twice": with_vocab(xx=7),
    "key twice": toy_tokenizer().source.replace('"あ":', '"あ": 3, "あ":', 1),
    "NaN": toy_tokenizer().source.replace('"dropout": null', '"dropout": NaN'),
    "lone surrogate": toy_tokenizer().source.replace('"あ":', '"\\ud800":'),
    "deep list": "[" * 100_000,
    "deep objects": '{"model":' * 50_000 + "1" + "}" * 50_000,
    "deep decoder": changed("decoder", json.loads('{"type":"Sequence","decoders":[' * 90 + "]}" * 90)),
    "number of 5,000 digits": toy_tokenizer().source.replace('"あ": ', '"あ": ' + "1" * 5000),
    "added tokens a text": changed("added_tokens", "abc"),
    "added tokens numbers": changed("added_tokens", [1, 2]),
    "added token without id": changed("added_tokens", [{"content": "x"}]),
    "added token with a foreign id": changed("added_tokens", [{**SPECIAL, "id": 5}]),
    "added token twice": changed("added_tokens", [SPECIAL, {**SPECIAL, "id": N}]),
    "decoder a list": changed("decoder", [1]),
    "decoder without type": changed("decoder", {"x": 1}),
    "decoders a text": changed("decoder", {"type": "Sequence", "decoders": "abc"}),
    "unknown pre-tokenizer": changed("pre_tokenizer", {"type": "Evil"}),
    "backtracking decoder": changed("decoder", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}),
    "broken charsmap": changed("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "merges of unknown tokens": changed("model.merges", [["x", "y"]]),
    "merges a number": changed("model.merges", 5),
    "sixty doubling merges": changed("model.merges", [["a" * 2**i, "a" * 2**i] for i in range(16)]),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_hostile_files_are_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(HOSTILE_FILES[name], encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(LoadError) as caught:
        Tokenizer.from_file(path)
    assert time.monotonic() - began < 5  # takes milliseconds; a ceiling against hangs
    assert caught.value.exit_code == 3 and str(path)[:40] in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.text("ja")
    capfd.readouterr()  # the Rust library writes its panics to stderr


def test_sixty_doubling_merges_whose_entries_are_there_are_refused_by_length() -> None:
    spec = json.loads(toy_tokenizer().source)
    for i in range(12):
        spec["model"]["vocab"]["a" * 2 ** (i + 1)] = N + i
    spec["model"]["merges"] = [["a" * 2**i, "a" * 2**i] for i in range(12)]
    with pytest.raises(LoadError, match="longer than 1024 bytes"):
        Tokenizer(json.dumps(spec))


@pytest.mark.slow
def test_known_patterns_open_and_stay_linear() -> None:
    for pattern in KNOWN_PATTERNS:
        rust = tokenizers.Tokenizer.from_str(byte_level_bpe().source)
        split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        rust.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        tokenizer = Tokenizer(rust.to_str())
        for text in (
            "a" * 20_000,
            " " * 20_000,
            "1a" * 10_000,
            "'" * 20_000,
            "\n \n" * 7_000,
            "猫の" * 10_000,
            "ー" * 20_000,
            LEARNED,
        ):
            began = time.monotonic()
            assert tokenizer.decode(tokenizer.encode(text)).decode() == text
            assert time.monotonic() - began < 10


@pytest.mark.slow
def test_every_value_of_the_wrong_type_is_a_load_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Each value of the file replaced by each kind of JSON value: an error of ours, or a tokenizer that works."""
    spec = json.loads(byte_level_bpe(300).source)
    spec["model"]["vocab"] = {k: v for k, v in spec["model"]["vocab"].items() if v < 260}
    spec["model"]["merges"] = []

    def places(part: Any, path: tuple[Any, ...] = ()) -> Any:
        if path[-1:] != ("vocab",):
            for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
                yield (*path, key)
                yield from places(part[key], (*path, key))

    opened = 0
    for path in list(places(spec)):
        for value in (None, True, 0, -1, 1.5, "", "x", [], [1], {}, {"type": "x"}, 2**40):
            wrong = copy.deepcopy(spec)
            place: Any = wrong
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            try:
                tokenizer = Tokenizer(json.dumps(wrong))
            except LoadError:
                continue
            opened += 1
            try:
                tokenizer.decode(tokenizer.encode("a猫 "))
            except (UsageError, LoadError):
                pass
    assert opened > 20
    capfd.readouterr()


def test_files_that_are_none(tmp_path: Path) -> None:
    cases: dict[str, str] = {"missing": "file_missing", "folder": "file_is_folder", "pipe": "file_not_regular"}
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)  # sparse
    cases["huge"] = "file_too_large"
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    cases["dangling"] = "file_missing"
    (tmp_path / "latin").write_bytes(b'{"a": "\xe9"}')
    cases["latin"] = "tokenizer_unreadable"
    for name, key in cases.items():
        with pytest.raises(LoadError) as caught:
            Tokenizer.from_file(tmp_path / name)
        assert caught.value.key == key, name


def test_truncated_anywhere_is_a_load_error(capfd: pytest.CaptureFixture[str]) -> None:
    source = toy_tokenizer().source
    for n in range(0, len(source) - 1, 7):
        with pytest.raises(LoadError):
            Tokenizer(source[:n])


# --- vocabularies manako makes ----------------------------------------------------------------------------------------


def test_character_vocabulary_has_start_bytes_then_characters_by_code_point() -> None:
    tokenizer = train_characters(["ああ\n", "いaa", "う"], min_count=2)
    assert tokenizer.token_bytes[0] == b"<|endoftext|>" and tokenizer.special_ids == {0}
    assert list(tokenizer.token_bytes[1:257]) == [bytes([b]) for b in range(256)]
    assert list(tokenizer.token_bytes[257:]) == [b"a", "あ".encode()]
    assert len(tokenizer.encode("い")) == 3 and len(tokenizer.encode("あ")) == 1


def test_a_corpus_of_nothing_or_one_character() -> None:
    assert train_characters([], min_count=1).vocab_size == 257
    assert train_characters(["aaaa"], min_count=2).encode("aba") == [257, 1 + ord("b"), 257]


# --- BPE --------------------------------------------------------------------------------------------------------------

WORDS = "私は 猫である 思った という 彼女 見えた どこで 名前の コーヒー ―― 。 「 。」 、 のは 人".split() + [
    "\n　",
    " the",
    " cat",
]
STORY = "".join(random.Random(4).choices(WORDS, k=4000))
TRAINERS = [train_character_bpe, train_byte_bpe]


@cache
def trained(train: Any, vocab_size: int = 400) -> Tokenizer:
    return train([LEARNED, STORY], vocab_size)


@pytest.mark.parametrize("train", TRAINERS)
def test_bpe_brings_any_block_of_unicode_back(train: Any) -> None:
    tokenizer = trained(train)
    for text in ["", "\uffff", "|<0xE3><|endoftext|>", "\r\n \t\u3000", *random_texts(2000, seed=2)]:
        assert tokenizer.decode(tokenizer.encode(text)).decode() == text


@given(st.text(), st.sampled_from(TRAINERS))
def test_bpe_brings_any_text_back(text: str, train: Any) -> None:
    tokenizer = trained(train)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids).decode() == text
    assert 0 not in ids  # the document start is only ever put in by id
    assert tokenizer.encode_documents([text]) == [ids]


@pytest.mark.slow
@given(st.lists(st.text(alphabet="ab猫のー \n\uffff龘", min_size=1), min_size=1), st.sampled_from(TRAINERS))
def test_whatever_it_was_trained_on(documents: list[str], train: Any) -> None:
    try:
        tokenizer = train(documents, LEAST_BPE_VOCAB)
    except UsageError as error:
        assert error.key == "vocab_size_not_reached"
        return
    assert tokenizer.vocab_size == LEAST_BPE_VOCAB
    for text in documents:
        assert tokenizer.decode(tokenizer.encode(text)).decode() == text


@pytest.mark.parametrize("train", TRAINERS)
def test_bpe_vocabulary_is_start_bytes_then_what_was_learned(train: Any) -> None:
    tokenizer = trained(train)
    assert tokenizer.vocab_size == 400 and tokenizer.special_ids == {0} and tokenizer.unknown_id is None
    assert tokenizer.token_bytes[0] == b"<|endoftext|>"
    assert list(tokenizer.token_bytes[1:257]) == [bytes([b]) for b in range(256)]
    learned = [b for b in tokenizer.token_bytes[257:] if len(b) > 1]
    assert "思った".encode() in learned and len(tokenizer.encode("思った")) == 1


def test_character_bpe_gives_half_the_room_to_the_most_frequent_characters() -> None:
    tokenizer = trained(train_character_bpe, 330)
    counts = Counter(LEARNED + STORY)
    characters = [b.decode() for b in tokenizer.token_bytes[257:] if len(b.decode()) == 1]
    assert len(characters) == (330 - 257) // 2 and characters == sorted(characters)
    assert min(counts[ch] for ch in characters) >= max(counts[ch] for ch in counts.keys() - set(characters))
    assert all(len(b.decode()) > 1 for b in tokenizer.token_bytes[257 + len(characters) :])


def test_character_bpe_leaves_what_hardly_occurs_to_bytes() -> None:
    tokenizer = train_character_bpe(["あいうえお" * 2000 + "龘" + "鬱" * 3], 267)  # 10,004 characters: 10 may be left
    texts = [b.decode() for b in tokenizer.token_bytes[257:]]
    assert {"あ", "い", "う", "え", "お"} <= set(texts) and not any("龘" in t or "鬱" in t for t in texts)
    assert len(tokenizer.encode("龘")) == 3


def test_character_bpe_learns_no_pair_across_a_character_it_left_out() -> None:
    """The trainer drops what is not in its alphabet, and would count b龘c as the pair bc."""
    text = "abab cd " * 4000 + "c龘b " * 30  # 龘 is less than a thousandth of it
    with pytest.raises(UsageError) as caught:
        train_character_bpe([text], 300)
    largest = train_character_bpe([text], int(caught.value.values["most"]))
    assert {b"abab", b" cd"} <= set(largest.token_bytes)
    assert "龘".encode() not in largest.token_bytes and not any(b"cb" in b for b in largest.token_bytes)


@pytest.mark.parametrize("train", TRAINERS)
def test_no_piece_goes_from_kana_to_kanji_or_over_punctuation(train: Any) -> None:
    """思った may be one piece, た。「 and のは猫 may not; the marks of a sentence end may stay together."""
    tokenizer = train([STORY], 400)
    texts = [b.decode("utf-8", "ignore") for b in tokenizer.token_bytes[257:]]
    assert "思った" in texts and "――" in texts and "\n\u3000" in texts
    for text in texts:
        assert not re.search("[ぁ-ん][一-龠]|[ぁ-ん一-龠][。「」、\n]|[。「」、\n][ぁ-ん一-龠]", text), text


def test_words_of_other_scripts_are_split_as_gpt2_does() -> None:
    split = pre_tokenizers.Split(tokenizers.Regex(KNOWN_PATTERNS[-1]), "isolated")
    cases = {
        "It's 2026, isn't it?": ["It", "'s", " 2026", ",", " isn", "'t", " it", "?"],
        "思った。\n　彼女は": ["思った", "。", "\n\u3000", "彼女は"],
        "「コーヒー――」と、らーめん": ["「", "コーヒー", "――」", "と", "、", "らーめん"],
        "Café naïve Ünïcödé": ["Café", " naïve", " Ünïcödé"],
        "नमस्ते दुनिया": ["नमस्ते", " दुनिया"],  # marks stay with their letters, which GPT-2 cuts off
        "東京tower": ["東京", "tower"],
    }
    for text, words in cases.items():
        assert [word for word, _ in split.pre_tokenize_str(text)] == words


@pytest.mark.parametrize("train", TRAINERS)
def test_a_long_rule_of_dashes_makes_no_endless_piece(train: Any) -> None:
    tokenizer = train([("=" * 5000 + "\n" + "―" * 3000 + "\n") * 4 + STORY], 300)
    assert max(map(len, tokenizer.token_bytes)) <= 48
    assert tokenizer.decode(tokenizer.encode("=" * 999)) == b"=" * 999


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.slow
def test_the_same_text_gives_the_same_file_in_any_process(train: Any) -> None:
    code = f"""
from manako.tokenizer import {train.__name__} as train
import hashlib
texts = [chr(0x3042 + i % 61) + "猫は思った。" * (i % 7) + str(i * i) for i in range(4000)]
print(hashlib.sha256(train(iter(texts), 500).source.encode()).hexdigest())
"""
    digests = set()
    for settings in ({"RAYON_NUM_THREADS": "1"}, {"RAYON_NUM_THREADS": "7"}, {"TOKENIZERS_PARALLELISM": "false"}):
        environ = os.environ | settings | {"PYTHONHASHSEED": "random"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize("size", [-1, 0, 257, LEAST_BPE_VOCAB - 1])
def test_a_bpe_vocabulary_that_is_too_small(train: Any, size: int) -> None:
    with pytest.raises(UsageError, match=f"at least 260 tokens.*got {size}") as caught:
        train([STORY], size)
    assert caught.value.key == "vocab_size" and "260" in caught.value.text("ja")


@pytest.mark.parametrize("train", TRAINERS)
def test_a_text_that_does_not_reach_the_size(train: Any) -> None:
    for text in (STORY, "私は猫である。名前はまだ無い。" * 50):
        with pytest.raises(UsageError, match="gives [0-9]+ tokens at most, 50000 were asked for") as caught:
            train([text], 50_000)
        most = int(caught.value.values["most"])
        assert train([text], most).vocab_size == most
        for size in range(LEAST_BPE_VOCAB, most, 7):  # and every size below it can be had
            assert train([text], size).vocab_size == size
        with pytest.raises(UsageError):
            train([text], most + 1)
    for nothing in ([], [""]):
        with pytest.raises(UsageError, match="gives 257 tokens at most"):
            train(nothing, 300)


def test_a_long_corpus_is_sampled_evenly_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "SAMPLE_CHARACTERS", 50)
    monkeypatch.setattr(tokenizer_module, "_SAMPLE_BLOCK", 10)
    texts = ["".join(chr(0x4E00 + i) for i in range(n, n + 45)) for n in (0, 100, 200)]  # 5 blocks each
    assert list(tokenizer_module._sample(texts)) == [
        texts[0][:10],
        texts[0][30:40],
        *(t[a : a + 10] for t, a in [(texts[1], 10), (texts[1], 40), (texts[2], 20)]),
    ]
    assert list(tokenizer_module._sample(texts[:1])) == [texts[0][i : i + 10] for i in range(0, 45, 10)]
    assert list(tokenizer_module._sample([])) == []


@pytest.mark.slow
@pytest.mark.parametrize("train", TRAINERS)
def test_a_larger_vocabulary_needs_fewer_tokens(train: Any) -> None:
    rng = random.Random(1)
    words = ["".join(rng.choices("かきくけこさしすせそ猫犬山川", k=rng.randrange(1, 5))) for _ in range(3000)]
    text = "".join(rng.choices(words, k=200_000))
    counts = [len(train([text], size).encode(text[:50_000])) for size in (400, 800, 1600)]
    assert counts == sorted(counts, reverse=True) and counts[0] > 1.2 * counts[-1]


def test_from_characters_keeps_the_order_given() -> None:
    characters = ["い", " ", "\n", "\0", "\u2581", "Ġ", "😀", "あ", "<"]
    tokenizer = from_characters(characters)
    assert tokenizer.encode("".join(characters)) == list(range(9))
    assert list(tokenizer.token_bytes) == [c.encode() for c in characters]
    assert tokenizer.special_ids == frozenset() and tokenizer.unknown_id is None


def test_a_character_twice_is_refused() -> None:
    with pytest.raises(LoadError):
        from_characters(["あ", "い", "あ"])


def reference_bpe(data: bytes, merges: list[tuple[int, int]]) -> list[int]:
    """minbpe's way: the earliest learned pair first, everywhere at once, until none is left."""
    ids, ranks = list(data), {pair: i for i, pair in enumerate(merges)}
    while len(ids) > 1:
        pair = min(zip(ids, ids[1:], strict=False), key=lambda p: ranks.get(p, len(ranks)))
        if pair not in ranks:
            break
        out, i = [], 0
        while i < len(ids):
            if tuple(ids[i : i + 2]) == pair:
                out.append(256 + ranks[pair])
                i += 2
            else:
                out.append(ids[i])
                i += 1
        ids = out
    return ids


def learned_merges(count: int) -> tuple[list[bytes], list[tuple[int, int]]]:
    from collections import Counter

    ids, vocab, merges = list(LEARNED[:90].encode() * 3), [bytes([b]) for b in range(256)], []
    while len(merges) < count:
        pairs = Counter(zip(ids, ids[1:], strict=False))
        pair = next(p for p, _ in pairs.most_common() if vocab[p[0]] + vocab[p[1]] not in vocab)
        merges.append(pair)
        vocab.append(vocab[pair[0]] + vocab[pair[1]])
        ids = reference_bpe(LEARNED[:90].encode() * 3, merges)
    return vocab, merges


def test_from_merges_encodes_as_the_merges_say() -> None:
    vocab, merges = learned_merges(40)
    tokenizer = from_merges(vocab, merges)
    assert list(tokenizer.token_bytes) == vocab
    for text in (LEARNED[:300], "aaaa", "猫猫猫猫", "", "\r\n\0 \t", *random_texts(300)):
        assert tokenizer.encode(text) == reference_bpe(text.encode(), merges)
        assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


def test_from_merges_with_two_ways_to_one_token_is_refused() -> None:
    vocab = [bytes([b]) for b in range(256)]
    merges = [(97, 98), (256, 99), (98, 99), (97, 258)]  # ab, abc, bc, and abc again
    with pytest.raises(LoadError):
        from_merges([*vocab, b"ab", b"abc", b"bc", b"abc"], merges)


OWN = {
    "characters": toy_tokenizer,
    "given characters": lambda: from_characters([*"私は猫ab"]),
    "given merges": lambda: from_merges(*learned_merges(3)),
    "character BPE": lambda: train_character_bpe([LEARNED], 300),
    "byte BPE": lambda: train_byte_bpe([LEARNED], 300),
}
START = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"s": {"id": "s", "ids": [0], "tokens": ["s"]}},
}


BYTE_LEVEL = json.loads(from_merges([bytes([n]) for n in range(256)], []).source)["pre_tokenizer"]


def respelled(spec: dict[str, Any]) -> None:
    """Merges as `tokenizers` wrote them before 0.20."""
    spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]


def with_added(**changes: Any) -> Any:
    def spoil(spec: dict[str, Any]) -> None:
        spec["added_tokens"] = [*spec["added_tokens"], SPECIAL | {"id": len(spec["model"]["vocab"])} | changes]

    return spoil


@pytest.mark.parametrize("name", OWN)
def test_what_is_made_here_is_known_again(name: str) -> None:
    assert OWN[name]().is_own


@pytest.mark.parametrize("spoil", [
    respelled,
    lambda spec: spec.update(post_processor=START),
    lambda spec: spec.update(decoder={"type": "Replace", "pattern": {"String": "a"}, "content": "b"}),
    lambda spec: spec.pop("pre_tokenizer"),
    lambda spec: spec.update(pre_tokenizer=None),
    lambda spec: spec["model"].update(unk_token="a"),
    lambda spec: spec["model"]["vocab"].update({"猫": 300}),
    lambda spec: spec["added_tokens"][0].update(special=False),
    with_added(content="<new>"),
    with_added(content="cab", special=False),
    with_added(content="<|endoftext|>b", id=1000),
])  # fmt: skip
def test_a_file_that_the_page_would_read_otherwise_is_not_one_of_ours(spoil: Any) -> None:
    """The page's engine knows the files that are made here, and gives other ids for what it does not know."""
    spec = json.loads(train_byte_bpe([LEARNED], 300).source)
    spoil(spec)
    assert not Tokenizer(json.dumps(spec)).is_own


@pytest.mark.parametrize("name, spoil", [
    ("character BPE", lambda spec: spec["model"].update(byte_fallback=False)),
    ("byte BPE", lambda spec: spec["model"].update(byte_fallback=True, vocab=spec["model"]["vocab"] | {"<0x41>": 300})),
    ("characters", lambda spec: spec.update(pre_tokenizer=BYTE_LEVEL)),
])  # fmt: skip
def test_a_token_named_as_a_byte_has_the_same_bytes_in_the_page_or_is_not_ours(name: str, spoil: Any) -> None:
    spec = json.loads(OWN[name]().source)
    spoil(spec)
    assert not Tokenizer(json.dumps(spec)).is_own


PREPEND = {"type": "Prepend", "prepend": "▁"}
TO_MARKS = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
OLD_METASPACE = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
SENTENCEPIECE = Path(__file__).parent / "fixtures" / "sentencepiece"


def ruled(tokenizer: Tokenizer, normalizer: Any, cut: Any = None) -> Tokenizer:
    return Tokenizer(json.dumps(json.loads(tokenizer.source) | {"normalizer": normalizer, "pre_tokenizer": cut}))


def carried(name: str, folder: Path) -> Tokenizer:
    kind, file = {"bpe": ("Llama", "tokenizer.model"), "unigram": ("T5", "spiece.model")}[name]
    shutil.copy(SENTENCEPIECE / f"{name}.model", folder / file)
    return read_vocabulary(folder, {"tokenizer_class": f"{kind}Tokenizer"}, {})


@pytest.mark.parametrize("kind", ["metaspace", "older metaspace", "prepended", "stripped", "bytes", "bpe", "unigram"])
def test_a_text_behind_another_gets_no_space_and_keeps_its_own(kind: str, tmp_path: Path) -> None:
    strip = {"type": "Strip", "strip_left": True, "strip_right": False}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    spaced_bytes = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    made = {
        "prepended": metaspace_bpe,
        "stripped": lambda: ruled(metaspace_bpe(), {"type": "Sequence", "normalizers": [strip, PREPEND, TO_MARKS]}),
        "metaspace": lambda: ruled(metaspace_bpe(), None, metaspace),
        "older metaspace": lambda: ruled(metaspace_bpe(), None, OLD_METASPACE),
        "bytes": lambda: ruled(byte_level_bpe(), None, spaced_bytes),
    }
    tokenizer = made.get(kind, lambda: carried(kind, tmp_path))()
    assert tokenizer.decode(tokenizer.encode("the")) == b" the"
    for text in ("the", " the", "t", " t then", "猫"):
        ids = tokenizer.behind.encode(text)
        assert tokenizer.unknown_id in ids or tokenizer.decode(ids) == text.encode(), text
    assert tokenizer.behind.token_bytes == tokenizer.token_bytes


def test_without_such_a_space_it_is_the_same_tokenizer() -> None:
    for tokenizer in (toy_tokenizer(), byte_level_bpe()):
        assert tokenizer.behind is tokenizer
