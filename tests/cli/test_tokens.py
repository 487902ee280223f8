"""`manako tokens`: what it opens, what it prints, and one clear line for what it cannot do."""

import base64
import json
import shutil
from pathlib import Path

import pytest
from commands import Run
from toy import write_toy

from manako.formats import run_folder
from manako.tokenizer import Tokenizer, from_characters, train_byte_bpe
from manako.views.terminal.glyphs import ASCII


def test_json_is_what_the_tokenizer_says(run: Run, toy: str) -> None:
    words = ("tokens", "私は龘", "--with", toy, "--with", "demo", "--json")
    found = run(*words)
    assert (found.code, found.err) == (0, "")
    document = json.loads(found.out)
    assert list(document) == ["schema", "text", "characters", "bytes", "tokenizers"]
    assert document["schema"] == "manako.tokens/1"
    assert (document["text"], document["characters"], document["bytes"]) == ("私は龘", 3, 9)
    ours = Tokenizer.from_file(Path(toy) / "tokenizer.json")
    first = document["tokenizers"][0]
    assert list(first) == [
        *("ref", "sha256", "vocab_size", "count", "characters_per_token", "bytes_per_token", "as_given", "tokens"),
    ]
    assert (first["ref"], first["sha256"], first["vocab_size"]) == (toy, ours.fingerprint, ours.vocab_size)
    assert [t["id"] for t in first["tokens"]] == ours.encode("私は龘")
    assert b"".join(base64.b64decode(t["bytes"]) for t in first["tokens"]).decode() == "私は龘"
    assert first["count"] == len(first["tokens"]) == 7 and first["characters_per_token"] == 3 / 7
    assert first["tokens"][-1]["parts"] == [{"character": "龘", "number": 3, "count": 3}]
    assert document["tokenizers"][1]["ref"] == "demo"
    assert run(*words, "--lang", "ja").out == found.out


def test_the_demo_without_being_told(run: Run) -> None:
    found = run("tokens", "吾輩は猫である。")
    assert found.code == 0 and found.err == "" and "demo  吾|輩|は|猫|で|あ|る|。" in found.out


def test_standard_input(run: Run, toy: str) -> None:
    assert run("tokens", "-", "--with", toy, stdin="私は\n".encode()).out == run("tokens", "私は", "--with", toy).out
    found = run("tokens", "-", stdin=b"\xff")
    assert found.code == 2 and "E-PROMPT-NOT-UTF8" in found.err


def test_a_file_a_folder_and_a_corpus_are_the_same(run: Run, toy: str, tmp_path: Path) -> None:
    shutil.copy(Path(toy) / "tokenizer.json", tmp_path / "vocabulary.json")
    (tmp_path / "packed").mkdir()
    shutil.copy(Path(toy) / "tokenizer.json", tmp_path / "packed" / "tokenizer.json")  # a corpus has one too
    told = [
        run("tokens", "私", "--json", "--with", ref) for ref in (toy, tmp_path / "vocabulary.json", tmp_path / "packed")
    ]
    bodies = [json.loads(found.out)["tokenizers"][0] | {"ref": ""} for found in told]
    assert bodies[0] == bodies[1] == bodies[2]


def test_a_trained_vocabulary_beside_the_demo(run: Run, tmp_path: Path) -> None:
    made = train_byte_bpe(["吾輩は猫である。" * 9], 270)
    (tmp_path / "tokenizer.json").write_text(made.source, encoding="utf-8")
    found = run("tokens", "猫である", "--with", "demo", "--with", tmp_path, "--lang", "ja", env={"COLUMNS": "60"})
    assert found.code == 0 and "トークナイザーごとの分割" in found.out


def test_looks(run: Run, toy: str) -> None:
    words = ("tokens", "私は猫", "--with", toy)
    assert "\x1b[" in run(*words, "--color", "always").out and "\x1b[" not in run(*words).out
    plain = run(*words, "--plain").out
    assert "1. '私': id " in plain and "|" not in plain
    assert run(*words, env={"TERM": "dumb"}).out == plain
    narrow = run("tokens", "私 \n", "--with", toy, encoding="cp932").out
    assert ASCII.space in narrow and ASCII.newline in narrow


def test_no_text(run: Run, toy: str) -> None:
    found = run("tokens", "", "--with", toy)
    assert found.code == 0 and "0" in found.out
    document = json.loads(run("tokens", "", "--with", toy, "--json").out)
    assert document["tokenizers"][0]["characters_per_token"] is None


@pytest.mark.parametrize(
    ("words", "code", "stable"),
    [
        (("tokens",), 2, "E-CLI-MISSING"),
        (("tokens", "a", "--with"), 2, "E-CLI-NEEDS-VALUE"),
        (("tokens", "a", "--top", "3"), 2, "E-CLI-NO-SUCH-OPTION"),
        (("tokens", "a", "--with", ""), 3, "E-REF-UNKNOWN"),
        (("tokens", "a", "--with", "no/such"), 3, "E-TOKENIZER-REF"),
        (("tokens", "a", "--with", "x" * 5000), 3, "E-FILE-UNREADABLE"),
        (("tokens", "a", "--with", "a\0b"), 3, "E-"),
        (("tokens", "a", "--with", "openai:x@http://127.0.0.1:1"), 4, "E-REF-NOT-YET"),
        (("tokens", "\udcff"), 2, "E-PROMPT-SURROGATE"),
    ],
)
def test_bad_input_is_one_line(run: Run, words: tuple[str, ...], code: int, stable: str) -> None:
    for lang in ("en", "ja"):
        found = run(*words, "--lang", lang) if words[-1] != "--with" else run(*words)
        assert (found.code, found.out) == (code, "") and found.err.count("\n") == 1 and f"[{stable}" in found.err


def test_folders_and_files_that_have_none(run: Run, tmp_path: Path) -> None:
    found = run("tokens", "a", "--with", tmp_path)
    assert found.code == 3 and "has no tokenizer.json" in found.err and "E-TOKENIZER-NONE" in found.err
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    assert run("tokens", "a", "--with", tmp_path).code == 3
    (tmp_path / "tokenizer.json").write_text(from_characters("a").source, encoding="utf-8")
    found = run("tokens", "ab", "--with", tmp_path)
    assert found.code == 2 and "b U+0062 (2)" in found.err and found.out == ""


def test_a_run_and_any_of_its_steps_have_a_tokenizer(run: Run, tmp_path: Path) -> None:
    write_toy(run_folder.step_folder(tmp_path, 7))
    run_folder.point(tmp_path, run_folder.LAST, run_folder.step_folder(tmp_path, 7))
    found = [run("tokens", "私", "--with", ref, "--json") for ref in (tmp_path, f"run:{tmp_path}", f"run:{tmp_path}@7")]
    assert [f.code for f in found] == [0, 0, 0]
    assert len({json.loads(f.out)["tokenizers"][0]["sha256"] for f in found}) == 1
    none = run("tokens", "私", "--with", f"run:{tmp_path}@8")
    assert none.code == 3 and "E-RUN-STEP" in none.err


def test_the_merges_of_a_corpus_are_counted_in_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("私は猫である。彼女は思った。\n" * 40, encoding="utf-8")
    assert run("corpus", "build", tmp_path / "a.txt", "-o", tmp_path / "c", "--tokenizer", "bpe", "--vocab-size", 278,
               "--validation", "0").code == 0  # fmt: skip
    document = json.loads(run("tokens", "猫である", "--with", tmp_path / "c", "--merges", "--json").out)
    [played] = document["merges"]
    assert [base64.b64decode(m["left"] + m["right"]).decode() for m in played["merges"]]
    assert {m["count"] for m in played["merges"]} == {40} and document["tokenizers"][0]["count"] == 1
    shown = run("tokens", "猫である", "--with", tmp_path / "c", "--merges", "--lang", "ja")
    assert shown.code == 0 and "コーパス内" in shown.out and "トークナイザーごとの分割" not in shown.out
    (tmp_path / "alone.json").write_bytes((tmp_path / "c" / "tokenizer.json").read_bytes())
    alone = run("tokens", "猫である", "--with", tmp_path / "alone.json", "--merges", "--lang", "en")
    assert alone.code == 0 and "not known" in alone.out
    words = ("tokens", "猫である", "-m", tmp_path / "alone.json", "--merges", "--data")
    assert json.loads(run(*words, tmp_path / "c", "--json").out)["merges"][0]["merges"] == played["merges"]
    assert run("corpus", "build", tmp_path / "a.txt", "-o", tmp_path / "d", "--validation", "0").code == 0
    assert run(*words, tmp_path / "d").code == 4


def test_a_vocabulary_without_merges_says_so(run: Run, tmp_path: Path) -> None:
    demo = run("tokens", "猫", "--merges", "--lang", "en")
    assert demo.code == 0 and "No merge was applied" in demo.out
    (tmp_path / "w.json").write_text(
        '{"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",'
        ' "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1}}, "added_tokens": []}'
    )
    none = run("tokens", "a", "--with", tmp_path / "w.json", "--merges")
    assert none.code == 4 and "E-TOKENS-NO-MERGES" in none.err and none.err.count("\n") == 1
