"""Files, folders and archives to documents: an encoding is known or refused (P23, P26-P29), never guessed wrong."""

import io
import lzma
import os
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import random_texts

from manako.corpus.documents import MAX_TEXT_BYTES, decode, document, documents
from manako.errors import LoadError

JAPANESE = (
    "吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。"
    "何でも薄暗いじめじめした所でニャーニャー泣いていた。\n"
)


def refused(data: bytes, key: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        decode("名前.txt", data)
    assert caught.value.key == key, str(caught.value)
    assert caught.value.exit_code == 3 and "名前.txt" in str(caught.value) and caught.value.text("ja")
    return caught.value


# --- encodings --------------------------------------------------------------------------------------------------------


def test_p29_utf8_with_and_without_bom() -> None:
    assert decode("x", JAPANESE.encode()) == decode("x", b"\xef\xbb\xbf" + JAPANESE.encode()) == JAPANESE
    assert decode("x", "a\ufeffb".encode()) == "a\ufeffb"  # only the one at the start is a mark


@given(st.text())
def test_p29_any_text_in_utf8_comes_back_with_its_newlines_made_one(text: str) -> None:
    try:
        found = decode("x", text.encode())
    except LoadError as error:
        assert error.key in ("corpus_binary", "corpus_utf16", "corpus_iso2022")
    else:
        assert found == text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def test_p29_newlines_become_one_kind_and_odd_characters_stay() -> None:
    assert decode("x", b"a\r\nb\rc\nd\r\r\ne") == "a\nb\nc\nd\n\ne"
    kept = "一\0二\f三\u2028四\u2029五\u0085六\v七\x1b[0m八\u3000九\ue000\ufffd"
    assert decode("x", kept.encode()) == kept


def test_p26_cp932_is_recognised() -> None:
    for text in (JAPANESE, "「あ」", "あ", "ソ表能　①Ⅱ㈱髙﨑～－∥￢", "ｶﾅ" + JAPANESE, "\ta,b;\n" * 50 + "です。\n"):
        assert decode("x", text.encode("cp932")) == text
    assert decode("x", JAPANESE.replace("\n", "\r\n").encode("cp932")) == JAPANESE


@pytest.mark.parametrize(("encoding", "text"), [
    ("euc_jp", JAPANESE),
    ("euc_jp", "日本語"),
    ("euc_jp", "ｶﾀｶﾅ"),
    ("latin-1", "L'élève a déjà été reçu à Genève"),
    ("latin-1", "Köln, größere Mädchen für Übung; straße"),
    ("latin-1", "café"),
    ("latin-1", "señor año"),
    ("cp1252", "It’s “quoted” – text"),
    ("cp1252", "naïve — façade… €5"),
    ("gbk", "这是一个中文的句子，我们在这里测试。"),
    ("big5", "這是一個中文的句子，我們在這裡測試。"),
    ("euc_kr", "이것은 한국어 문장입니다."),
    ("koi8-r", "Это русский текст для проверки"),
    ("cp1251", "Это русский текст для проверки"),
])  # fmt: skip
def test_p26_p27_other_encodings_are_refused_with_byte_and_offset(encoding: str, text: str) -> None:
    data = text.encode(encoding)
    error = refused(data, "corpus_encoding")
    offset = int(error.values["offset"])
    assert error.values["byte"] == f"0x{data[offset]:02X}"
    data[:offset].decode("utf-8")  # all before it is UTF-8


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [JAPANESE, "plain English text\n" * 3, "hello", "猫である。\n" * 4 + "abc\n"])
def test_p27_utf16_with_and_without_bom_is_named(encoding: str, text: str) -> None:
    refused(text.encode(encoding), "corpus_utf16")


def test_p27_iso2022_jp_is_named() -> None:
    refused(JAPANESE.encode("iso2022_jp"), "corpus_iso2022")


def test_p28_an_invalid_byte_in_the_middle_has_its_offset() -> None:
    data = JAPANESE.encode()
    for place in (0, 17, len(data) // 2, len(data) - 1):
        broken = data[:place] + b"\xff" + data[place + 1 :]
        error = refused(broken, "corpus_encoding")
        assert abs(int(error.values["offset"]) - place) <= 2  # the character that it stands in
    error = refused(b"\xef\xbb\xbf" + "猫".encode() + b"\xff", "corpus_encoding")
    assert error.values == {"file": "名前.txt", "byte": "0xFF", "offset": "6"}  # counted in the file, mark included


def test_p28_text_cut_inside_a_character_is_never_read_as_cp932() -> None:
    """UTF-8 Japanese often decodes as CP932: "縺ゅ＞" for "あい"."""
    rng = random.Random(0)
    for _ in range(500):
        start = rng.randrange(len(JAPANESE) - 1)
        whole = JAPANESE[start : start + rng.randrange(1, 40)].encode()
        cut = whole[: -rng.randrange(1, 3)]
        try:
            cut.decode()
        except UnicodeDecodeError:
            refused(cut, "corpus_encoding")


def test_p26_negative_control_such_bytes_do_decode_as_cp932() -> None:
    """Why it is not enough that CP932 accepts the bytes."""
    taken = 0
    for n in range(1, len(JAPANESE)):
        for data in (JAPANESE[:n].encode()[:-1], JAPANESE[:n].encode("euc_jp"), b"caf\xe9s"):
            try:
                data.decode("cp932")
            except UnicodeDecodeError:
                continue
            taken += 1
            if any(byte >= 0x80 for byte in data):
                with pytest.raises(LoadError):
                    decode("x", data)
    assert taken > 50


def test_p28_replacement_characters_of_the_text_itself_stay() -> None:
    assert decode("x", "a\ufffdb".encode()) == "a\ufffdb"


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000154a24f5b0000000049454e44ae426082"
)


@pytest.mark.parametrize("data", [
    PNG,
    b"\0" * 5000,
    b"text with\0\0\0\0\0\0 many NULs",
    b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0\x01\0\0\0",
    lzma.compress(JAPANESE.encode() * 20),
    bytes(range(256)) * 4,
], ids=["PNG", "NULs", "some NULs", "ELF", "xz", "all bytes"])  # fmt: skip
def test_p23_binary_is_refused_as_binary(data: bytes) -> None:
    error = refused(data, "corpus_binary")
    assert error.values["size"] == str(len(data))


def test_p23_random_bytes_are_never_text() -> None:
    rng, accepted = random.Random(1), 0
    for n in range(2000):
        try:
            decode("x", rng.randbytes(16 + n % 500))
            accepted += 1
        except LoadError:
            pass
    assert accepted == 0


def test_real_text_is_not_binary() -> None:
    for text in random_texts(1500):
        printable = "".join(ch for ch in text if ch >= " " and ch != "\x7f" and not "\x80" <= ch < "\xa0")
        if printable and "\ufeff" not in printable:
            assert decode("x", printable.encode()) == printable


# --- files, folders, archives -----------------------------------------------------------------------------------------


def test_p23_missing_empty_and_odd_files(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n\u3000\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "none").mkdir()
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "huge.txt").open("wb") as stream:
        stream.truncate(MAX_TEXT_BYTES + 1)
    cases = {
        "nowhere.txt": "file_missing",
        "empty.txt": "corpus_empty_file",
        "blank.txt": "corpus_empty_file",
        "pipe": "file_not_regular",
        "none": "corpus_empty_folder",
        "gone.txt": "file_missing",
        "huge.txt": "file_too_large",
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


def test_p28_one_bad_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(JAPANESE, encoding="utf-8")
    (tmp_path / "b.txt").write_text(JAPANESE, encoding="cp932")
    (tmp_path / "c.txt").write_text(JAPANESE, encoding="euc_jp")
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
    assert caught.value.key in ("file_too_large", "file_unreadable")


def test_a_document_in_aozora_notation_loses_its_marks() -> None:
    work = "題\n著者\n\n私《わたし》は［＃「は」に傍点］猫。\n\n底本：全集\n"
    assert document("x", work.encode("cp932")).text == "私は猫。\n"
    assert document("x", "私《わたし》は".encode()).text == "私《わたし》は"  # no such work: marks are text
