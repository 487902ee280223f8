"""Which token starts a text and which ones end a document, as the files of a model folder say it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manako.errors import LoadError
from manako.tokenizer import Tokenizer


def token_in_front(folder: Path, bos: Any, wrapper: Mapping[str, Any], tokenizer: Tokenizer) -> int | None:
    """The token that the folder's tokenizer puts in front of every text: what the model saw in training.

    A start token in config.json alone means nothing: Qwen2 has one, and no text ever begins with it.
    """
    add = wrapper.get("add_bos_token")
    if add is not None and type(add) is not bool:
        raise LoadError(
            "tokenizer_unreadable", file=folder / "tokenizer_config.json", reason="add_bos_token is no switch"
        )
    if add is False or (add and bos is not None):
        return bos if add else None
    try:
        processor = json.loads(tokenizer.source).get("post_processor") or {}
        for part in processor.get("processors", [processor]):
            front: list[int] = []
            for piece in part.get("single", []):
                if "Sequence" in piece:
                    break
                front += part["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
            if len(front) == 1:
                return front[0]
            if front:
                raise ValueError("it puts several tokens in front of a text")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LoadError("tokenizer_unreadable", file=folder / "tokenizer.json", reason=error) from None
    return None


def known_ids(value: object, tokenizer: Tokenizer) -> list[int]:
    """The token ids of a setting that may be a number or a list; those outside the vocabulary mean nothing."""
    values = value if isinstance(value, list) else [value]
    return [i for i in values if type(i) is int and 0 <= i < tokenizer.vocab_size]
