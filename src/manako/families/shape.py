"""The facts of a model's configuration that the rest of manako needs, whatever the family; names as in nanoGPT."""

from typing import Any, ClassVar, Protocol

from manako.checks import Rule, fits
from manako.errors import LoadError

Notices = list[tuple[str, dict[str, object]]]
"""(catalog key, values) of what a user should know."""


class Shape(Protocol):
    """What every model has, also one that another program runs: a dataclass with these fields or properties."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def model_type(self) -> str: ...  # as config.json names it
    @property
    def n_layer(self) -> int: ...
    @property
    def n_head(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def block_size(self) -> int: ...  # the longest context
    @property
    def vocab_size(self) -> int: ...  # numbers in a row of logits
    @property
    def start_id(self) -> int | None: ...  # the token that starts an empty text, if there is one
    @property
    def end_ids(self) -> tuple[int, ...]: ...  # every token that ends a document
    @property
    def switches(self) -> tuple[str, ...]: ...  # of its training, where they differ from a plain model: words for views


class FileShape(Shape, Protocol):
    """The configuration of a model that lies in a file, and runs in NumPy."""

    @property
    def tie_word_embeddings(self) -> bool: ...  # whether the output matrix is the token embedding
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Every tensor by its name in the file, the family's prefix left out, with its shape."""
        ...


FLAG: Rule = {"type": "boolean"}


def whole(least: int, most: int) -> Rule:
    return {"type": "integer", "minimum": least, "maximum": most}


def between(least: float, most: float) -> Rule:
    return {"type": "number", "minimum": least, "maximum": most}


def check_value(name: str, value: object, rule: Rule) -> None:
    """Raise LoadError unless a value of config.json, by its name there, fits; a config from elsewhere is hostile."""
    if fits(value, rule):
        return
    low, high = (rule.get(word, rule.get(f"exclusive{word.capitalize()}")) for word in ("minimum", "maximum"))
    key = "config_unsupported" if low is None else "config_range"
    raise LoadError(key, name=name, value=value, low=low, high=high)


def check_ids(config: Shape) -> None:
    """Raise LoadError for a start or end token that is not in the vocabulary."""
    known = whole(0, config.vocab_size - 1)
    if config.start_id is not None:
        check_value("bos_token_id", config.start_id, known)
    for end_id in config.end_ids:
        check_value("eos_token_id", end_id, known)
