"""What a model is and what can be seen of it, one fact a line; its chat template as text, never run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from manako.messages.numbers import count
from manako.trace.record import ModelInfo
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look


def info_lines(
    info: ModelInfo,
    parameters: int,
    tokens: Mapping[str, Sequence[bytes]],
    captures: Mapping[str, str | None],
    chat_template: str | None,
    look: Look,
) -> Iterator[Text]:
    """The facts, one a line.

    tokens: what starts and ends a text. captures: name -> catalog key of the reason where it cannot be given.
    """
    c = info.config
    shape: dict[str, Any] = {n: c.get(n) for n in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")}
    facts = {
        "info.model": f"{info.ref} ({info.model_type})",
        "info.shape": look.say("info.shape_value", **shape),
        "info.trained_on": info.trained_on(look.lang),
        "info.parameters": count(parameters),
        "info.switches": ", ".join(info.switches) or None,
        "info.engine": f"{info.engine}, {info.device}, {info.dtype} ({info.stored_dtype})",
        "info.weights": info.weights_sha256,
        "info.tokenizer": info.tokenizer_sha256,
    }
    for name, found in tokens.items():
        facts[f"info.{name}"] = " ".join(g.visible_bytes(token, look.glyphs) for token in found) or look.say(
            "info.none"
        )
    facts["info.captures"] = ", ".join(name for name, reason in captures.items() if reason is None)
    width = max(cell_len(look.say(key)) for key in facts) + 2
    for key, value in facts.items():
        if value is not None:
            yield Text(g.pad(look.say(key), width) + g.prose(value, look.glyphs))
    for name, reason in captures.items():
        if reason is not None:
            yield Text(look.say("info.lacks", name=name, reason=look.say(reason)), style="yellow")
    if chat_template is not None:
        yield Text("")
        yield Text(look.say("info.template"), style="bold")
        yield from (Text(line) for line in g.prose(chat_template, look.glyphs, one_line=False).split("\n"))
