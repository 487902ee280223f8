"""The facts of a model's configuration that the rest of manako needs, whatever the family; names as in nanoGPT."""

from typing import Any, ClassVar, Protocol

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


def check_number(name: str, value: object, low: float, high: float, whole: bool = False) -> None:
    """Raise LoadError unless a value of config.json is a number in these bounds, both included."""
    if type(value) is not int and (whole or type(value) is not float) or not low <= value <= high:  # pyright: ignore[reportOperatorIssue]
        raise LoadError("config_range", name=name, value=value, low=low, high=high)
