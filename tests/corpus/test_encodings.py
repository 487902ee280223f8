"""Bytes to text: an encoding is known or refused (P23, P26-P29), never guessed wrong."""

import codecs
import lzma
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import random_texts

from manako.corpus.encodings import Decoder, decode, known_encoding
from manako.errors import LoadError, UsageError

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


def test_utf8_with_and_without_bom() -> None:
    assert decode("x", JAPANESE.encode()) == decode("x", b"\xef\xbb\xbf" + JAPANESE.encode()) == JAPANESE
    assert decode("x", "a\ufeffb".encode()) == "a\ufeffb"  # only the one at the start is a mark


@given(st.text())
def test_any_text_in_utf8_comes_back_with_its_newlines_made_one(text: str) -> None:
    try:
        found = decode("x", text.encode())
    except LoadError as error:
        assert error.key in ("corpus_binary", "corpus_wide", "corpus_iso2022")
    else:
        assert found == text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def test_newlines_become_one_kind_and_odd_characters_stay() -> None:
    assert decode("x", b"a\r\nb\rc\nd\r\r\ne") == "a\nb\nc\nd\n\ne"
    kept = "一\0二\f三\u2028四\u2029五\u0085六\v七\x1b[0m八\u3000九\ue000\ufffd"
    assert decode("x", kept.encode()) == kept


def test_cp932_is_recognised() -> None:
    for text in (JAPANESE, "「あ」", "あ", "ソ表能　①Ⅱ㈱髙﨑～－∥￢", "ｶﾅ" + JAPANESE, "\ta,b;\n" * 50 + "です。\n"):
        assert decode("x", text.encode("cp932")) == text
    assert decode("x", JAPANESE.replace("\n", "\r\n").encode("cp932")) == JAPANESE


@pytest.mark.parametrize(("encoding", "text"), [
    ("euc_jp", "日本語"),
    ("euc_jp", "ｶﾀｶﾅ"),
    ("cp932", "國破山河在城春草木深"),
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
def test_other_encodings_are_refused_with_byte_and_offset(encoding: str, text: str) -> None:
    data = text.encode(encoding)
    with pytest.raises(LoadError) as caught:
        decode("名前.txt", data)
    error = caught.value
    assert error.key in ("corpus_encoding", "corpus_encoding_maybe") and error.exit_code == 3
    if error.key == "corpus_encoding_maybe" and text in ("日本語", "國破山河在城春草木深"):  # the remedy it names works
        assert text in [decode("x", data, e) for e in error.values["encodings"].split(", ")]
    offset = int(error.values["offset"])
    assert error.values["byte"] == f"0x{data[offset]:02X}"
    data[:offset].decode("utf-8")  # all before it is UTF-8


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [JAPANESE, "plain English text\n" * 3, "hello", "猫である。\n" * 4 + "abc\n"])
def test_utf16_and_utf32_without_a_mark_are_named(encoding: str, text: str) -> None:
    assert refused(text.encode(encoding), "corpus_wide").values["encoding"] == encoding
    assert decode("a.txt", text.encode(encoding), encoding) == text  # as the message says


@pytest.mark.parametrize(
    "asked, key", [("utf-16", "corpus_wide"), ("utf-32", "corpus_bytes"), ("idna", "corpus_bytes")]
)
def test_bytes_without_the_mark_that_an_encoding_begins_with(asked: str, key: str) -> None:
    data = JAPANESE.encode("utf-16-le") if asked == "utf-16" else b"xn--a."
    with pytest.raises(LoadError) as caught:
        decode("a.txt", data, known_encoding(asked))
    assert caught.value.key == key and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_is_certain(encoding: str) -> None:
    assert decode("a.txt", JAPANESE.encode(encoding)) == JAPANESE
    assert decode("a.txt", codecs.BOM_UTF16_BE + JAPANESE.encode("utf-16-be")) == JAPANESE


def test_half_width_katakana_may_be_cp932() -> None:
    """Old business data: it reads as CP932, and nothing in it proves that."""
    error = refused(("ﾃｽﾄﾃﾞｰﾀ ｶﾌﾞｼｷｶﾞｲｼｬ\r\n" * 40).encode("cp932"), "corpus_encoding_maybe")
    assert error.values["encodings"] == "cp932"


def test_nul_bytes_between_records_are_not_utf16() -> None:
    refused("".join(f"some/path/{n}.txt\0" for n in range(40)).encode(), "corpus_binary")


def test_iso2022_jp_is_named() -> None:
    refused(JAPANESE.encode("iso2022_jp"), "corpus_iso2022")


def test_an_invalid_byte_in_the_middle_has_its_offset() -> None:
    data = JAPANESE.encode()
    for place in (0, 17, len(data) // 2, len(data) - 1):
        broken = data[:place] + b"\xff" + data[place + 1 :]
        error = refused(broken, "corpus_encoding")
        assert abs(int(error.values["offset"]) - place) <= 2  # the character that it stands in
    error = refused(b"\xef\xbb\xbf" + "猫".encode() + b"\xff", "corpus_encoding")
    assert error.values == {"file": "名前.txt", "byte": "0xFF", "offset": "6"}  # counted in the file, mark included


def test_text_cut_inside_a_character_is_never_read_as_cp932() -> None:
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


def test_negative_control_such_bytes_do_decode_as_cp932() -> None:
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
                try:  # EUC-JP is recognised for what it is
                    assert decode("x", data) == JAPANESE[:n] and data == JAPANESE[:n].encode("euc_jp")
                except LoadError:
                    pass
    assert taken > 50


def test_replacement_characters_of_the_text_itself_stay() -> None:
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
def test_binary_is_refused_as_binary(data: bytes) -> None:
    error = refused(data, "corpus_binary")
    assert error.values["size"] == str(len(data))


def test_random_bytes_are_never_text() -> None:
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


# --- EUC-JP, forced encodings, pieces -------------------------------------------------------------------------------


def test_euc_jp_is_recognised() -> None:
    for text in (JAPANESE, "あ", "カタカナ", "\ta,b;\n" * 50 + "です。\n", JAPANESE + "丂丄"):  # the last: JIS X 0212
        decoder = Decoder("x", text.encode("euc_jp"), True)
        assert decoder.encoding == "euc_jp" and decoder.feed(text.encode("euc_jp"), True) == text


def test_every_start_of_a_japanese_text_is_read_right_or_refused() -> None:
    for encoding in ("cp932", "euc_jp", "utf-8"):
        data = JAPANESE.encode(encoding)
        for n in range(1, len(data)):
            try:
                found = decode("x", data[:n])
            except LoadError:
                continue
            assert found == data[:n].decode(encoding)


def test_the_encoding_can_be_forced() -> None:
    for text, encoding in (("日本語", "cp932"), ("日本語", "euc_jp"), ("café", "latin-1"), (JAPANESE, "utf-16")):
        assert decode("x", text.encode(encoding), known_encoding(encoding)) == text
    with pytest.raises(LoadError) as caught:
        decode("名前", JAPANESE.encode("cp932"), "euc_jp")
    assert caught.value.key == "corpus_bytes" and caught.value.values["offset"] == "0"
    with pytest.raises(LoadError) as caught:
        decode("名前", b"\0\1\2\3" * 50, "latin-1")
    assert caught.value.key == "corpus_binary"


@pytest.mark.parametrize("name", ["", "no-such", "base64", "hex", "undefined", "a\0b"])
def test_an_unknown_encoding_is_named(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        known_encoding(name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "euc_jp"])
def test_a_file_in_pieces_of_any_size_gives_the_same_text(encoding: str) -> None:
    text = (JAPANESE + "a\r\nb\r") * 3
    data = text.encode(encoding)
    for size in (1, 2, 3, 7, 64):
        decoder = Decoder("x", data[:200], False)
        pieces = [decoder.feed(data[i : i + size], False) for i in range(0, len(data), size)]
        assert "".join(pieces) + decoder.feed(b"", True) == text.replace("\r\n", "\n").replace("\r", "\n")
        assert decoder.encoding == encoding and decoder.crlf


def test_the_offset_is_right_in_a_later_piece() -> None:
    for encoding in ("utf-8", "cp932", "euc_jp"):
        good = JAPANESE.encode(encoding)
        data = good + b"\xff" + good
        for size in (1, 5, 64):
            decoder = Decoder("x", good, False)
            with pytest.raises(LoadError) as caught:
                for i in range(0, len(data), size):
                    decoder.feed(data[i : i + size], False)
                decoder.feed(b"", True)
            assert (caught.value.key, caught.value.values["offset"]) == ("corpus_bytes", str(len(good)))
            assert caught.value.values["byte"] == "0xFF"
