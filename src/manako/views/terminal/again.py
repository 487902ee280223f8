"""The whole command that looks at a run again: with its text, model, settings and seed, ready to be pasted.

Special here: quoted for a POSIX shell. A text that no command line should carry (long, or with what is not printable)
stays the word TEXT, and so does one that a command cannot repeat: it continues another trace, or has special tokens,
which are no text, and no command has just been typed that says how they were written.
"""

import re
import shlex
import unicodedata
from collections.abc import Sequence

from rich.text import Text

from manako.messages.numbers import setting
from manako.messages.unseen import UNSEEN
from manako.sampling import DEFAULT_ORDER, STAGES, Sampling
from manako.trace.record import Trace
from manako.views.terminal.steps import Look

_LONGEST = 120  # characters of a text


def hint(key: str, look: Look, trace: Trace, *command: str, count: int | None = None, **values: object) -> Text:
    """A sentence of the catalog with such a `{command}` in it, on a line of its own."""
    return Text(look.say(key, command=again(trace, *command, count=count), **values), "dim", no_wrap=True)


def again(trace: Trace, command: str, *more: str, count: int | None = None) -> str:
    """`manako COMMAND TEXT`, what makes the run the same, and `more`. count: of tokens to draw, where it is to be told.

    >>> import manako
    >>> again(manako.load("demo").trace("私は", max_new_tokens=1, top_k=5, seed=3), "why", count=1)
    'manako why 私は -m demo --top-k 5 -n 1 --seed 3'
    """
    header, words = trace.header, ["manako", command, *_text(trace), "-m", trace.header.model.ref]
    if header.kind == "generation":
        words += _settings(header.sampling)
        words += [] if count is None else ["-n", str(count)]
        words += ["--seed", str(header.seed), *(word for stop in header.stop for word in ("--stop", stop))]
    elif command != "compare":
        words.append("--given")
    words += [word for part in header.ablate for word in ("--ablate", part)]
    return command_line([*words, *more])


def command_line(words: Sequence[str]) -> str:
    """Words as a shell takes them: of letters and digits in any script as they are, what is not to be seen escaped.

    >>> print(command_line(["manako", "watch", "私は", "a b", "\\x1b[2J"]))
    manako watch 私は 'a b' $'\\u001b[2J'
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    marks = "".join("m" if unicodedata.combining(ch) else " " for ch in word)
    if word.isprintable() and "mmm" not in marks and not UNSEEN.search(word):
        return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else shlex.quote(word)
    return "$'" + "".join(map(_escaped, word, marks)) + "'"


def _escaped(ch: str, mark: str) -> str:
    if ch.isprintable() and mark == " " and not UNSEEN.match(ch):
        return f"\\{ch}" if ch in "\\'" else ch
    if "\udc80" <= ch <= "\udcff":  # a byte of a file's name that is no UTF-8, as Python holds it
        return f"\\x{ord(ch) - 0xDC00:02x}"
    return f"\\u{ord(ch):04x}" if ord(ch) < 0x10000 else f"\\U{ord(ch):08x}"


def _settings(sampling: Sampling) -> list[str]:
    words: list[str] = []
    for stage in STAGES:
        value = getattr(sampling, stage.name)
        if value is not None and value != getattr(Sampling, stage.name):
            words += ["-t" if stage.name == "temperature" else f"--{stage.name.replace('_', '-')}", setting(value)]
    return words if sampling.order == DEFAULT_ORDER else [*words, "--order", ",".join(sampling.order)]


def _text(trace: Trace) -> list[str]:
    """The text, and how it is to be read."""
    header, typed = trace.header, trace.typed
    if typed is None:
        text = trace.excerpt.text if trace.excerpt else trace.text if header.kind == "score" else header.prompt
        return [text if _fits(text) and can_be_typed(trace) else "TEXT"]
    words = [typed.text if _fits(typed.text) else "TEXT"]
    words += [f"--{name}" for name in ("special", "chat") if getattr(typed, name)]
    return [*words, "--system", typed.system if _fits(typed.system) else "TEXT"] if typed.system else words


def _fits(text: str) -> bool:
    return text.isprintable() and 0 < len(text) <= _LONGEST and text[0] != "-"


def can_be_typed(trace: Trace) -> bool:
    """Whether the text on record gives the same tokens: it began there, and all special ones are put in front.

    One token in front can have been typed too, which no record tells; tokenizers put it there far more often.
    """
    given = trace.all_ids if trace.header.kind == "score" else trace.columns.prompt_ids
    return not trace.header.first_step and not trace.vocabulary.special_ids.intersection(given[1:].tolist())
