"""A packed corpus on disk: read back as it was written, and refused when anything about it is not right (F13, F14)."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from corpora import build_toy, toy_documents, toy_vocabulary

from manako.corpus import packed, packing
from manako.corpus.packed import PackedCorpus, header_digest, is_packed, open_packed, shard_head
from manako.errors import LoadError


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (packing, packed):
        monkeypatch.setattr(module, "SHARD_TOKENS", 100)


@pytest.fixture
def corpus(tmp_path: Path, small_shards: None) -> PackedCorpus:
    return build_toy(tmp_path / "c")


def all_ids(side: packed.Shards) -> np.ndarray:
    return side.windows([0], len(side))[0]


def test_ids_come_back_over_shard_borders(corpus: PackedCorpus) -> None:
    assert len(corpus.train.shards) > 3 and {s.tokens for s in corpus.train.shards[:-1]} == {100}
    vocabulary = toy_vocabulary([d.text for d in toy_documents()])
    sides = {d["name"]: d["side"] for d in corpus.documents()}
    for name, side in (("train", corpus.train), ("validation", corpus.validation)):
        texts = [d.text for d in toy_documents() if sides[d.name] == name]
        rows = [[vocabulary.start_id, *ids] for ids in vocabulary.encode_documents(texts)]
        expected = [i for row in rows for i in row] + [vocabulary.start_id]
        assert all_ids(side).tolist() == expected and len(side) == len(expected)
        assert [d.tolist() for d in side.documents(corpus.start_id)] == [row[1:] for row in rows]


def test_windows_are_int64_copies(corpus: PackedCorpus) -> None:
    whole = all_ids(corpus.train)
    starts = np.array([0, 95, 99, 100, len(whole) - 30, 37])
    windows = corpus.train.windows(starts, 30)
    assert windows.dtype == np.int64 and windows.shape == (6, 30) and windows.flags.writeable
    assert windows.tolist() == [whole[s : s + 30].tolist() for s in starts]
    assert corpus.train.windows([], 5).shape == (0, 5) and corpus.train.windows([3], 0).shape == (1, 0)
    for bad in ([-1], [len(whole) - 29], [0, len(whole)]):
        with pytest.raises(IndexError):
            corpus.train.windows(bad, 30)


def test_a_shard_is_a_safetensors_file(corpus: PackedCorpus) -> None:
    for shard in (*corpus.train.shards, *corpus.validation.shards):
        tensors = safetensors.numpy.load_file(shard.path)
        assert list(tensors) == ["ids"] and tensors["ids"].dtype == np.uint16
        assert tensors["ids"].tolist() == shard.open().tolist()
        with safetensors.safe_open(shard.path, "numpy") as file:
            assert file.metadata() == {"sha256": shard.sha256}


def test_ids_beyond_65536_are_stored_wider(tmp_path: Path) -> None:
    corpus = build_toy(tmp_path / "c", vocab_size=65_537)
    assert corpus.header.dtype == np.uint32 and corpus.header.to_json()["dtype"] == "uint32"
    assert all_ids(corpus.train).max() == 65_536  # the toy's start id is its last
    corpus.verify()
    assert build_toy(tmp_path / "d", vocab_size=65_536).header.dtype == np.uint16


def test_the_digest_names_the_content(tmp_path: Path) -> None:
    first, again = build_toy(tmp_path / "a"), build_toy(tmp_path / "b")
    assert first.digest == again.digest and first.digest != build_toy(tmp_path / "c", count=41).digest
    assert is_packed(first.folder) and not is_packed(tmp_path) and not is_packed(Path("a\0b"))
    assert repr(first).startswith(f"<PackedCorpus {first.folder.name} ") and str(tmp_path) not in repr(first)


def test_nothing_stays_mapped(corpus: PackedCorpus) -> None:
    """A map that stays open grows with every page that was touched."""
    corpus.train.windows([0, 150], 50)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert ".ids" not in maps.read_text()


# --- damage -----------------------------------------------------------------------------------------------------------


def files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir())


def refused(folder: Path) -> LoadError:
    """The error of opening or verifying a damaged corpus."""
    with pytest.raises(LoadError) as caught:
        open_packed(folder).verify()
    assert caught.value.exit_code == 3 and str(folder)[:40] in str(caught.value) and caught.value.text("ja")
    return caught.value


@pytest.mark.slow
def test_every_file_is_missed_and_no_truncation_passes(corpus: PackedCorpus) -> None:
    for path in files(corpus.folder):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(LoadError) as caught:
            open_packed(corpus.folder)
        assert caught.value.key == "file_missing" and path.name in str(caught.value)
        for size in {0, 1, 7, 8, min(20, len(data) - 3), len(data) // 2, len(data) - 2}:
            path.write_bytes(data[:size])
            refused(corpus.folder)
        path.write_bytes(data + b"x")
        refused(corpus.folder)
        path.write_bytes(data)
    open_packed(corpus.folder).verify()


@pytest.mark.slow
def test_every_flipped_bit_is_noticed(corpus: PackedCorpus) -> None:
    rng = random.Random(0)
    for path in files(corpus.folder):
        data = path.read_bytes()
        for _ in range(60):
            broken = bytearray(data)
            broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(broken)
            refused(corpus.folder)
        path.write_bytes(data)


def test_shards_of_another_corpus_are_noticed(corpus: PackedCorpus, tmp_path: Path) -> None:
    other = build_toy(tmp_path / "other", seed=5)
    shutil.copy(other.folder / "train-00000.ids", corpus.folder / "train-00000.ids")
    assert refused(corpus.folder).key == "corpus_shard_damaged"


@pytest.mark.parametrize(("change", "key"), [
    ({"schema": "manako.corpus/2"}, "corpus_header"),
    ({"vocab_size": 0}, "corpus_header"),
    ({"vocab_size": True}, "corpus_header"),
    ({"vocab_size": 2**40}, "corpus_header"),
    ({"vocab_size": 70_000}, "corpus_header"),  # its ids would be uint32
    ({"start_id": 10**6}, "corpus_header"),
    ({"start_id": -1}, "corpus_header"),
    ({"dtype": "uint32"}, "corpus_header"),
    ({"dtype": "float64"}, "corpus_header"),
    ({"shards": {"train": [], "validation": []}}, "corpus_header"),
    ({"shards": []}, "corpus_header"),
    ({"shards": {"train": [{"tokens": 2**62, "sha256": ""}], "validation": []}}, "corpus_header"),
    ({"statistics": {}}, "corpus_header"),
    ({"statistics": None}, "corpus_header"),
    ({"sources": None}, "corpus_header"),
    ({"tokenizer_sha256": "00"}, "corpus_contradicts"),
    ({"documents_sha256": "00"}, "corpus_contradicts"),
    ({"vocab_size": 40, "start_id": 0}, "corpus_contradicts"),  # an id does not lie in so small a vocabulary
])  # fmt: skip
def test_headers_that_contradict_the_files_are_refused(corpus: PackedCorpus, change: dict, key: str) -> None:
    path = corpus.folder / "corpus.json"
    content = json.loads(path.read_text(encoding="utf-8")) | change
    del content["digest"]
    path.write_text(json.dumps(content | {"digest": header_digest(content)}), encoding="utf-8")
    assert refused(corpus.folder).key == key


def test_a_shard_that_shrinks_while_it_is_used_is_an_error_of_ours(corpus: PackedCorpus) -> None:
    path = corpus.train.shards[1].path
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(LoadError) as caught:
        corpus.train.windows([120], 30)
    assert caught.value.key == "corpus_shard_damaged" and path.name in str(caught.value)


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, key in (("file", "not_a_folder"), ("none", "folder_missing"), (".", "file_missing")):
        with pytest.raises(LoadError) as caught:
            open_packed(tmp_path / name)
        assert caught.value.key == key


def test_the_head_of_a_shard_is_aligned() -> None:
    for tokens in (1, 12, 123_456_789):
        head = shard_head(tokens, np.dtype("<u2"), "0" * 64)
        assert len(head) % 8 == 0 and int.from_bytes(head[:8], "little") == len(head) - 8
