"""The tokens of a `tokenizer.json`: their ids, and the bytes that each of them is inside a text.

Special here: bytes are worked out from the file's decoder, one token at a time, since asking the library to decode one
id drops spaces and turns parts of characters into U+FFFD. Added tokens are spelled by the decoder as well, but for
byte-level vocabularies, where they are the text that they match.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from manako.sentencepiece.model_file import PIECES

MAX_TOKEN_BYTES = 1024  # of one vocabulary entry; a longer one has no honest use and fills a screen
MOST_GAPS = 4096  # ids without a token, as published vocabularies keep them free, before a table of nothing is built
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
_SPACE_DROPPING = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer"}  # they split at spaces, and keep none
_CLEANED = (  # what a WordPiece decoder does to each token. Source: `cleanup` in the library's `decoders/wordpiece.rs`
    *((f" {end}", end) for end in (".", "?", "!", ",")),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m")),
    (" do not", " don't"),
    *((f" {end}", end) for end in ("'s", "'ve", "'re")),
)


@dataclass(frozen=True)
class TokenTable:
    """What a `tokenizer.json` says of its tokens."""

    ids: dict[str, int]
    token_bytes: list[bytes]
    special_ids: frozenset[int]
    added_ids: frozenset[int]
    gaps: frozenset[int]


def read_tokens(spec: dict[str, Any]) -> TokenTable:
    """Raises ValueError, or what strange values lead to."""
    raw = spec["model"]["vocab"]
    vocab: dict[str, int] = raw if isinstance(raw, dict) else {entry[0]: i for i, entry in enumerate(raw)}
    entries = spec.get("added_tokens") or []
    added: dict[str, int] = {entry["content"]: entry["id"] for entry in entries}
    special = frozenset(entry["id"] for entry in entries if entry.get("special"))
    ids, spell = vocab | added, _spelling(spec)
    literal = is_byte_level(spec)  # its added tokens are the text that they match; every other decoder spells them too
    table = {i: spell(token) for token, i in ids.items() if i not in special and not (literal and token in added)}
    table |= {i: token.encode("utf-8") for token, i in added.items() if i not in table}
    size = max(table, default=-1) + 1
    if len(added) != len(entries) or len(table) != len(ids) or min(table, default=0) < 0:
        raise ValueError("an id occurs twice, or is negative")
    if any(type(i) is not int for i in table) or size - len(table) > MOST_GAPS:
        raise ValueError(f"the ids are not 0, 1, 2 ... with {MOST_GAPS} gaps at most")
    gaps = frozenset(range(size)) - table.keys() if size > len(table) else frozenset[int]()
    table |= {i: b"[%d]" % i for i in gaps}  # shown by its number, and like a special token no part of a text
    if any(len(b) > MAX_TOKEN_BYTES for b in table.values()):
        raise ValueError(f"a vocabulary entry is longer than {MAX_TOKEN_BYTES} bytes")
    return TokenTable(ids, [table[i] for i in range(size)], special | gaps, frozenset(added.values()), gaps)


def is_byte_level(spec: dict[str, Any]) -> bool:
    """Whether its tokens are spelled in GPT-2's stand-ins for bytes."""
    parts = (spec.get(name) for name in ("decoder", "pre_tokenizer", "normalizer"))
    return any("ByteLevel" in _component_types(part) for part in parts)


def _spelling(spec: dict[str, Any]) -> Callable[[str], bytes]:
    """What the file's decoder makes of one token in the middle of a text.

    What it does to the ends of a whole text (the space in front of the first word) is no token's own, and left out.
    """
    if is_byte_level(spec):
        stand_in = byte_characters()

        def as_bytes(token: str) -> bytes:
            known = [stand_in.get(ch, -1) for ch in token]
            return token.encode("utf-8") if -1 in known else bytes(known)  # as the library has it

        return as_bytes
    steps: list[Callable[[str], str]] = []
    parts = list(_components(spec.get("decoder"))) or [_missing_decoder(spec)]
    for part in parts:
        if part["type"] == "Fuse":
            break
        steps.append(_decoder_step(part))
    fallback = bool(spec["model"].get("byte_fallback")) or any(part["type"] == "ByteFallback" for part in parts)

    def spell(token: str) -> bytes:
        if fallback and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match.group(1), 16)])
        for step in steps:
            token = step(token)
        return token.encode("utf-8")

    return spell


def _decoder_step(part: dict[str, Any]) -> Callable[[str], str]:
    """What one component of a decoder does to a token that is not the first. Source: the library's `decoders/`."""
    match part:
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
            return lambda token: token.replace(old, new)
        case {"type": "Replace"}:
            raise ValueError("its decoder has a regular expression")
        case {"type": "Metaspace"}:
            mark = part.get("replacement", "\u2581")
            return lambda token: token.replace(mark, " ")
        case {"type": "WordPiece", "prefix": str(prefix)}:
            clean = _CLEANED if part.get("cleanup", True) else ()

            def word(token: str) -> str:
                inside = bool(prefix) and token.startswith(prefix)
                token = token.removeprefix(prefix) if inside else f" {token}"
                for spaced, plain in clean:
                    token = token.replace(spaced, plain)
                return token

            return word
        case {"type": "BPEDecoder", "suffix": str(suffix)}:
            return lambda token: token.replace(suffix, " ")
        case {"type": "Strip", "content": str(ch), "start": int(start), "stop": int(stop)}:

            def stripped(token: str) -> str:
                front = next((n for n, c in enumerate(token) if c != ch or n == start), len(token))
                back = next((n for n, c in enumerate(reversed(token)) if c != ch or n == stop), len(token))
                return token[front : max(front, len(token) - back)]

            return stripped
        case _:
            return lambda token: token


def without_prefix(spec: dict[str, Any]) -> dict[str, Any]:
    """The file without what it puts before a text, or takes away there: for one that stands behind another."""
    return {**spec, **{name: _behind(spec[name]) for name in ("normalizer", "pre_tokenizer") if spec.get(name)}}


def _behind(part: dict[str, Any]) -> dict[str, Any] | None:
    match part:
        case {"type": "Prepend"}:
            return None
        case {"type": "Metaspace"}:  # older files have the second key
            return {k: v for k, v in part.items() if k != "add_prefix_space"} | {"prepend_scheme": "never"}
        case {"type": "ByteLevel", "add_prefix_space": _}:
            return part | {"add_prefix_space": False}
        case {"type": "Strip", "strip_left": _}:
            return part | {"strip_left": False}
        case {"type": "Sequence"}:
            for key in part.keys() & {"normalizers", "pretokenizers"}:
                part = part | {key: [new for inner in part[key] if (new := _behind(inner))]}
            return part | ({PIECES: part[PIECES] | {"behind": True}} if PIECES in part else {})
        case _:
            return part


def drops_spaces(spec: dict[str, Any]) -> bool:
    """Whether it splits at spaces, and keeps none of them."""
    return bool(_SPACE_DROPPING & _component_types(spec.get("pre_tokenizer")))


def _missing_decoder(spec: dict[str, Any]) -> dict[str, Any]:
    """Without a decoder: words stand apart where the pre-tokenizer drops the spaces between them."""
    model = spec["model"]
    if "Metaspace" in _component_types(spec.get("pre_tokenizer")):
        return {"type": "Metaspace"}
    if suffix := model.get("end_of_word_suffix"):
        return {"type": "BPEDecoder", "suffix": suffix}
    if drops_spaces(spec):
        return {"type": "WordPiece", "prefix": model.get("continuing_subword_prefix") or "", "cleanup": False}
    return {"type": "Fuse"}


def _components(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A component, or in order those that it is a sequence of, at any depth."""
    if part:
        nested = part.get("decoders") or part.get("pretokenizers") or part.get("normalizers")
        yield from (part,) if nested is None else (inner for outer in nested for inner in _components(outer))


def _component_types(component: dict[str, Any] | None) -> set[str]:
    return {part["type"] for part in _components(component)}


def byte_characters() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, as character -> byte. Source: `bytes_to_unicode` in openai/gpt-2."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in set(printable)]
    return table | {chr(256 + n): b for n, b in enumerate(others)}
