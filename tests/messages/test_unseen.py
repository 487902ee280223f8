"""What shows nothing is spelled out wherever text of a stranger is printed; no sentence of ours has any of it."""

import pytest

from manako import messages
from manako.cli.console import safe
from manako.messages.unseen import UNSEEN
from manako.views.terminal.again import command_line
from manako.views.terminal.glyphs import BLOCK, visible

HIDDEN = ["\u034f", "\u115f", "\u17b4", "\u180b", "\u2800", "\u3164", "\ufe0f", "\uffa0", "\U0001d159", "\U000e0100"]


@pytest.mark.parametrize("ch", HIDDEN, ids=lambda ch: f"{ord(ch):04X}")
def test_what_shows_nothing_is_spelled_out(ch: str) -> None:
    for shown in (visible(f"a{ch}", BLOCK), safe(f"a{ch}"), command_line([f"a{ch}"])):
        assert ch not in shown and len(shown) > 4


def test_no_sentence_has_any_of_it() -> None:
    said = [text for lang in messages.LANGUAGES for text in messages.catalog(lang).values()]
    assert len(said) > 1000 and not UNSEEN.search("".join(said))
