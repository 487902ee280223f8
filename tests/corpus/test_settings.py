"""`manako.corpus.build`: options by name, each of which ends in the corpus that it makes."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manako
from manako.corpus.documents import Reading
from manako.corpus.settings import CorpusSettings
from manako.errors import LoadError, ManakoError, UsageError

TEXT = "私は猫である。名前はまだ無い。\n" * 40


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "a.txt"


def test_a_text_becomes_a_corpus_and_says_how(text: Path, tmp_path: Path) -> None:
    told: list[str] = []
    corpus = manako.corpus.build(
        text, tmp_path / "c", validation=0.2, min_count=1, report=lambda key, **_: told.append(key)
    )
    corpus.verify()
    settings = {"format": "auto", "field": "text", "kana": "any", "tokenizer": "char", "min_count": 1}
    assert corpus.header.settings == {"validation_share": 0.2} | settings
    assert corpus.header.sources == [str(text)] and "corpus.vocabulary" in told
    same = manako.corpus.build([str(text)], str(tmp_path / "d"), validation=0.2, min_count=1)
    assert same.digest == corpus.digest


def test_pieces_have_a_size_and_no_least_count(text: Path, tmp_path: Path) -> None:
    corpus = manako.corpus.build(text, tmp_path / "c", tokenizer="byte-bpe", vocab_size=270)
    assert corpus.header.settings["vocab_size"] == 270 and "min_count" not in corpus.header.settings
    again = manako.corpus.build(text, tmp_path / "d", tokenizer=str(tmp_path / "c"))
    assert again.header.tokenizer_sha256 == corpus.header.tokenizer_sha256


def test_numbers_of_numpy_and_paths_are_plain_values(text: Path, tmp_path: Path) -> None:
    own = manako.corpus.build(text, tmp_path / "c", validation=0.1, min_count=1)
    told = {"validation": np.float64(0.1), "min_count": np.int64(1), "skip_bad": np.bool_(False)}
    assert manako.corpus.build(text, tmp_path / "d", **told).header == own.header
    asked = CorpusSettings(authors=np.array(["漱石"]), tokenizer=tmp_path / "c")  # type: ignore[arg-type]
    assert asked == CorpusSettings(authors=("漱石",), tokenizer=str(tmp_path / "c"))
    again = manako.corpus.build(text, tmp_path / "e", tokenizer=tmp_path / "c", validation=0.1)
    assert again.header.tokenizer_sha256 == own.header.tokenizer_sha256


@pytest.mark.parametrize(("settings", "kind", "sentence"), [
    ({"tokenizr": "bpe"}, UsageError, 'no setting "tokenizr" (tokenizer?)'),
    ({"tokenizer": "words"}, UsageError, "words"),
    ({"validation": 1.0}, UsageError, "1.0"),
    ({"kana": "old"}, UsageError, "kana"),
    ({"kana": np.array(["any"])}, UsageError, "kana"),
    ({"encoding": "utf-9"}, UsageError, "utf-9"),
])  # fmt: skip
def test_a_wrong_setting_leaves_nothing(
    text: Path, tmp_path: Path, settings: dict[str, Any], kind: type[ManakoError], sentence: str
) -> None:
    with pytest.raises(kind) as refused:
        manako.corpus.build(text, tmp_path / "c", **settings)
    assert sentence in str(refused.value) and not (tmp_path / "c").exists()


def test_sources_are_texts_or_paths_one_or_several(text: Path, tmp_path: Path) -> None:
    own = manako.corpus.build(text, tmp_path / "c").header
    [entry] = [entry for entry in os.scandir(tmp_path) if entry.name == "a.txt"]
    for n, given in enumerate((str(text), [text], (str(text),), iter([text]), np.array([str(text)]), entry)):
        assert manako.corpus.build(given, tmp_path / f"d{n}").header == own  # type: ignore[arg-type]
    for wrong in (None, 5, [None], [b"a.txt"], {"a": 1}.values()):
        with pytest.raises(UsageError, match="sources must be a list of texts"):
            manako.corpus.build(wrong, tmp_path / "e")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no documents"):
        manako.corpus.build([], tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_missing_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no.txt does not exist"):
        manako.corpus.build(tmp_path / "no.txt", tmp_path / "c")


def test_settings_are_those_of_reading_and_more() -> None:
    names = [f.name for f in fields(CorpusSettings)]
    assert names[: len(fields(Reading))] == [f.name for f in fields(Reading)]


@pytest.mark.parametrize("settings", [{"vocab_size": 500}, {"tokenizer": "bpe", "min_count": 3}], ids=str)
def test_a_setting_that_would_decide_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        CorpusSettings(**settings)
    assert refused.value.key == "corpus_setting_unused"
