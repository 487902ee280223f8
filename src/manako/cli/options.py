"""Options that several commands share, each declared once; numbers are read strictly and complained about helpfully."""

import re
import sys
import unicodedata
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from manako.cli import common_options
from manako.cli.console import note, say
from manako.cli.help import ScreenOption
from manako.corpus.encodings import Decoder
from manako.errors import LoadError, UsageError, near
from manako.files import is_dir, is_file
from manako.refs import completions

F = TypeVar("F", bound=Callable[..., Any])
TRACE = ".manako"
_FILES = (".txt", ".md", ".json", ".jsonl", ".html", ".safetensors", ".gguf", ".pt")  # what nobody ends a text with


class Number(click.ParamType):  # not subscripted: click 8.2 cannot
    """A number written in ASCII with a point; "0,8" and full-width digits are told how to look."""

    name = "number"

    def __init__(self, whole: bool, key: str) -> None:
        self.whole = whole
        self.key = key
        """The error of the library for a value out of range, so that both sides say the same."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        if not isinstance(value, str):
            return value
        try:
            if value.isascii() and "_" not in value:
                return int(value) if self.whole else float(value)
        except ValueError:
            pass
        meant = unicodedata.normalize("NFKC", value).replace(",", ".")
        if meant != value and _is_number(meant):
            name = param.opts[0] if param else "?"
            raise UsageError("number_form", name=name, got=value, form=meant)
        raise UsageError(self.key, got=value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def screen_options(command: F) -> F:
    """How it looks: --plain, --color; and --lang, --debug, which every command has."""
    for option in (
        click.option(
            "--color",
            cls=ScreenOption,
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            help=say("option.color"),
        ),
        click.option("--plain", cls=ScreenOption, is_flag=True, help=say("option.plain")),
    ):
        command = option(command)
    return common_options(command)


def top_option(key: str = "option.top", default: int | None = 10) -> Callable[[F], F]:
    """--top N, checked; None is said in the words of the help, not as a default."""
    return click.option(
        "--top",
        type=Number(True, "top"),
        default=default,
        show_default=default is not None,
        callback=_check_top,
        metavar="N",
        help=say(key),
    )


def look_options(command: F) -> F:
    """How a list of candidates looks: --top, and screen_options."""
    return top_option()(screen_options(command))


def _check_top(ctx: click.Context, parameter: click.Parameter, top: int | None) -> int | None:
    if top is not None and top < 1:
        raise UsageError("top", got=top)
    return top


def read_prompt(prompt: str) -> str:
    """The prompt itself, or all of standard input for "-" (its last newline dropped, as a pipe adds one).

    Read as corpora are, so that a model sees what it would have learned from; what that changes is said on stderr.
    Raises UsageError naming the first byte of what is no text.
    """
    if prompt != "-":
        return read_typed(prompt)
    data = sys.stdin.buffer.read() if sys.stdin else b""  # None where the shell closed it
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        try:
            decoder = Decoder("-", data, complete=True)
            text = decoder.feed(data, final=True)
        except LoadError:
            raise UsageError("prompt_not_utf8", byte=f"0x{data[error.start]:02X}", offset=error.start) from None
        note("notice.text_encoding", encoding=decoder.encoding)
    return read_typed(text.removesuffix("\n").removesuffix("\r"))


def read_typed(text: str) -> str:
    """A text as a corpus would hold it: no byte order mark, each line ended by \\n. What changes is said on stderr."""
    whole = text.removeprefix("\ufeff")
    if whole != text:
        note("notice.text_mark")
    lines = whole.replace("\r\n", "\n").replace("\r", "\n")
    if lines != whole:
        note("notice.text_lines")
    return lines


def text_option(command: F) -> F:
    """--text, for a text that is named like the file of a trace."""
    return click.option("--text", "as_text", is_flag=True, help=say("option.text"))(command)


def is_trace(source: str, as_text: bool = False) -> bool:
    """Whether what was given is the file of a trace, and not a text. as_text: it is a text, whatever it looks like.

    A word that looks like another file is a text, and that is said on stderr.
    Raises UsageError for the name of a trace that is not there, LoadError for one that cannot be looked at: nobody
    wants those continued as a text.
    """
    if as_text:
        return False
    path = Path(source)
    try:
        there, folder = is_file(path), is_dir(path.parent)
    except LoadError:  # a name that no file can have: any text is one
        if source.endswith(TRACE):
            raise
        there = folder = False
    if source.endswith(TRACE):
        if not there:
            raise UsageError("source_missing", file=source)
        return True
    word = bool(source) and not any(map(str.isspace, source))
    if word and (there or folder and path.name != source or path.suffix in _FILES or near(path.suffix, [TRACE])):
        note("notice.file_as_text" if there else "notice.no_such_file", file=source, near=near_file(path))
    return False


def near_file(path: Path) -> str:
    """The trace beside it that somebody may have meant."""
    try:
        return near(path.name, sorted(other.name for other in path.parent.glob(f"*{TRACE}")))
    except (OSError, ValueError):
        return ""


def json_option(command: F) -> F:
    """--json, one document on stdout; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=say("option.json"))(command)


def force_option(command: F) -> F:
    """-f/--force, for what writes a file."""
    return click.option("-f", "--force", is_flag=True, help=say("option.force"))(command)


def model_option(key: str = "option.model") -> Callable[[F], F]:
    """-m/--model REF; None by default, which means the embedded model that reads the text."""
    return click.option("-m", "--model", "ref", metavar="REF", help=say(key), shell_complete=complete_model)


def models_option(key: str, *names: str) -> Callable[[F], F]:
    """-m/--model REF as often as wanted, with this help; the command gets `refs`. names: other names of it."""
    return click.option(
        *names, "-m", "--model", "refs", multiple=True, metavar="REF", help=say(key), shell_complete=complete_model
    )


def complete_model(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """References that begin so, and folders, which the shell completes itself."""
    return [*map(CompletionItem, completions(begun)), CompletionItem(begun, type="dir")]


class Head(click.ParamType):  # not subscripted: click 8.2 cannot
    """A head as its layer and its place in it, such as 3.5, in the form that --ablate takes behind `head:`."""

    name = "head"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", value)
        if found is None:
            raise UsageError("attention_head", got=value)
        return int(found[1]), int(found[2])


def layer_option(command: F) -> F:
    """--layer L, counted from 0; see `scope`."""
    number = Number(True, "attention_layer")
    return click.option("--layer", type=number, metavar="L", help=say("option.layer"))(command)


def head_option(command: F) -> F:
    """--head L.H; see `scope`."""
    return click.option("--head", type=Head(), metavar="L.H", help=say("option.head"))(command)


def scope(layers: int, heads: int, layer: int | None, head: tuple[int, int] | None = None) -> tuple[int, ...]:
    """What to look at closely: nothing, (layer,) or (layer, head), of so many. Raises UsageError."""
    if layer is not None and head is not None:
        raise UsageError("attention_both")
    part = head or (() if layer is None else (layer,))
    if any(not 0 <= n < size for n, size in zip(part, (layers, heads), strict=False)):
        raise UsageError("attention_range", got=".".join(map(str, part)), layers=layers, heads=heads)
    return part


def step_option(key: str = "option.step") -> Callable[[F], F]:
    """--step N, counted from 1; see `step_index`."""
    return click.option("--step", type=Number(True, "view_step_number"), metavar="N", help=say(key))


def check_step(step: int | None, steps: int) -> int | None:
    """The step as it is counted from 1, if there is one with that number. Raises UsageError."""
    if step is not None and not 1 <= step <= steps:
        raise UsageError("view_step" if steps else "view_no_steps", got=step, last=steps)
    return step


def options_typed(without: Collection[str]) -> list[str]:
    """The options that stand on the command line, but for those whose parameters have these names."""
    context = click.get_current_context()
    others = (p for p in context.command.params if p.name is not None and p.name not in without)
    return [p.opts[-1] for p in others if context.get_parameter_source(str(p.name)) is ParameterSource.COMMANDLINE]
