"""Lines of both languages: none is too wide, nothing is lost, and no line of Japanese begins with a full stop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako import messages
from manako.messages.lines import breaks, cells, wrap

SENTENCES = [text for lang in messages.LANGUAGES for text in messages.catalog(lang).values()]


@pytest.mark.parametrize("columns", [20, 33, 60, 80])
def test_every_sentence_of_the_catalogs_fits(columns: int) -> None:
    for sentence in SENTENCES:
        lines = wrap(sentence, columns)
        assert max(map(cells, lines)) <= columns
        assert "".join(lines).replace(" ", "") == sentence.replace(" ", "")
        for line in lines[1:]:
            assert line[:1] not in tuple("。、）」』％"), lines


def test_words_stay_whole_where_they_fit() -> None:
    assert wrap("the model was switched off in the middle", 12) == ["the model", "was switched", "off in the", "middle"]
    assert wrap("unbreakableword and more", 8) == ["unbreaka", "bleword", "and more"]


def test_an_opening_bracket_goes_with_what_it_opens() -> None:
    assert wrap("トークンは「猫」です。", 12) == ["トークンは", "「猫」です。"]
    assert wrap("範囲 0.2〜0.3 に入る", 9) == ["範囲", "0.2〜0.3", "に入る"]


@given(st.text(), st.integers(2, 30))
def test_any_text_at_any_width(text: str, columns: int) -> None:
    starts = [0, *breaks(text, columns), len(text)]
    lines = [text[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    assert "".join(lines) == text and all(cells(line.rstrip(" ")) <= columns for line in lines)
