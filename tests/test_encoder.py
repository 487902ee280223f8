"""What a stranger's regular expression can do: nothing that takes longer, or more memory, than allowed (T10)."""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from lanes import mostly_slow
from toy import random_texts, toy_tokenizer

from manako import encoder
from manako.errors import LoadError, ManakoError
from manako.tokenizer import Tokenizer

_CASED = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]{}[\p{Ll}\p{Lm}\p{Lo}\p{M}]{}"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = (
    _CASED.replace("{}", "*", 1).replace("{}", "+", 1),
    _CASED.replace("]{}", "]+", 1).replace("{}", "*", 1),
)
PUBLISHED = {  # by the models that have them; none is on the list of those that run in this process
    "DeepSeek V3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    rf" ?[\p{{P}}\p{{S}}]+[\r\n]*|{_REST}",
    "GPT-4o, gpt-oss": rf"{_WORD}{_UPPER}{_SHORT}?|{_WORD}{_LOWER}{_SHORT}?|\p{{N}}{{1,3}}|"
    rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}",
    "Tekken": rf"{_WORD}{_UPPER}|{_WORD}{_LOWER}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}",
    "Qwen 3.5": rf"{_SHORT}|{_WORD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_REST}",
    "BLOOM": " ?[^(\\s|[.,!?…。，、।۔،])]+",
    "Falcon": "[0-9][0-9][0-9]",
    "nanochat": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|"
    r"\s+(?!\S)|\s+",
}
HOSTILE = {
    "nested": ("(a+)+$", "a" * 60 + "b"),
    "nested and alternatives": ("(a|aa|a?)+$", "a" * 60 + "b"),
    "a square": (".*b", "a" * 1_000_000),
    "a cube": (r"\s*\s*\s*x", " " * 100_000),
    "looks ahead": ("(?=(a+)+$)b", "a" * 60 + "b"),
    "refers back": (r"(.*)(.*)(.*)\1\2\3x", "ab" * 20_000),
    "counts": ("(a{1,1000}){1,1000}b", "a" * 5_000),
    "a bomb to compile": ("((((a{1,99}){1,99}){1,99}){1,99}){1,99}", "a" * 100),
}


def with_pattern(pattern: str) -> str:
    spec = json.loads(toy_tokenizer().source)
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return json.dumps(spec | {"pre_tokenizer": split})


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "SECONDS_A_TEXT", 2.0)
    monkeypatch.setattr(encoder, "CHARACTERS_A_SECOND", 1_000_000)


@pytest.mark.parametrize("name", mostly_slow(HOSTILE, fast={"nested", "a bomb to compile"}))  # a process each
def test_whatever_the_expression_the_time_is_bounded(name: str, seconds: None, capfd: Any) -> None:
    pattern, text = HOSTILE[name]
    began = time.monotonic()
    try:
        tokenizer = Tokenizer(with_pattern(pattern))
        assert tokenizer.decode(tokenizer.encode(text)).decode() == text  # fast after all
    except LoadError as error:
        assert error.exit_code == 3 and "\n" not in str(error) and error.text("ja")
    assert time.monotonic() - began < 60  # a ceiling against hangs; the limit is a few seconds
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_an_expression_that_is_too_slow_is_named_and_the_next_text_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "SECONDS_A_TEXT", 0.5)  # it takes two here
    monkeypatch.setattr(encoder, "CHARACTERS_A_SECOND", 10**9)
    tokenizer = Tokenizer(with_pattern(HOSTILE["a square"][0]))
    with pytest.raises(LoadError) as caught:
        tokenizer.encode(HOSTILE["a square"][1])
    assert caught.value.key == "tokenizer_slow" and "seconds" in str(caught.value)
    assert tokenizer.encode("あ。") == toy_tokenizer().encode("あ。")


def test_an_answer_that_nobody_waited_for_is_not_that_to_the_next_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(with_pattern("x+|y+"))
    first, second = tokenizer.encode("は"), tokenizer.encode("の")
    beside = tokenizer._encoder
    assert isinstance(beside, encoder.Beside) and beside._process and first != second
    stdout = beside._process.stdout
    assert stdout

    class Interrupted:
        """Ctrl-C while the first answer is waited for."""

        waited = False
        close = stdout.close

        def readline(self) -> bytes:
            if not self.waited:
                self.waited = True
                raise KeyboardInterrupt
            return stdout.readline()

    monkeypatch.setattr(beside._process, "stdout", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("は")
    assert tokenizer.encode("の") == second


class Unheeded:
    """A clock of who asked that never comes: it was ended, or stopped."""

    def __init__(self, *_: object) -> None: ...

    def start(self) -> None: ...

    def cancel(self) -> None: ...


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="who asked ends it there")
def test_the_second_process_keeps_to_its_time_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of compiled code, with nobody who ends it."""
    tokenizer = Tokenizer(with_pattern(NEVER))
    beside = tokenizer._encoder
    assert isinstance(beside, encoder.Beside)
    watchdog = threading.Timer(30, beside.close)  # else a failure would be a hang
    monkeypatch.setattr(threading, "Timer", Unheeded)
    monkeypatch.setattr(encoder, "SECONDS_A_TEXT", 0.5)
    monkeypatch.setattr(encoder, "CHARACTERS_A_SECOND", 10**9)
    watchdog.start()
    began = time.monotonic()
    with pytest.raises(LoadError) as caught:
        tokenizer.encode("a" * 1_000_000)
    assert time.monotonic() - began < 20 and caught.value.key == "tokenizer_slow"
    watchdog.cancel()
    assert tokenizer.encode("あ。") == toy_tokenizer().encode("あ。")


NEVER = "a[^c]*c"  # the square of a text's length
ASKS = {
    "a text": 'from manako.tokenizer import Tokenizer; Tokenizer(sys.argv[1]).encode("a" * 1_000_000)',
    "a template": "from manako.formats import chat_template; chat_template.SECONDS = 60; "
    "chat_template.filled('{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}', [], {})",
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="signals of pipes are Linux's")
@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGTERM"])
def test_the_second_process_ends_with_the_one_that_asked(name: str, sent: str) -> None:
    """Long before its own time is over, in the middle of its work."""
    asks = [sys.executable, "-c", f"import sys; {ASKS[name]}", with_pattern(NEVER)]
    with subprocess.Popen(asks, stderr=subprocess.DEVNULL) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (child := children.read_text().split()):
            select.select([], [], [], 0.05)
        watched = os.pidfd_open(int(child[0]))
        while seconds_of(child[0]) < 2.0:  # it is at work; to start and to read takes less
            assert not select.select([watched], [], [], 0.05)[0]
        process.send_signal(getattr(signal, sent))
    ended = select.select([watched], [], [], 3.0)[0]
    if not ended:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
    os.close(watched)
    assert ended


def seconds_of(pid: str) -> float:
    """The processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", mostly_slow(PUBLISHED, fast={"DeepSeek V3"}))  # a process each
def test_published_expressions_open(name: str) -> None:
    tokenizer = Tokenizer(with_pattern(PUBLISHED[name]))
    texts = ["Hello world, it's 2026!\r\n\n  私は猫である。", "a" * 20_000, *random_texts(50)]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)).decode() == text
    assert tokenizer.encode_documents(texts) == [tokenizer.encode(text) for text in texts]


def test_both_ways_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    here = toy_tokenizer()
    monkeypatch.setattr(encoder, "Inside", encoder.Beside)
    beside = Tokenizer(here.source)
    for text in ("", "猫<|endoftext|>\n\x00𠮷", *random_texts(50)):
        for special in (False, True):
            assert beside.aligned(text, special) == here.aligned(text, special)


GROWS = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
BOMBS: dict[str, Any] = {
    "twelve that grow": {"type": "Sequence", "normalizers": [GROWS] * 12},
    "a megabyte in front, and each of it ten times": {
        "type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "a" * 10**6}, *[GROWS] * 6],
    },
    "a charsmap of 8 GB": {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_normaliser_cannot_take_all_memory(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    spec = json.loads(toy_tokenizer().source) | {"normalizer": BOMBS[name]}
    began = time.monotonic()
    with pytest.raises(LoadError):
        Tokenizer(json.dumps(spec)).encode("a")
    assert time.monotonic() - began < 60
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("normalizer", [
    None, {"type": "NFC"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "NFKC"}]},
], ids=str)  # fmt: skip
def test_usual_normalisers_run_in_this_process(normalizer: Any) -> None:
    spec = json.loads(toy_tokenizer().source) | {"normalizer": normalizer}
    assert isinstance(encoder.encoder(spec, json.dumps(spec)), encoder.Inside)


def test_a_panic_of_the_library_is_one_line_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    spec = json.loads(toy_tokenizer().source) | {"pre_tokenizer": {"type": "FixedLength", "length": 0}}
    with pytest.raises(ManakoError):
        Tokenizer(json.dumps(spec)).encode("猫abc")
    assert capfd.readouterr().err == ""


NORMALISERS: tuple[dict[str, Any], ...] = (
    *({"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "ByteLevel")),
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": True,
     "lowercase": True},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "Replace", "pattern": {"String": "a"}, "content": ""},
    {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Prepend", "prepend": ""},
)  # fmt: skip
CUTS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "BertPreTokenizer"},
    {"type": "Digits", "individual_digits": True},
    {"type": "Split", "pattern": {"String": ""}, "behavior": "MergedWithPrevious", "invert": False},
)
PARTS = [
    *"a b é e\u0301 \u200c \u200b £ \u0301 \u327f 猫 \0 İ ﷺ ｶﾞ \U0001f468 \n Ⅳ \ufb01 \u1100\u1161 aaaa deb".split(" ")
]


def random_file(rng: random.Random) -> dict[str, Any]:
    """Components and added tokens as the library's tracker has them in panics: tokenizers#736, #1349, #1452."""
    vocab = {ch: i for i, ch in enumerate(["<unk>", *"abcdefg ▁#猫é"])}
    model: dict[str, Any] = rng.choice((
        {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>"},
        {"type": "Unigram", "unk_id": 0, "vocab": [[text, -i] for text, i in vocab.items()], "byte_fallback": False},
        {"type": "WordPiece", "vocab": vocab, "unk_token": "<unk>", "continuing_subword_prefix": "##",
         "max_input_chars_per_word": 5},
    ))  # fmt: skip
    names = dict.fromkeys("".join(rng.choices(PARTS, k=rng.randrange(1, 3))) for _ in range(rng.randrange(6)))
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    added = [
        {"id": len(vocab) + i, "content": name, **{flag: rng.random() < 0.4 for flag in flags}}
        for i, name in enumerate(name for name in names if name not in vocab)
    ]
    chosen = {"type": "Sequence", "normalizers": rng.sample(NORMALISERS, rng.randrange(4))}
    fixed = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None, "decoder": None}
    return fixed | {"added_tokens": added, "normalizer": chosen, "pre_tokenizer": rng.choice(CUTS), "model": model}


def test_nothing_that_runs_in_this_process_panics(capfd: pytest.CaptureFixture[str]) -> None:
    rng, here = random.Random(0), 0
    for _ in range(1500):
        spec = random_file(rng)
        if not encoder.runs_here(spec):
            continue
        here += 1
        opened = encoder.Inside(json.dumps(spec))
        for _ in range(4):
            with contextlib.suppress(encoder.Failed):
                opened.encode("".join(rng.choices(PARTS, k=rng.randrange(1, 9))), special=bool(here % 2))
        assert "panicked" not in capfd.readouterr().err, spec
    assert here > 300


ADDED = {"single_word": False, "lstrip": True, "rstrip": False, "normalized": True, "special": False}
PANICS: dict[str, tuple[dict[str, Any], list[str], str]] = {  # normaliser, added tokens, text
    "nothing is put in front": ({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": ""}, {"type": "Lowercase"}]}, [], "ﷺ猫"),
    "tokens of changed text": ({"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": ""}, {"type": "StripAccents"},
        {"type": "Strip", "strip_left": True, "strip_right": True}]}, ["\u0301", "deb\u200c"], "  ́£ééeg\u200c"),
}  # fmt: skip


@pytest.mark.parametrize("name", PANICS)
def test_a_panic_while_encoding_is_heard_by_nobody(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """tokenizers#736 and #1349, and their like."""
    normaliser, names, text = PANICS[name]
    spec = json.loads(toy_tokenizer().source)
    size = 1 + max(spec["model"]["vocab"].values())
    spec["added_tokens"] += [{"id": size + i, "content": content, **ADDED} for i, content in enumerate(names)]
    source = json.dumps(spec | {"normalizer": normaliser})
    with pytest.raises(encoder.Failed):
        encoder.Inside(source).encode(text)
    assert "panicked" in capfd.readouterr().err  # in this process it would be read
    with pytest.raises(ManakoError) as caught:
        Tokenizer(source).encode(text)
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""
