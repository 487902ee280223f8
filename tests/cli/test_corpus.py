"""`manako corpus build` and `show`: what they say, and that bad input is one line with its code and leaves nothing."""

import json
from pathlib import Path

import pytest
from commands import Run

from manako.corpus.packed import open_packed

TEXT = "".join(f"私は猫である。名前はまだ無い、{n}番目の夜。\n" for n in range(200))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT, encoding="utf-8")
    (folder / "b.txt").write_text(TEXT.replace("猫", "犬").replace("夜", "朝"), encoding="cp932")
    (folder / "c.jsonl").write_text('{"body": "山と川。"}\n{"body": "空と海。"}\n', encoding="utf-8")
    return folder


def test_build_and_show(run: Run, data: Path, tmp_path: Path) -> None:
    (data / "c.jsonl").unlink()
    built = run("corpus", "build", data, "-o", tmp_path / "c", "--min-count", 1)
    assert built.code == 0 and built.out == ""
    assert "utf-8 1, cp932 1" in built.err and f"{tmp_path / 'c'} is ready" in built.err
    shown = run("corpus", "show", tmp_path / "c")
    assert shown.code == 0 and shown.err == ""
    digest = open_packed(tmp_path / "c").digest
    assert f"digest: {digest}" in shown.out and "training: " in shown.out and "encodings: " in shown.out
    assert "。 800" in shown.out.split("most frequent characters: ")[1]


def test_show_json(run: Run, data: Path, tmp_path: Path) -> None:
    run("corpus", "build", data, "-o", tmp_path / "c", "--field", "body", "--validation", "0")
    found = json.loads(run("corpus", "show", tmp_path / "c", "--json").out)
    assert found["schema"] == "manako.corpus/1" and found["digest"] == open_packed(tmp_path / "c").digest
    assert found["statistics"]["train"]["documents"] == 4 and found["statistics"]["validation"]["documents"] == 0
    assert found["authors"] == {} and found["sources"] == [str(data)]
    assert found["settings"] == {
        "validation_share": 0.0, "format": "auto", "field": "body", "kana": "any", "tokenizer": "char", "min_count": 2
    }  # fmt: skip


def test_standard_input_and_japanese(run: Run, tmp_path: Path) -> None:
    built = run("corpus", "build", "-", "-o", tmp_path / "c", "--lang", "ja", stdin=TEXT.encode("euc_jp"))
    assert built.code == 0 and "euc_jp 1" in built.err and "末尾を検証に使います" in built.err


@pytest.mark.parametrize(("kind", "size"), [("bpe", 320), ("byte-bpe", 300)])
def test_vocabularies_of_pieces(run: Run, data: Path, tmp_path: Path, kind: str, size: int) -> None:
    words = ("--tokenizer", kind, "--vocab-size", size, "--field", "body")
    assert run("corpus", "build", data, "-o", tmp_path / "c", *words).code == 0
    corpus = open_packed(tmp_path / "c")
    assert corpus.vocab_size == size and corpus.header.settings["vocab_size"] == size
    corpus.verify()


def test_a_vocabulary_is_used_again(run: Run, data: Path, tmp_path: Path, toy: str) -> None:
    run("corpus", "build", data, "-o", tmp_path / "a", "--field", "body")
    for given in (tmp_path / "a" / "tokenizer.json", tmp_path / "a", toy):
        out = tmp_path / f"b{len(str(given))}"
        assert run("corpus", "build", data, "-o", out, "--field", "body", "--tokenizer", given).code == 0
        source = given if Path(given).is_file() else Path(given) / "tokenizer.json"
        assert open_packed(out).tokenizer_source == Path(source).read_text(encoding="utf-8")


@pytest.mark.parametrize(("words", "exit_code", "code"), [
    (("data/none.txt",), 3, "E-FILE-MISSING"),
    (("data", "--encoding", "klingon"), 2, "E-ENCODING-UNKNOWN"),
    (("data", "--encoding", "euc_jp"), 3, "E-CORPUS-BYTES"),
    (("data", "--field", "nope"), 3, "E-CORPUS-FIELD-MISSING"),
    (("data", "--field", "body", "--author", "漱石"), 3, "E-CORPUS-ALL-LEFT-OUT"),
    (("data", "--kana", "old"), 2, "E-CLI-CHOICE"),
    (("data", "--validation", "1.5"), 2, "E-VALIDATION-SHARE"),
    (("data", "--validation", "lots"), 2, "E-VALIDATION-SHARE"),
    (("data", "--tokenizer", "words"), 2, "E-TOKENIZER-KIND"),
    (("data", "--tokenizer", "data/a.txt"), 3, "E-JSON-INVALID"),
    (("data", "--field", "body", "--tokenizer", "bpe", "--vocab-size", "3"), 2, "E-VOCAB-SIZE"),
    (("data/script.py",), 3, "E-CORPUS-LOADING-SCRIPT"),
    (("data/binary.bin",), 3, "E-CORPUS-BINARY"),
    (("data/latin.text",), 3, "E-CORPUS-ENCODING"),
    ((), 2, "E-CLI-MISSING"),
])  # fmt: skip
def test_bad_input_is_one_line_with_its_code_and_leaves_nothing(
    run: Run,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    exit_code: int,
    code: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (data / "script.py").write_text("print()")
    (data / "binary.bin").write_bytes(bytes(1000))
    (data / "latin.text").write_bytes("déjà vu, naïve café".encode("latin-1"))
    before = sorted(tmp_path.rglob("*"))
    found = run("corpus", "build", *words, "-o", "new/c")
    assert found.code == exit_code and found.out == ""
    assert found.err.splitlines()[-1].endswith(f"[{code}]") and "Traceback" not in found.err
    assert sorted(tmp_path.rglob("*")) == before
    again = run("corpus", "build", *words, "-o", "new/c", "--lang", "ja")
    assert again.code == exit_code and again.err.splitlines()[-1].endswith(f"[{code}]")


def test_a_folder_in_use_is_not_touched(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    found = run("corpus", "build", data, "-o", tmp_path / "out")
    assert found.code == 1 and "[E-TARGET-EXISTS-FOLDER]" in found.err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]


def test_show_of_what_is_no_corpus(run: Run, data: Path, tmp_path: Path) -> None:
    assert run("corpus", "show", data).code == 3
    assert run("corpus", "show", tmp_path / "none").code == 3
    assert run("corpus", "show").code == 2
    assert run("corpus", "pack").code == 2


def test_names_from_files_cannot_move_the_cursor(run: Run, tmp_path: Path) -> None:
    work = "題\n\x1b[2J\u202e著者\n\n私は\x1b[2J猫。\n\n底本：全集\n青空文庫\n"
    (tmp_path / "a.txt").write_text(work, encoding="utf-8")
    run("corpus", "build", tmp_path / "a.txt", "-o", tmp_path / "c", "--min-count", 1)
    shown = run("corpus", "show", tmp_path / "c")
    assert shown.code == 0 and "\x1b" not in shown.out and "\u202e" not in shown.out and "著者" in shown.out


def test_help_of_the_group_and_its_commands(run: Run) -> None:
    for words in (("corpus", "--help"), ("corpus", "build", "--help"), ("corpus", "show", "-h")):
        found = run(*words)
        assert found.code == 0 and "Usage: manako corpus" in found.out
