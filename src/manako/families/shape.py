"""The facts of a model's configuration that the rest of manako needs, whatever the family; names as in nanoGPT."""

from dataclasses import dataclass
from typing import Protocol

from manako.errors import LoadError

Notices = list[tuple[str, dict[str, object]]]
"""(catalog key, values) of what a user should know."""


@dataclass(frozen=True)
class Shape(Protocol):
    """What every model has, also one that another program runs."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    """The longest context."""
    vocab_size: int
    """Numbers in a row of logits."""
    start_id: int | None
    """The token that starts a text, if there is one."""

    @property
    def start_in_front(self) -> bool:
        """Whether every text begins with it."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every token that ends a document."""

    @property
    def model_type(self) -> str:
        """As config.json names it."""

    @property
    def switches(self) -> tuple[str, ...]:
        """The ablation switches of its training that differ from a plain model, as words for every view."""


@dataclass(frozen=True)
class FileShape(Shape, Protocol):
    """The configuration of a model that lies in a file, and runs in NumPy."""

    tie_word_embeddings: bool
    """Whether the output matrix is the token embedding."""

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Every tensor by its name in the file, the family's prefix left out, with its shape."""


def check_number(name: str, value: object, low: float, high: float, whole: bool = False) -> None:
    """Raise LoadError unless a value of config.json is a number in these bounds, both included."""
    if type(value) is not int and (whole or type(value) is not float) or not low <= value <= high:  # pyright: ignore[reportOperatorIssue]
        raise LoadError("config_range", name=name, value=value, low=low, high=high)
