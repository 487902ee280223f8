"""Every key of the stepper, once: what is bound, what the footer says, and what `?` explains."""

from dataclasses import dataclass

from manako.views.terminal.steps import Look


@dataclass(frozen=True)
class Key:
    """What some keys do."""

    keys: tuple[str, ...]
    """As Textual names them."""
    shown: str
    """As a reader finds them on the keyboard."""
    action: str
    """`stepper.key_ACTION` is its name in the footer, `stepper.help_ACTION` its sentence."""
    beside: bool = False
    """Whether it shares the name of the key in front of it."""


KEYS = (
    Key(("left",), "\u2190", "back"),
    Key(("right",), "\u2192", "forward", beside=True),
    Key(("up",), "\u2191", "up"),
    Key(("down",), "\u2193", "down", beside=True),
    Key(("enter",), "Enter", "take"),
    Key(("space",), "Space", "play"),
    Key(("backspace",), "BS", "undo"),
    Key(("t",), "t", "settings"),
    Key(("r",), "r", "resample"),
    Key(("b",), "b", "stop_at"),
    Key(("g",), "g", "guess"),
    Key(("slash",), "/", "find"),
    Key(("n",), "n", "find_next"),
    Key(("N", "upper_n"), "N", "find_before", beside=True),
    Key(("tab",), "Tab", "tab"),
    Key(("pageup",), "PgUp", "page_up"),
    Key(("pagedown",), "PgDn", "page_down", beside=True),
    Key(("home",), "Home", "first"),
    Key(("end",), "End", "last", beside=True),
    Key(("s",), "s", "save"),
    Key(("e",), "e", "export"),
    Key(("c",), "c", "copy"),
    Key(("question_mark",), "?", "help"),
    Key(("q", "ctrl+c"), "q", "leave"),
)
TABS = ("choice", "attention", "layers", "why", "branches", "stages")  # also by their number, from 1

_NAMES = {"\u2190": "Left", "\u2192": "Right", "\u2191": "Up", "\u2193": "Down"}


def shown(key: Key, look: Look) -> str:
    """The key as the terminal can show it: an arrow is one cell wide only where a block is."""
    return key.shown if look.glyphs.full == "\u2588" else _NAMES.get(key.shown, key.shown)
