"""Documents to a packed corpus: split by work, nothing half-written, bounded memory (P23-P25, P29, F5, F6)."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import build_toy, toy_documents, toy_vocabulary

from manako import files
from manako.corpus import build
from manako.corpus import packing as module
from manako.corpus.documents import Document
from manako.corpus.packed import SIDES, PackedCorpus
from manako.corpus.packing import ShardWriter, Vocabulary, pack, parts
from manako.errors import LoadError, ManakoError, UsageError
from manako.tokenizer import from_characters


def by_side(corpus: PackedCorpus) -> dict[str, list[str]]:
    """The names of the documents of each side."""
    found: dict[str, list[str]] = {"train": [], "validation": []}
    for d in corpus.documents():
        found[d["side"]].append(d["name"])
    return found


class Said(list[tuple[str, dict[str, object]]]):
    """A report that remembers."""

    def __call__(self, key: str, **values: object) -> None:
        self.append((key, values))

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self]


# --- the split --------------------------------------------------------------------------------------------------------


def long_works(count: int) -> list[Document]:
    return [Document(f"w{n}", "".join(d.text for d in toy_documents(8, 100 + n))) for n in range(count)]


def test_about_the_share_is_held_out_and_order_is_kept(tmp_path: Path) -> None:
    corpus = build_toy(tmp_path / "c", count=2000, validation_share=0.1)
    sides = by_side(corpus)
    assert 0.07 < len(sides["validation"]) / 2000 < 0.13 and len(sides["train"]) + len(sides["validation"]) == 2000
    for names in sides.values():
        assert names == sorted(names, key=lambda name: int(name[1:]))


def test_a_work_falls_on_the_same_side_whatever_else_is_there(tmp_path: Path) -> None:
    everything = long_works(60)
    whole = set(by_side(build_toy(tmp_path / "a", documents=everything))["validation"])
    assert 3 < len(whole) < 25
    for n in range(2):
        some = everything[n::2]
        held_out = set(by_side(build_toy(tmp_path / f"b{n}", documents=some))["validation"])
        assert held_out == whole & {d.name for d in some}


def test_editions_and_parts_stand_on_one_side(tmp_path: Path) -> None:
    everything = long_works(40)
    old = [Document("old " + d.name, d.text.replace("の", "ノ").replace("は", "ハ")) for d in everything]
    half = [Document("half " + d.name, d.text[: len(d.text) // 2]) for d in everything]
    corpus = build_toy(tmp_path / "c", documents=[*everything, *old, *half])
    sides = {d["name"]: d["side"] for d in corpus.documents()}
    groups = {d["name"]: d["group"] for d in corpus.documents()}
    for d in everything:
        for other in ("old ", "half "):
            assert sides[d.name] == sides[other + d.name] and groups[d.name] == groups[other + d.name]
    assert corpus.header.statistics["works"] == 40 and corpus.header.statistics["near_duplicates"] == 80


def test_the_end_of_the_longest_is_held_out_when_a_side_would_be_empty(tmp_path: Path) -> None:
    text, said = "私は猫である。" * 100, Said()
    corpus = build_toy(tmp_path / "c", documents=[Document("a.txt", text)], report=said)
    assert by_side(corpus) == {"train": ["a.txt"], "validation": ["a.txt [end]"]} and "corpus.cut" in said.keys
    train, validation = (corpus.header.statistics[side] for side in ("train", "validation"))
    assert validation["characters"] == 140 and train["characters"] == 560  # a fifth, as asked for
    assert train["bytes"] + validation["bytes"] == len(text.encode())
    assert corpus.header.statistics["works"] == 1 and corpus.header.statistics["near_duplicates"] == 0
    one = build_toy(tmp_path / "d", documents=[Document("a", text)], validation_share=0.03)
    assert one.header.statistics["validation"]["characters"] == 70  # but never less than a tenth


def test_a_copy_of_the_cut_document_does_not_leak_its_end(tmp_path: Path) -> None:
    text = "".join(d.text for d in toy_documents(30))
    said = Said()
    corpus = build_toy(tmp_path / "c", documents=[Document("a", text), Document("copy", text)], report=said)
    assert ("corpus.copies_left_out", {"count": 1}) in said
    sides = by_side(corpus)
    assert sides in ({"train": ["a"], "validation": ["a [end]"]}, {"train": ["copy"], "validation": ["copy [end]"]})


@pytest.mark.parametrize("text", ["あ", "あい"])
def test_texts_of_a_character_or_two(tmp_path: Path, text: str) -> None:
    said = Said()
    corpus = build_toy(tmp_path / "c", documents=[Document("a", text)], report=said)
    if len(text) == 1:
        assert "corpus.nothing_held_out" in said.keys and len(corpus.validation) == 1
        assert list(corpus.validation.documents(corpus.start_id)) == []
    else:
        assert len(corpus.validation) == 3
    corpus.verify()


def test_a_share_of_nothing_holds_nothing_out(tmp_path: Path) -> None:
    corpus = build_toy(tmp_path / "c", validation_share=0)
    assert by_side(corpus)["validation"] == [] and len(corpus.validation) == 1
    for share in (-0.1, 1, float("nan")):
        with pytest.raises(UsageError) as caught:
            build_toy(tmp_path / "d", validation_share=share)
        assert caught.value.key == "validation_share" and not (tmp_path / "d").exists()


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_made_from_the_training_side_alone_and_may_read_it_twice(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def make(texts: Iterable[str]) -> Vocabulary:
        seen.extend((list(texts), list(texts)))
        return toy_vocabulary([])

    corpus = pack(toy_documents(), tmp_path / "c", make, validation_share=0.2)
    names = by_side(corpus)["train"]
    assert seen[0] == seen[1] == [d.text for d in toy_documents() if d.name in names]


def test_the_header_and_the_listing_say_what_was_done(tmp_path: Path) -> None:
    documents = [
        Document("a", "私は猫。\n", "題", "著者", "cp932", True, "aozora"),
        Document("b", "猫。" * 40, encoding="utf-8"),
    ]
    corpus = build_toy(
        tmp_path / "c", documents=documents, validation_share=0, settings={"kana": "any"}, sources=["x", "-"]
    )
    header = corpus.header
    assert header.settings == {"validation_share": 0, "kana": "any"} and header.sources == ["x", "-"]
    assert header.statistics["encodings"] == {"cp932": 1, "utf-8": 1}
    assert header.statistics["formats"] == {"aozora": 1, "text": 1}
    assert header.statistics["top_characters"][:2] == [["。", 41], ["猫", 41]]
    assert header.statistics["different_characters"] == 5
    assert list(corpus.documents())[0] == {
        "name": "a", "title": "題", "author": "著者", "side": "train", "group": 0, "characters": 5, "bytes": 13,
        "tokens": 5, "encoding": "cp932", "crlf": True, "format": "aozora",
    }  # fmt: skip
    assert corpus.tokenizer_source == '{"toy": 64}'
    assert sorted(p.name for p in corpus.folder.iterdir()) == [
        "corpus.json", "documents.jsonl", "tokenizer.json", "train-00000.ids", "validation-00000.ids"
    ]  # fmt: skip


def test_a_long_document_is_encoded_in_parts_and_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_toy(tmp_path / "a")
    monkeypatch.setattr(module, "PART_CHARACTERS", 7)
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 20)
    assert build_toy(tmp_path / "b").digest == whole.digest


def test_parts_lose_nothing() -> None:
    for text in ("", "\n", "a" * 25, "ab\n" * 9, "猫\n\n犬" * 5):
        assert "".join(parts(text, 10)) == text and all(len(p) <= 10 for p in parts(text, 10))


def test_shards_are_filled_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_TOKENS", 10)
    writer = ShardWriter(tmp_path, "train", np.dtype("<u2"))
    for size in (3, 0, 25, 2):
        writer.add(np.arange(size, dtype="<u2"))
    writer.flush()
    writer.flush()
    assert [tokens for tokens, _ in writer.shards] == [10, 10, 10]
    data = (tmp_path / "train-00000.ids").read_bytes()[-20:]
    assert hashlib.sha256(data).hexdigest() == writer.shards[0][1]


# --- nothing half-written ---------------------------------------------------------------------------------------------


def nothing_left(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def test_no_documents(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        pack([], tmp_path / "c", toy_vocabulary)
    assert caught.value.key == "corpus_no_documents" and nothing_left(tmp_path)


@pytest.mark.parametrize("error", [LoadError("corpus_empty_file", file="x"), KeyboardInterrupt(), RuntimeError("x")])
def test_a_failure_while_reading_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def documents() -> Iterator[Document]:
        yield from toy_documents(3)
        raise error

    with pytest.raises(type(error)):
        pack(documents(), tmp_path / "new" / "c", toy_vocabulary)
    assert nothing_left(tmp_path)


def test_a_failure_of_the_vocabulary_leaves_nothing(tmp_path: Path) -> None:
    def make(texts: Iterable[str]) -> Vocabulary:
        raise UsageError("vocab_size", got=1, least=2)

    with pytest.raises(UsageError):
        pack(toy_documents(), tmp_path / "c", make)
    assert nothing_left(tmp_path)


def test_an_empty_folder_is_taken_over_and_a_full_one_or_a_file_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert build_toy(tmp_path / "empty").folder == tmp_path / "empty"
    (tmp_path / "file").write_text("x")
    for name in ("empty", "file"):
        before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
        with pytest.raises(ManakoError) as caught:
            build_toy(tmp_path / name)
        assert caught.value.key == "target_exists_folder" and caught.value.exit_code == 1
        assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_a_folder_that_another_build_makes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def documents() -> Iterator[Document]:
        yield from toy_documents()
        build_toy(tmp_path / "c", seed=1)

    with pytest.raises(ManakoError) as caught:
        pack(documents(), tmp_path / "c", toy_vocabulary)
    assert caught.value.key == "write_failed" and [p.name for p in tmp_path.iterdir()] == ["c"]
    assert module.open_packed(tmp_path / "c").digest == build_toy(tmp_path / "d", seed=1, validation_share=0.2).digest


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ManakoError) as caught:
        build_toy(tmp_path / "c")
    tmp_path.chmod(0o700)
    assert caught.value.key == "write_failed" and nothing_left(tmp_path)


def test_a_path_through_a_file_or_with_a_nul(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "c", tmp_path / "a\0b"):
        with pytest.raises(ManakoError) as caught:
            build_toy(folder)
        assert caught.value.key == "write_failed"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "mkdir"])
def test_each_failing_call_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(ManakoError) as caught:
        build_toy(tmp_path / "c")
    assert caught.value.key == "write_failed" and caught.value.values["file"] == str(tmp_path / "c")[:120]
    assert nothing_left(tmp_path)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(ManakoError) as caught:
        build_toy(tmp_path / "c")
    assert caught.value.key == "disk_full" and caught.value.values["file"] == str(tmp_path / "c")
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_the_spool_fills_the_disk(tmp_path: Path) -> None:
    """A limit on the size of files fails like a full disk: the texts' temporary file meets it first."""
    program = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from corpora import build_toy
from manako.errors import ManakoError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    build_toy(Path(sys.argv[1]), count=3000)
except ManakoError as error:
    print(error.key)
"""
    tests = str(Path(__file__).parents[1] / "support")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "c"), tests], capture_output=True, text=True)
    assert done.stdout == "write_failed\n", done.stderr
    assert nothing_left(tmp_path)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_line_of_100_mb_is_packed_in_bounded_memory(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0x4E00, 0x9FFF, 34_952_500, dtype=np.uint32)
    (tmp_path / "line.txt").write_bytes(codes.tobytes().decode("utf-32-le").encode())
    program = """
import json, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from corpora import build_toy
from manako.corpus.documents import documents
corpus = build_toy(Path(sys.argv[2]), documents=documents(sys.argv[1]), validation_share=0.1)
# Not ru_maxrss: on Linux a new program inherits the peak of the process that started it.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([corpus.header.statistics, int(peak.split()[1])]))
"""
    tests = str(Path(__file__).parents[1] / "support")
    words = [sys.executable, "-c", program, str(tmp_path / "line.txt"), str(tmp_path / "c"), tests]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    statistics, peak = json.loads(done.stdout)
    assert statistics["train"]["characters"] + statistics["validation"]["characters"] == 34_952_500
    assert peak / 1024 < 900  # MB; the text alone, held once as str, would be 70, its ids as Python ints 280


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_what_a_given_vocabulary_lacks_is_counted(tmp_path: Path, unknown: str | None) -> None:
    spec = json.loads(from_characters(["<|endoftext|>", "<unk>", "a", "b", " ", "\n"]).source)
    spec["model"]["unk_token"] = unknown
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec["added_tokens"] = [{"id": 0, "content": "<|endoftext|>", **flags}]
    (tmp_path / "t.json").write_text(json.dumps(spec))
    (tmp_path / "a.txt").write_text("abc xyz ab ba c\n" * 27)
    said = Said()
    corpus = build(tmp_path / "a.txt", tmp_path / "c", tokenizer=str(tmp_path / "t.json"), report=said)
    told = [entry for entry in said if entry[0] in ("corpus.unspelled", "corpus.unknown")]
    sizes = [corpus.header.statistics[side] for side in SIDES]
    characters, tokens = (sum(s[name] for s in sizes) for name in ("characters", "tokens"))
    if unknown is None:
        named = "c U+0063 54, x U+0078 27, y U+0079 27, z U+007A 27"
        assert told == [("corpus.unspelled", {"count": "135", "of": "432", "characters": named})]
        assert (characters, tokens) == (432, 432 - 135)
    else:
        assert told == [("corpus.unknown", {"count": "135", "of": "432"})] and tokens == characters
