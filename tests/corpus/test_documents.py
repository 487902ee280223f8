"""Files, folders and archives to documents: each judged by itself, none half-read (P23, P28, P29)."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from manako.corpus import archives, rows
from manako.corpus import documents as module
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
    (tmp_path / "c.txt").write_text(JAPANESE, encoding="utf-16-le")
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


def test_a_zip_in_the_form_above_4_gb_is_read(tmp_path: Path) -> None:
    """As programs write it that do not know how much will come: sizes of 64 bits, also in the directory."""
    path = tmp_path / "works.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.txt", "w", force_zip64=True) as stream:
        stream.write("猫である。\n".encode())
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    head = list(struct.unpack_from("<4s6H3L5H2L", data, at))
    extra = struct.pack("<2H3Q", 1, 24, head[9], head[8], head[16])
    head[8] = head[9] = head[16] = 0xFFFFFFFF
    head[11] = len(extra)
    entry = struct.pack("<4s6H3L5H2L", *head) + b"a.txt" + extra
    end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    end += struct.pack("<4sLQL", b"PK\x06\x07", 0, at + len(entry), 1)
    end += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(data[:at] + entry + end)
    assert [document.text for document in documents(path)] == ["猫である。\n"]


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
    (b'{"text": "a", "text": "b"}\n', "corpus_field_twice", ":1"),
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


def test_a_column_of_parquet_that_is_no_single_text_is_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    text, title = pa.array(["一", "二"]), pa.array(["題", "名"])
    for name, columns, names in (
        ("twice", [text, text, title], ["text", "text", "title"]),
        ("struct", [pa.array([{"a": 1}] * 2)], ["text"]),
        ("list", [pa.array([["一"]] * 2)], ["text"]),
        ("titles", [text, title, title], ["text", "title", "title"]),
    ):
        pq.write_table(pa.Table.from_arrays(columns, names=names), tmp_path / f"{name}.parquet")
    assert key_of(tmp_path / "twice.parquet")[0] == "corpus_field_twice"
    assert key_of(tmp_path / "struct.parquet")[0] == key_of(tmp_path / "list.parquet")[0] == "corpus_field_no_text"
    assert [(d.text, d.title) for d in documents(tmp_path / "titles.parquet")] == [("一", None), ("二", None)]


def test_parquet_without_pyarrow_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(rows, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"manako\[parquet\]"):
        list(documents(tmp_path / "a.parquet"))


def test_a_loading_script_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("raise SystemExit", encoding="utf-8")
    assert key_of(tmp_path / "data.py")[0] == "corpus_loading_script"
    assert [d.text for d in documents(tmp_path / "data.py", Reading(format="text"))] == ["raise SystemExit"]


# --- nothing is left out without a word -------------------------------------------------------------------------------


def told(source: Path, **reading: object) -> tuple[list[Document], dict[str, dict[str, object]]]:
    """(the documents, what was said by key) of reading one source."""
    said: dict[str, dict[str, object]] = {}
    found = list(read([source], Reading(**reading), lambda key, **values: said.setdefault(key, values)))  # type: ignore[arg-type]
    return found, said


def test_suffixes_count_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "B.TXT").write_text("b", encoding="utf-8")
    (tmp_path / "D.JSONL").write_bytes(lines({"text": "d"}))
    with zipfile.ZipFile(tmp_path / "E.ZIP", "w") as stream:
        stream.writestr("F.TXT", "f")
        stream.writestr("g.css", "g")
    found, said = told(tmp_path)
    assert sorted(d.text for d in found) == ["a", "b", "d", "f"]
    assert said["corpus.not_read_suffixes"] == {"count": "1", "kinds": ".css 1"}


def test_what_systems_leave_beside_real_files_is_not_read_and_told(tmp_path: Path) -> None:
    names = ("story.txt", "._story.txt", "__MACOSX/x/._y.txt", ".git/x.txt", ".venv/lib/LICENSE.txt", "~$story.txt",
             "page.css", "Makefile")  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07" if "._" in name else b"text")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    outside = tmp_path.with_name(f"{tmp_path.name}-outside.txt")
    outside.write_text("private")
    (tmp_path / "link.txt").symlink_to(outside)
    found, said = told(tmp_path)
    assert [d.text for d in found] == ["text"]
    counts = {key.removeprefix("corpus.not_read_"): v["count"] for key, v in said.items() if "not_read" in key}
    assert counts == {"macos": "2", "hidden": "2", "lock": "1", "link": "2", "suffixes": "2"}
    with zipfile.ZipFile(tmp_path / "finder.zip", "w") as stream:
        for name in names[:3]:
            stream.write(tmp_path / name, name)
    found, said = told(tmp_path / "finder.zip")
    assert [d.text for d in found] == ["text"] and said["corpus.not_read_macos"] == {"count": "2"}


@pytest.mark.parametrize("name", ["", ".", "/", "..", "a/"])
def test_a_member_without_a_name_is_counted(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as stream:
        stream.writestr(zipfile.ZipInfo(name), b"" if name.endswith("/") else b"x")
        stream.writestr("a.txt", "a")
    for path in (tmp_path / "a.zip", archive(tmp_path / "a.tar", {name: b"x", "a.txt": b"a"})):
        found, said = told(path)
        assert [d.text for d in found] == ["a"]
        assert ("corpus.not_read_suffixes" in said) == (not name.endswith("/") or path.suffix == ".tar")


def test_a_linked_folder_that_leads_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.txt").write_text("b")
    (tmp_path / "home" / "in").mkdir(parents=True)
    (tmp_path / "home" / "in" / "a.txt").write_text("a")
    (tmp_path / "home" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "home" / "again").symlink_to(tmp_path / "home" / "in")
    (tmp_path / "home" / "loop").symlink_to("loop")
    found, said = told(tmp_path / "home")
    assert [d.text for d in found] == ["a"] and said["corpus.not_read_link"] == {"count": "2"}


def test_a_hidden_folder_that_is_named_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / ".notes").mkdir()
    (tmp_path / ".notes" / "a.txt").write_text("a")
    assert [d.text for d in documents(tmp_path / ".notes")] == ["a"]


COMPRESSORS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("suffix", [*COMPRESSORS, ".zst"])
def test_one_compressed_file_is_read(tmp_path: Path, suffix: str) -> None:
    def compressed(data: bytes) -> bytes:
        if suffix == ".zst":
            return pytest.importorskip("pyarrow").compress(data, codec="zstd", asbytes=True)
        return COMPRESSORS[suffix](data)

    (tmp_path / f"a.TXT{suffix}").write_bytes(compressed(JAPANESE.encode("cp932")))
    (tmp_path / f"b.jsonl{suffix}").write_bytes(compressed(lines({"text": "b"})))
    assert [d.text for d in documents(tmp_path)] == [JAPANESE, "b"]
    packed = archive(tmp_path / "c.tar", {f"in/d.txt{suffix}": compressed(b"d")})
    assert [d.text for d in documents(packed)] == ["d"]
    (tmp_path / f"a.TXT{suffix}").write_bytes(compressed(JAPANESE.encode())[:-9])
    assert key_of(tmp_path / f"a.TXT{suffix}")[0] == "file_unreadable"
    (tmp_path / f"bomb.txt{suffix}").write_bytes(compressed(b"a" * 2**20))
    for name, value in (("NEVER_A_BOMB", 1000), ("MOST_INFLATED", 10)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(archives, "NEVER_A_BOMB", 1000)
            patch.setattr(archives, name, value)
            assert key_of(tmp_path / f"bomb.txt{suffix}")[0] == "corpus_archive_bomb"


def test_names_of_a_japanese_windows_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as stream:
        stream.writestr("placeholder.txt", "text")
    data = (tmp_path / "a.zip").read_bytes()
    for name, known in (("坊っちゃん_.txt".encode("cp932"), "坊っちゃん_.txt"), (b"\x81 " * 5 + b"_.txt", None)):
        (tmp_path / "b.zip").write_bytes(data.replace(b"placeholder.txt", name))
        (found,) = documents(tmp_path / "b.zip")
        assert known is None or found.name == f"{tmp_path / 'b.zip'}:{known}"


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    name = os.fsdecode("坊っちゃん.txt".encode("cp932"))
    path = archive(tmp_path / "a.tar", {"x.txt": b"text"})
    with tarfile.open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        info = tarfile.TarInfo(name)
        info.size = 4
        stream.addfile(info, io.BytesIO(b"text"))
    (found,) = documents(path)
    assert found.name.encode("utf-8") and r"\x96V" in found.name  # the bytes of 坊


def test_the_headers_of_a_tar_are_bounded_and_what_is_passed_over_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def announced(kind: bytes, size: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo("header")
        info.type, info.size = kind, size
        return info

    def ordinary(name: str, size: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.size = size
        return info

    small, huge = announced(tarfile.XHDTYPE, 512), announced(tarfile.GNUTYPE_LONGNAME, 8 * archives.LONGEST_HEADER)
    for infos, key in (
        ([huge], "corpus_archive_header"),
        ([small, huge], "corpus_archive_header"),  # one header behind another
        ([ordinary("a.png", 2**20), ordinary("b.png", 2**20), huge], "corpus_archive_header"),
        ([ordinary("video.bin", 16 * 2**20)], "corpus_archive_bomb"),
    ):
        with tarfile.open(tmp_path / "a.tar.bz2", "w:bz2") as stream:
            for info in infos:
                text = b"6 a=b\n" if info is small else b""
                stream.addfile(info, io.BytesIO(text + bytes(info.size - len(text))))
        with monkeypatch.context() as patch:
            patch.setattr(archives, "NEVER_A_BOMB", 6 * 2**20)
            assert key_of(tmp_path / "a.tar.bz2")[0] == key


def test_rows_of_a_parquet_that_share_one_long_text_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a" * 10_000] * 300}), tmp_path / "a.parquet")
    assert len(list(documents(tmp_path / "a.parquet"))) == 300
    monkeypatch.setattr(archives, "NEVER_A_BOMB", 10_000)
    assert key_of(tmp_path / "a.parquet")[0] == "corpus_archive_bomb"


def test_fields_that_nobody_reads_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a", "score": NaN, "n": ' + b"9" * 5000 + b', "x": 1, "x": 2, "y": "\\ud800"}\n')
    assert [d.text for d in documents(path)] == ["a"]
    path.write_bytes(b'{"text": "half \\ud800"}\n')
    key, said = key_of(path)
    assert key == "corpus_field_surrogate" and "a.jsonl:1" in said and "character 6" in said


def test_bad_files_and_records_are_passed_over_where_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(JAPANESE, encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "c.jsonl").write_bytes(lines({"text": "1"}, {"text": None}, {"text": "3"}) + b"{\n" * 20)
    said: list[tuple[str, dict[str, object]]] = []
    found = list(read([tmp_path], Reading(skip_bad=True), lambda key, **values: said.append((key, values))))
    assert [d.text for d in found] == [JAPANESE, "1", "3"]
    skipped = [str(values["error"]) for key, values in said if key == "corpus.skipped"]
    assert len(skipped) == 10 and "b.txt" in skipped[0] and "c.jsonl:2" in skipped[1]
    assert ("corpus.skipped_all", {"count": "22"}) in said
    with pytest.raises(LoadError):
        list(read([tmp_path]))


@pytest.mark.parametrize(("data", "kind"), [
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "PDF"),
    (b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/epub+zipPK", "EPUB"),
    (b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml" + bytes(99) + b"word/document.xml", "Word"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Office"),
    (b"\x1f\x8b\x08\x00" + bytes(99), "gzip"),
    (b"{\\rtf1\\ansi text}", "RTF"),
], ids=str)  # fmt: skip
def test_what_is_no_plain_text_is_named_for_what_it_is(tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(LoadError) as refused:
        list(documents(path))
    assert refused.value.key == "corpus_document" and kind in refused.value.values["kind"]


@pytest.mark.parametrize("data", ["\ufeff<!DOCTYPE html>\n<html><p>猫</p>", "\n<html>\n<p>猫</p>"])
def test_what_begins_as_a_page_is_read_as_one(tmp_path: Path, data: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(data, encoding="utf-8")
    assert next(documents(path)).text == "猫\n"
    assert "<html>" in next(documents(path, Reading(format="text"))).text


def test_text_about_markup_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a page begins with <html>, a PDF with %PDF-.\n")
    assert next(documents(tmp_path / "a.txt")).text
