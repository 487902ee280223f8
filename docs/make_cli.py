"""Write docs/cli.md from the --help of every command, in English, 80 columns wide; a test compares it.

python docs/make_cli.py
"""

import os
import subprocess
import sys
from pathlib import Path

from manako.cli import COMMANDS

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Commands

This page is what `--help` prints, written by `python docs/make_cli.py`. `manako` and `python -m manako` are the same.

Data goes to stdout, everything else to stderr. Every error is one line with a stable code, such as
`manako: seed must be a whole number from 0 to 2^64 - 1, got -1 [E-SEED]`.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a failure while doing what was asked |
| 2 | wrong usage: a value out of range, a wrong name |
| 3 | a model, trace or text that cannot be read, or must not be trusted |
| 4 | the model or trace cannot provide what was asked |
| 5 | an optional dependency is not installed; the message has the line that installs it |
| 130 | interrupted by Ctrl-C; what `watch`, `compare` and `eval` made before is shown, and saved with `--save` |

A second Ctrl-C ends at once. Where nobody reads stdout any more (`| head`), a command ends without a word, and a
generation stops; the files that it was asked for are written, and the exit code is what it would have been.

`NO_COLOR`, `FORCE_COLOR`, `COLUMNS`, `TERM=dumb` and the locale are honoured; `--color` and `--lang` take precedence.
`-h` is short: the options that one needs. Completion of commands, options, models (`-m`) and files:
`eval "$(_MANAKO_COMPLETE=bash_source manako)"` in `~/.bashrc`, `zsh_source` in `~/.zshrc`, and for fish
`_MANAKO_COMPLETE=fish_source manako > ~/.config/fish/completions/manako.fish`.
`MANAKO_AMBIGUOUS_WIDTH=1` or `2` says how many cells your terminal gives to `█`, where asking it does not help.
"""


# One process for all: help is in the language in which the commands were first imported.
PRINT = """
import sys
from manako.cli import main
for line in sys.stdin.read().splitlines():
    try:
        main([*line.split(), "--help", "--lang", "en"])
    except SystemExit as end:
        assert not end.code, line
    print(end="\\f")
"""


def page() -> str:
    """The whole page."""
    inside = {"corpus": ("corpus build", "corpus show"), "export": ("export html", "export site", "export trainer")}
    commands = [words for name in ("", *COMMANDS) for words in (name, *inside.get(name, ()))]
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    python = [sys.executable, "-c", PRINT, "--lang", "en"]
    made = subprocess.run(python, env=plain, input="\n".join(commands), capture_output=True, text=True, check=True)
    helps = zip(commands, made.stdout.split("\f"), strict=False)  # behind the last one is nothing
    return HEAD + "".join(
        f"\n## {f'manako {words}'.rstrip()}\n\n```\n{help_.rstrip()}\n```\n" for words, help_ in helps
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
