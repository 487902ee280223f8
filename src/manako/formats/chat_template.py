"""A model's chat template, filled with what was said: the text that the model was trained to see around a question.

Special here: a template is a program that came with a model, in Jinja. It runs as `transformers` runs it, in Jinja's
sandbox, and besides in a process of its own, with little time and memory and no more than a megabyte of output.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

from manako.encoder import limit_memory
from manako.errors import LoadError, MissingExtraError, first_line

SECONDS = 10.0  # a published template takes milliseconds; the rest is for a busy machine to start the process
MAX_OUTPUT = 1 << 20  # bytes
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def filled(template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str]) -> str:
    """The prompt that asks for the next turn of the assistant.

    messages: role and content of each turn. tokens: the names of special tokens by TOKENS, as far as there are any.
    Raises MissingExtraError without jinja2, LoadError with what the template said, or that its time or room was over.
    """
    if find_spec("jinja2") is None:
        raise MissingExtraError("missing_jinja")
    program = "import sys; sys.path[:] = sys.argv[1:]; from manako.formats.chat_template import serve; serve()"
    given = json.dumps({"template": template, "messages": list(messages), "tokens": dict(tokens)})
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


def serve() -> None:
    """What the process does: the question from standard input, the answer to standard output, both JSON."""
    limit_memory()
    given = json.loads(sys.stdin.buffer.read())
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
    from datetime import datetime

    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    house = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    house.filters["tojson"] = tojson
    house.globals["raise_exception"] = raise_exception
    house.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    made = house.from_string(template).generate(
        messages=messages, tools=None, documents=None, add_generation_prompt=True, **tokens
    )
    parts, size = list[str](), 0
    for part in made:
        parts.append(part)
        size += len(part)
        if size > MAX_OUTPUT:
            break
    return "".join(parts)
