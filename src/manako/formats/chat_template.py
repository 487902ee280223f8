"""A model's chat template, filled with what was said: the text that the model was trained to see around a question.

Special here: a template is a program that came with a model, in Jinja. It runs as `transformers` runs it, in Jinja's
sandbox, and besides in a process of its own, which keeps itself to little time and memory, and gives no more than a
megabyte of output.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from manako.encoder import answering, limit_memory
from manako.errors import LoadError, MissingExtraError, first_line

SECONDS = 10.0  # a published template takes milliseconds; the rest is for a busy machine to start the process
MAX_OUTPUT = 1 << 20  # bytes
LEAST_JINJA = (3, 1, 6)  # transformers asks for it too: templates are known to leave the sandbox of older ones
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def filled(template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str]) -> str:
    """The prompt that asks for the next turn of the assistant.

    messages: role and content of each turn. tokens: the names of special tokens by TOKENS, as far as there are any.
    Raises MissingExtraError without jinja2, LoadError with what the template said, or that its time or room was over.
    """
    if _jinja() < LEAST_JINJA:
        raise MissingExtraError("missing_jinja", least=".".join(map(str, LEAST_JINJA)))
    program = "import sys; sys.path[:] = sys.argv[1:]; from manako.formats.chat_template import serve; serve()"
    said_by, named = list(messages), dict(tokens)
    given = json.dumps({"template": template, "messages": said_by, "tokens": named, "seconds": SECONDS})
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *sys.path], input=given.encode(), capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise LoadError("chat_template", reason=f"more than {round(SECONDS)} seconds") from None
    try:
        said: dict[str, str] = json.loads(done.stdout)
    except ValueError:  # it ended before it had an answer
        raise LoadError("chat_template", reason="it took too much memory") from None
    if "failed" in said:
        raise LoadError("chat_template", reason=said["failed"])
    return said["text"]


def _jinja() -> tuple[int, ...]:
    """The version that is installed, () where there is none."""
    from importlib.metadata import PackageNotFoundError, version  # not for all who never fill one: see provenance.py

    try:
        return tuple(map(int, re.findall(r"\d+", version("jinja2"))[:3]))
    except PackageNotFoundError:
        return ()


def serve() -> None:
    """What the process does: the question from standard input, the answer to standard output, both JSON."""
    limit_memory()
    given = json.loads(sys.stdin.buffer.read())
    with answering(given["seconds"]):
        try:
            text = _rendered(given["template"], given["messages"], given["tokens"])
            if len(text) > MAX_OUTPUT:
                raise ValueError(f"more than {MAX_OUTPUT} characters")
            text.encode("utf-8")
            answer = {"text": text}
        except Exception as error:  # whatever a program of somebody else does
            answer = {"failed": first_line(error)}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def _rendered(template: str, messages: list[Any], tokens: dict[str, str]) -> str:
    """As `transformers` does: see `render_jinja_template` in its chat_template_utils.py."""
    program = _house().from_string(template)
    made = program.generate(messages=messages, tools=None, documents=None, add_generation_prompt=True, **tokens)
    parts, size = list[str](), 0
    for part in made:
        parts.append(part)
        size += len(part)
        if size > MAX_OUTPUT:
            break
    return "".join(parts)


def _house() -> Any:
    """Jinja's sandbox with what `transformers` puts into it, and takes out of it."""
    from datetime import datetime

    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks for a training what the assistant says; its text is what stands inside."""

        tags = {"generation"}

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("inside"), [], [], body).set_lineno(line)

        def inside(self, caller: Callable[[], str]) -> str:
            return caller()

    class Dict:
        """What makes a dict, without the attributes that the type has."""

        def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
            return dict(*args, **kwargs)

        def fromkeys(self, *args: Any) -> dict[Any, Any]:
            return dict.fromkeys(*args)

    def check(names: Iterable[object]) -> None:
        if wrong := [name for name in names if isinstance(name, str) and name.startswith("_")]:
            raise jinja2.exceptions.SecurityError(f"a namespace takes no name like {wrong[0]!r}")

    class Names(jinja2.utils.Namespace):
        """A namespace without Python's own names."""

        def __init__(*args: Any, **kwargs: Any) -> None:  # as Jinja has it: a template may name one of them `self`
            named = dict(*args[1:], **kwargs)
            check(named)
            jinja2.utils.Namespace.__init__(args[0], named)

        def __setitem__(self, name: str, value: Any) -> None:
            check([name])
            jinja2.utils.Namespace.__setitem__(self, name, value)

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    house = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    house.filters["tojson"] = tojson
    house.globals["raise_exception"] = raise_exception
    house.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    house.globals["dict"] = Dict()
    house.globals["namespace"] = Names
    return house
