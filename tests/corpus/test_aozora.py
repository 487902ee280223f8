"""The notation of Aozora Bunko: what is taken out, what comes back, what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.corpus.aozora import GETA, is_aozora, is_modern_kana, plain_text

RULE = "-" * 55
MARKS = "【テキスト中に現れる記号について】\n\n《》：ルビ\n（例）吾輩《わがはい》"
HEADER = f"吾輩は猫である\n夏目漱石\n\n{RULE}\n{MARKS}\n{RULE}\n\n"
TRAILER = "\n\n\n底本：「夏目漱石全集1」ちくま文庫\n入力：柴田卓治\n"


def body(text: str) -> str:
    """What becomes of a line in the middle of a work."""
    return plain_text(f"{HEADER}前。\n{text}\n後。{TRAILER}").removeprefix("前。\n").removesuffix("\n後。\n")


@pytest.mark.parametrize(("given_text", "expected"), [
    ("吾輩《わがはい》は猫", "吾輩は猫"),
    ("ここは｜東京府《とうきょうふ》だ", "ここは東京府だ"),
    ("｜A《エー》と｜B《ビー》", "AとB"),
    ("一《いち》二《に》三《さん》", "一二三"),
    ("《》空のルビ", "空のルビ"),
    ("猫［＃「猫」に傍点］である", "猫である"),
    ("［＃ここから２字下げ］本文［＃ここで字下げ終わり］", "本文"),
    ("重ね［＃「※［＃「口＋世」、U+546D］」に傍点］の外", "重ねの外"),
    ("絵［＃挿絵（fig1.png、横320×縦240）入る］後", "絵後"),
    ("※［＃「てへん＋蚤」、第3水準1-84-86］く", "搔く"),
    ("※［＃「口＋世」、U+546D、232-14］", "\u546d"),
    ("※［＃「土へん＋斥」、第3水準1-15-41］", "坼"),
    ("※［＃二の字点、1-2-22］", "〻"),
    ("※［＃小書き片仮名ヒ、1-6-84］", "ㇶ"),
    ("※［＃「魚＋師のつくり」、第4水準2-93-37］", "魳"),
    ("※［＃「さんずい＋冗」、U+6C8D］水《みず》", "\u6c8d水"),
    ("※［＃説明だけの字］", GETA),
    ("※［＃「変な符号」、U+D800］", GETA),
    ("※［＃「変な符号」、U+FFFFFF］", GETA),
    ("※［＃「変な符号」、1-99-1］", GETA),
    ("※［＃「変な符号」、2-0-5］", GETA),
    ("※［＃「魚＋［＃「師」の「ノ」に代えて「一」］」、第4水準2-93-37］", "魳"),
    ("※［＃「てへん＋蚤」、第3水準1-84-86］《か》く", "搔く"),
    ("か\u3099", "が"),  # NFC
    ("※ただの米印", "※ただの米印"),
    ("［普通の括弧］", "［普通の括弧］"),
    ("《閉じないルビ", "《閉じないルビ"),
    ("空白　全角と half", "空白　全角と half"),
    ("一行目   \n二行目", "一行目\n二行目"),
    ("段\n\n\n\n\n落", "段\n\n落"),
])  # fmt: skip
def test_marks(given_text: str, expected: str) -> None:
    assert body(given_text) == expected


def test_ruby_does_not_reach_over_a_line() -> None:
    assert body("これは《開いた\nまま》だ") == "これは《開いた\nまま》だ"


def test_header_block_title_and_trailer_go() -> None:
    assert (
        plain_text(HEADER + "　吾輩は猫である。\n名前はまだ無い。" + TRAILER)
        == "　吾輩は猫である。\n名前はまだ無い。\n"
    )


def test_without_the_explanation_block_title_and_author_end_at_the_first_empty_line() -> None:
    assert plain_text("題\n著者\n\n本文。\n\n二段落。" + TRAILER) == "本文。\n\n二段落。\n"
    assert plain_text("一行だけ") == "一行だけ\n"


@pytest.mark.parametrize("line", ["底本：「全集」", "底本:「全集」", "　底本：「全集」", "  底本：x"])
def test_all_kinds_of_trailer_end_the_text(line: str) -> None:
    assert plain_text(f"{HEADER}本文。\n{line}\n入力：誰か\n") == "本文。\n"
    assert body("これは底本：ではない") == "これは底本：ではない"  # only at the start of a line


def test_all_kinds_of_newline() -> None:
    source = HEADER + "一。\n二。" + TRAILER
    assert plain_text(source) == plain_text(source.replace("\n", "\r\n")) == plain_text(source.replace("\n", "\r"))


def test_is_aozora() -> None:
    assert is_aozora(HEADER + "本文" + TRAILER)
    assert is_aozora("題\n\n本文［＃改ページ］\n底本：全集")
    assert not is_aozora("本文《ルビ》だけ")
    assert not is_aozora("題\n底本：全集\n")
    assert not is_aozora("a\n" + RULE + "\nb\n" + "-" * 10 + "\n")  # one rule is a thematic break
    assert not is_aozora("")


@given(st.text(alphabet="あ漢《》｜［］＃※「」、。-\n底本：U+1-2", max_size=80))
def test_any_arrangement_of_marks_is_survived_and_taking_them_out_ends(text: str) -> None:
    plain = plain_text(text)
    assert plain.endswith("\n") and "\r" not in plain
    assert "｜" not in plain


def test_t10_nested_marks_without_end_do_not_take_forever() -> None:
    for text in (
        "［＃" * 5000,
        "※［＃" * 5000,
        "［＃［" * 3000 + "］" * 3000,
        "《" * 20_000,
        "｜" * 20_000,
        "-" * 20_000,
    ):
        plain_text(HEADER + text + TRAILER)


def test_modern_and_historical_kana() -> None:
    assert is_modern_kana("そう言って、彼は笑っている。もう帰ってしまった。だって待っていたから。")
    assert not is_modern_kana("さう言つて、彼は笑つてゐる。もう歸つてしまつた。だつて待つてゐたから。")
    assert not is_modern_kana("國破山河在") and not is_modern_kana("") and not is_modern_kana("plain text")
