"""Files, folders and archives to documents: each judged by itself, none half-read (P23, P28, P29)."""

import io
import json
import os
import random
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from manako.corpus import documents as module
from manako.corpus import rows
from manako.corpus.documents import Document, Reading, document, documents, read
from manako.errors import LoadError, MissingExtraError, UsageError

JAPANESE = (
    "吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。"
    "何でも薄暗いじめじめした所でニャーニャー泣いていた。\n"
)


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000154a24f5b0000000049454e44ae426082"
)


# --- files, folders, archives -----------------------------------------------------------------------------------------


def test_missing_empty_and_odd_files(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n\u3000\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "none").mkdir()
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "huge.txt").open("wb") as stream:
        stream.truncate(2**40)  # sparse, all NUL
    cases = {
        "nowhere.txt": "file_missing",
        "empty.txt": "corpus_empty_file",
        "blank.txt": "corpus_empty_file",
        "pipe": "file_not_regular",
        "none": "corpus_empty_folder",
        "gone.txt": "file_missing",
        "huge.txt": "corpus_binary",
    }
    for name, key in cases.items():
        with pytest.raises(LoadError) as caught:
            list(documents(tmp_path / name))
        assert caught.value.key == key and name in str(caught.value)


def test_a_folder_is_read_in_the_order_of_names_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/c/d.txt", "c.py", "d.text"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.txt")  # would hang if opened
    found = list(documents(tmp_path))
    assert [d.text for d in found] == ["a/c/d.txt", "a/z.md", "b.txt"]
    assert found[0].name == str(tmp_path / "a" / "c" / "d.txt")


def test_a_single_file_of_any_name_is_text(tmp_path: Path) -> None:
    (tmp_path / "data").write_text(JAPANESE, encoding="cp932")
    assert [d.text for d in documents(tmp_path / "data")] == [JAPANESE]


def test_one_bad_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(JAPANESE, encoding="utf-8")
    (tmp_path / "b.txt").write_text(JAPANESE, encoding="cp932")
    (tmp_path / "c.txt").write_text(JAPANESE, encoding="utf-16")
    with pytest.raises(LoadError, match="c.txt"):
        list(documents(tmp_path))


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as stream:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            stream.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".tar.xz", ".tar.gz", ".tar.bz2"])
def test_archives_are_read_and_damage_is_a_load_error(tmp_path: Path, suffix: str) -> None:
    members = {"x/1.txt": JAPANESE.encode("cp932"), "x/2.md": "二\n".encode(), "x/3.png": PNG}
    path = archive(tmp_path / f"works{suffix}", members)
    found = list(documents(path))
    assert [(d.name, d.text) for d in found] == [(f"{path}:x/1.txt", JAPANESE), (f"{path}:x/2.md", "二\n")]
    data = path.read_bytes()
    rng = random.Random(2)
    for n in range(60):
        broken = bytearray(data)
        if n % 2:
            broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            del broken[rng.randrange(len(data)) :]
        path.write_bytes(broken)
        try:
            for found_one in documents(path):
                assert found_one.text
        except LoadError as error:
            assert error.exit_code == 3 and "works.tar" in str(error)


def test_an_archive_without_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        list(documents(archive(tmp_path / "a.tar", {"x.png": PNG})))
    assert caught.value.key == "corpus_empty_folder"
    with pytest.raises(LoadError) as caught:
        list(documents(archive(tmp_path / "b.tar", {"x.txt": b""})))
    assert caught.value.key == "corpus_empty_file" and "b.tar:x.txt" in str(caught.value)


def test_links_and_devices_in_an_archive_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as stream:
        for name, kind in (("l.txt", tarfile.SYMTYPE), ("h.txt", tarfile.LNKTYPE), ("f.txt", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.txt")
            stream.addfile(info)
        info = tarfile.TarInfo("../../outside.txt")
        info.size = 4
        stream.addfile(info, io.BytesIO(b"text"))
    before = sorted(tmp_path.rglob("*"))
    assert [d.text for d in documents(tmp_path / "a.tar")] == ["text"]  # read in memory, nothing is unpacked
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_member_that_claims_a_terabyte_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", {"x.txt": b"text"})
    data = bytearray(path.read_bytes())
    data[124:136] = b"\x80" + (2**40).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(LoadError) as caught:
        list(documents(path))
    assert caught.value.key in ("corpus_archive_bomb", "file_unreadable")


def test_a_document_in_aozora_notation_loses_its_marks() -> None:
    work = "題\n著者\n\n私《わたし》は［＃「は」に傍点］猫。\n\n底本：全集\n"
    assert document("x", work.encode("cp932")).text == "私は猫。\n"
    assert document("x", "私《わたし》は".encode()).text == "私《わたし》は"  # no such work: marks are text


PLAIN = Reading()


def key_of(source: Path | str, reading: Reading = PLAIN) -> tuple[str, str]:
    """(key, message) of the LoadError that reading a source ends with."""
    with pytest.raises(LoadError) as caught:
        list(documents(source, reading))
    assert caught.value.exit_code == 3 and caught.value.text("ja")
    return caught.value.key, str(caught.value)


WORK = "題\n著者\n\n私《わたし》は［＃「は」に傍点］猫。\n\n底本：全集\n"


def test_format_and_encoding_of_a_document_are_recorded() -> None:
    found = document("x", WORK.replace("\n", "\r\n").encode("cp932"))
    assert found == Document("x", "私は猫。\n", "題", "著者", "cp932", True, "aozora")
    assert document("x", b"\xef\xbb\xbfa\n") == Document("x", "a\n", encoding="utf-8-sig")


def test_the_format_can_be_forced() -> None:
    assert document("x", WORK.encode(), Reading(format="text")).text == WORK
    assert document("x", "題\n著者\n\n私《わたし》は".encode(), Reading(format="aozora")).text == "私は\n"


def test_a_reading_is_checked() -> None:
    for wrong in ({"format": "html"}, {"kana": "old"}, {"encoding": "klingon"}):
        with pytest.raises(UsageError):
            Reading(**wrong)


def test_works_that_were_joined_into_one_file_are_parted(tmp_path: Path) -> None:
    credit = "青空文庫作成ファイル：\nこのファイルは、インターネットの図書館、青空文庫で作られました。\n"
    works = [f"題{n}\n著者\n\n本文{n}は《ルビ》。\n\n底本：全集\n入力：誰か\n{credit}\n" for n in range(3)]
    (tmp_path / "data.txt").write_text("".join(works), encoding="utf-8")
    found = list(documents(tmp_path / "data.txt"))
    assert [(Path(d.name).name, d.title, d.text) for d in found] == [
        (f"data.txt [{n + 1}]", f"題{n}", f"本文{n}は。\n") for n in range(3)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "cp932", "euc_jp"])
def test_a_large_file_is_read_in_pieces_cut_behind_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    for name, value in (("LARGE", 1000), ("PIECE", 200), ("_CHUNK", 64)):
        monkeypatch.setattr(module, name, value)
    rng = random.Random(0)
    text = "".join("猫はいた。" * rng.randrange(1, 9) + "\n" * rng.choice((1, 1, 2)) for _ in range(300))
    (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    found = list(documents(tmp_path / "a.txt"))
    assert "".join(d.text for d in found) == text
    assert all(len(d.text) <= 200 and d.text.endswith("\n") and d.encoding == encoding and d.crlf for d in found)
    assert [Path(d.name).name for d in found] == [f"a.txt [{n}]" for n in range(1, len(found) + 1)]


def test_a_line_without_end_is_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LARGE", 1000), ("PIECE", 200), ("_CHUNK", 64)):
        monkeypatch.setattr(module, name, value)
    (tmp_path / "a.txt").write_text("あ" * 1234, encoding="utf-8")
    assert [len(d.text) for d in documents(tmp_path / "a.txt")] == [200] * 6 + [34]
    (tmp_path / "b.txt").write_bytes("あ".encode() * 1000 + b"\xff")
    assert key_of(tmp_path / "b.txt")[0] == "corpus_bytes"
    (tmp_path / "c.txt").write_text(" \n" * 2000, encoding="utf-8")
    assert key_of(tmp_path / "c.txt")[0] == "corpus_empty_file"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(JAPANESE.encode("cp932"))))
    assert [(d.name, d.text, d.encoding) for d in documents("-")] == [("-", JAPANESE, "cp932")]
    monkeypatch.setattr(sys, "stdin", None)
    assert key_of("-")[0] == "corpus_empty_file"


# --- filters ----------------------------------------------------------------------------------------------------------


def work_of(author: str, text: str) -> str:
    return f"題\n{author}\n\n{text}\n\n底本：全集\n青空文庫\n"


def test_filters_by_author_and_kana_and_what_is_said(tmp_path: Path) -> None:
    modern, historical = "そう言って、彼は笑っている。", "さう言つて、彼は笑つてゐる。"
    for n, (author, text) in enumerate((("夏目 漱石", modern), ("夏目漱石", historical), ("森鴎外", modern))):
        (tmp_path / f"{n}.txt").write_text(work_of(author, text), encoding="cp932", newline="\r\n")
    said: list[tuple[str, dict[str, object]]] = []
    chosen = Reading(authors=("夏目漱石",), kana="modern")
    assert [Path(d.name).name for d in read([tmp_path], chosen, lambda k, **v: said.append((k, v)))] == ["0.txt"]
    assert said == [("corpus.read", {"documents": "1", "encodings": "cp932 3", "crlf": "3", "left_out": "2"})]
    assert len(list(read([tmp_path], Reading(kana="historical")))) == 1
    assert len(list(read([tmp_path], Reading(authors=("漱石", "鴎外"))))) == 3
    with pytest.raises(LoadError) as caught:
        list(read([tmp_path], Reading(authors=("芥川",))))
    assert caught.value.key == "corpus_all_left_out"


# --- archives ---------------------------------------------------------------------------------------------------------


def test_a_zip_is_read_and_damage_is_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "works.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, data in (("x/1.txt", JAPANESE.encode("cp932")), ("../../2.md", "二\n".encode()), ("3.png", PNG)):
            stream.writestr(name, data)
    found = list(documents(path))
    assert [(d.name, d.text) for d in found] == [(f"{path}:x/1.txt", JAPANESE), (f"{path}:../../2.md", "二\n")]
    data, rng = path.read_bytes(), random.Random(3)
    for n in range(200):
        broken = bytearray(data)
        if n % 2:
            broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            del broken[rng.randrange(len(data)) :]
        path.write_bytes(broken)
        try:
            assert all(d.text for d in documents(path))
        except LoadError as error:
            assert error.exit_code == 3 and "works.zip" in str(error)


@pytest.mark.slow
def test_archives_that_would_fill_a_disk_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as stream:
        with stream.open("a.txt", "w") as member:
            for _ in range(300):
                member.write(b"a" * 2**20)
    assert key_of(tmp_path / "bomb.zip")[0] == "corpus_archive_bomb"


def test_an_encrypted_or_empty_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as stream:
        stream.writestr("x.txt", b"text")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for place in (6, data.index(b"PK\1\2") + 8):
        data[place] |= 1  # the flag of a password
    (tmp_path / "a.zip").write_bytes(data)
    assert key_of(tmp_path / "a.zip")[0] == "file_unreadable"
    with zipfile.ZipFile(tmp_path / "b.zip", "w"):
        pass
    assert key_of(tmp_path / "b.zip")[0] == "corpus_empty_folder"
    (tmp_path / "c.zip").write_bytes(b"no zip")
    assert key_of(tmp_path / "c.zip")[0] == "file_unreadable"


# --- tables -----------------------------------------------------------------------------------------------------------


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(o, ensure_ascii=False).encode() + b"\n" for o in objects)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = {"text": "一\r\n", "title": "題", "author": "著者", "n": 1}
    path.write_bytes(b"\xef\xbb\xbf" + lines(first, {"text": " "}) + b"\n" + lines({"text": "三"}).rstrip())
    found = list(documents(path))
    assert [(d.name, d.text, d.title, d.author) for d in found] == [
        (f"{path}:1", "一\n", "題", "著者"), (f"{path}:4", "三", None, None)
    ]  # fmt: skip
    with tarfile.open(tmp_path / "b.tar", "w") as stream:
        stream.add(path, "in/a.jsonl")
    assert [d.name for d in documents(tmp_path / "b.tar")] == [
        f"{tmp_path}/b.tar:in/a.jsonl:1", f"{tmp_path}/b.tar:in/a.jsonl:4"
    ]  # fmt: skip


@pytest.mark.parametrize(("data", "key", "place"), [
    (lines({"text": "a"}, {"body": "b"}), "corpus_field_missing", ":2"),
    (lines({"text": "a"}, {"text": None}), "corpus_field_no_text", ":2"),
    (lines({"text": ["a"]}), "corpus_field_no_text", ":1"),
    (lines({"text": "a"}) + b"{broken\n", "json_invalid", ":2"),
    (b'"text"\n', "json_invalid", ":1"),
    (lines({"text": "a"}) + b'{"text": "\xff"}\n', "json_invalid", ":2"),
    (b'{"text": "a", "text": "b"}\n', "json_invalid", ":1"),
    (b"\n\n", "corpus_empty_file", "a.jsonl"),
    (b"", "corpus_empty_file", "a.jsonl"),
])  # fmt: skip
def test_json_lines_are_read_strictly(tmp_path: Path, data: bytes, key: str, place: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    found, message = key_of(tmp_path / "a.jsonl")
    assert found == key and place in message


def test_a_line_of_json_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_LINE", 100)
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "a"}, {"text": "b" * 100}))
    assert key_of(tmp_path / "a.jsonl")[0] == "corpus_line_too_long"


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"body": ["一", "", "二" * 5], "author": ["甲", "乙", None], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = list(documents(tmp_path, Reading(field="body")))
    assert [(d.text, d.author) for d in found] == [("一", "甲"), ("二" * 5, None)]
    assert found[1].name == f"{tmp_path}/a.parquet:3"
    assert key_of(tmp_path / "a.parquet")[0] == "corpus_field_missing"
    assert key_of(tmp_path / "a.parquet", Reading(field="n"))[0] == "corpus_field_no_text"
    data = (tmp_path / "a.parquet").read_bytes()
    for broken in (data[:-10], data[: len(data) // 2], b"PAR1", b""):
        (tmp_path / "b.parquet").write_bytes(broken)
        assert key_of(tmp_path / "b.parquet", Reading(field="body"))[0] == "file_unreadable"


def test_parquet_without_pyarrow_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(rows, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"manako\[parquet\]"):
        list(documents(tmp_path / "a.parquet"))


def test_a_loading_script_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("raise SystemExit", encoding="utf-8")
    assert key_of(tmp_path / "data.py")[0] == "corpus_loading_script"
    assert [d.text for d in documents(tmp_path / "data.py", Reading(format="text"))] == ["raise SystemExit"]
