"""The notation of Aozora Bunko: what is taken out, what comes back, what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.corpus.aozora import GETA, Work, is_aozora, kana_of, work, works

RULE = "-" * 55
MARKS = "【テキスト中に現れる記号について】\n\n《》：ルビ\n（例）吾輩《わがはい》"
HEADER = f"吾輩は猫である\n夏目漱石\n\n{RULE}\n{MARKS}\n{RULE}\n\n"
TRAILER = "\n\n\n底本：「夏目漱石全集1」ちくま文庫\n入力：柴田卓治\n"


def plain_text(source: str) -> str:
    return work(source).text


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
    ("だん／＼、さま／″＼、ざわ／＼／＼", "だん〳〵、さま〴〵、ざわ〳〵〳〵"),
    ("まあ 〔Une Vie a` la Tolstoi:〕 だ", "まあ Une Vie à la Tolstoï だ"),
    ("〔c,a va, garc,on〕と〔a&ngstro:m, O/re, Straus&e〕", "ça va, garçonとångström, Øre, Strauße"),
    ("〔Choe&ur, AE&neis, ae&ons〕", "Chœur, Æneis, æons"),
    ("〔l'eau qu'elles d'e'te'〕", "l'eau qu'elles d'été"),
    ("〔Tenryu^（白山絶頂）〕", "Tenryû（白山絶頂）"),
    ("〔Orche^stra《オルケストラ》〕", "Orchêstra"),
    ("〔何もかもみんなしくじったのは〕", "〔何もかもみんなしくじったのは〕"),
    ("〔〕閉じ忘れ", "〔〕閉じ忘れ"),
    ("前\n［＃ここから２字下げ］\n詩\n［＃ここで字下げ終わり］\n後", "前\n詩\n後"),
    ("［＃５字下げ］一［＃「一」は中見出し］\n本文", "一\n本文"),
    ("国破レテ［＃レ］山河在リ［＃二］", "国破レテ山河在リ"),
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


@pytest.mark.slow
def test_nested_marks_without_end_do_not_take_forever() -> None:
    for text in (
        "［＃" * 20_000,
        "※［＃" * 20_000,
        "［＃［" * 10_000 + "］" * 10_000,
        "［＃あ］" * 100_000 + "い",
        "《" * 1_000_000,
        "〔" * 100_000 + "〔a'" * 100_000,
        "｜" * 1_000_000,
        "-" * 1_000_000,
        "底本：\n" * 100_000,
        "青空文庫作成ファイル：\n" * 100_000,
    ):
        plain_text(HEADER + text + TRAILER)


def test_title_and_author() -> None:
    assert work(HEADER + "本文。" + TRAILER) == Work("吾輩は猫である", "夏目漱石", "本文。\n")
    assert (
        work("ジャン《じゃん》・クリストフ\nJEAN CHRISTOPHE\n序\n豊島与志雄訳\n\n本文\n\n底本：x").author
        == "豊島与志雄訳"
    )
    assert work("鳥\n\n横光利一\n\n　本文。\n\n底本：x") == Work("鳥", "横光利一", "　本文。\n")
    assert work("題だけ\n\n「短い。」\n\n次。\n\n底本：x") == Work("題だけ", None, "「短い。」\n\n次。\n")
    assert work("一行だけ") == Work(None, None, "一行だけ\n")


def test_rules_of_hyphens_in_a_story_are_no_explanation_block() -> None:
    source = f"題\n著者\n\n一話。\n{RULE}\n二話。\n{RULE}\n三話。\n底本：x"
    assert plain_text(source) == f"一話。\n{RULE}\n二話。\n{RULE}\n三話。\n"


def test_works_of_the_first_years() -> None:
    notes = (
        f"題\n著者\n\n［表記について］\n●ルビは「《ルビ》」の形式で処理した。\n{RULE}\n　本文《ほんぶん》。\n底本：x"
    )
    assert plain_text(notes) == "　本文。\n"
    credits = "テキスト入力者：誰か\n青空文庫作成ファイル：\nこのファイルは、青空文庫で作られました。"
    source = f"鳥\n\n著者\n\n　本文。\n\n\n\n・『全集』を底本とした。\n\n{credits}"
    assert is_aozora(source) and plain_text(source) == "　本文。\n"


def test_a_work_without_any_mark_is_known_by_its_credits() -> None:
    credits = "入力：誰か\n青空文庫作成ファイル：\nこのファイルは、青空文庫で作られました。"
    source = f"題\n著者\n\n本文。\n\n底本：全集\n{credits}"
    assert is_aozora(source) and plain_text(source) == "本文。\n"


def test_works_that_were_joined() -> None:
    credit = "青空文庫作成ファイル：\nこのファイルは、インターネットの図書館、青空文庫で作られました。\n"
    one, two = (f"題{n}\n著者\n\n本文{n}。\n底本：全集\n{credit}" for n in (1, 2))
    assert works(one + "\n" + two) == [one, two] and works(one) == [one]
    assert works(one + "おまけ") == [one + "おまけ"] and works("") == [""] and works("ただの文") == ["ただの文"]


def test_kana_of() -> None:
    assert kana_of("そう言って、彼は笑っている。") == "modern"
    assert kana_of("さう言つて、彼は笑つてゐる。") == "historical"
    assert kana_of("さう言つて、彼は笑つてゐる。もう歸つてしまつた。だつて待つてゐたから。") == "historical"
    for text in ("雨ニモマケズ", "plain", "國破山河在", ""):
        assert kana_of(text) is None
    quoting = "そう言って、「だつた」と書いた。" + "待っていたから、帰ってしまった。" * 3
    assert kana_of(quoting) == "modern"
