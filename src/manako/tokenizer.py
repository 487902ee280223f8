"""Text to token ids and back, over a Hugging Face `tokenizer.json`, with the exact bytes of every token.

Special here: bytes come from one table id -> bytes built once, never from `decode([id])`, which drops spaces for some
tokenizers and turns part of a character into U+FFFD. A literal "<|endoftext|>" in a text is text: special tokens are
only ever put in by id. Nothing is mapped silently to another token: a text that would lose a character is refused. A
foreign vocabulary's own `<unk>` is the one exception, where it is a special token, which every view marks.

The file is hostile data: ids are compared with those that the Rust library uses, dropout is turned off, and a regular
expression is accepted only from a short list, since a bad one can take forever.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from manako.errors import LoadError, UsageError
from manako.files import read_regular, strict_json

DOCUMENT_START = "<|endoftext|>"  # GPT-2's name: one token both ends a document and starts the next
MAX_FILE_BYTES = 256 * 2**20
MAX_TOKEN_BYTES = 1024  # of one vocabulary entry; a longer one has no honest use and fills a screen
KNOWN_PATTERNS = (  # regular expressions that are known to run in linear time, as published with their models
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",  # GPT-4, Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",  # Qwen 2
    r" {2,}",  # SentencePiece, as transformers converts it
)
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


class Tokenizer:
    """A fixed vocabulary: `encode`, `decode`, and the bytes of each token.

    source: the text of a `tokenizer.json`. name: the file it came from, for messages.
    Raises LoadError when the text is not a tokenizer that this version understands.
    """

    def __init__(self, source: str, name: str = "tokenizer.json") -> None:
        self.source = source
        self._name = name
        try:
            spec = strict_json(source, name)
            self._token_bytes, self.special_ids, ids = _read_vocabulary(spec)
            _refuse_patterns(spec)
            self._rust = tokenizers.Tokenizer.from_str(source)
            if self._rust.get_vocab(with_added_tokens=True) != ids:
                raise ValueError("an added token has another id than the file says")
            if spec["model"].get("dropout"):  # a setting for training: the same text must give the same ids
                self._rust.model.dropout = None
            unknown = spec["model"].get("unk_token")
            self.unknown_id: int | None = spec["model"].get("unk_id") if unknown is None else ids.get(unknown)
            """The id of a foreign vocabulary's `<unk>`, None where nothing is ever mapped to one."""
        except LoadError:
            raise
        except BaseException as error:  # the Rust library panics with a BaseException on some malformed files
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise LoadError("tokenizer_unreadable", file=name, reason=error) from None
        self._rust.encode_special_tokens = True
        self._rust.no_truncation()
        self._rust.no_padding()

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Read a `tokenizer.json`. Raises LoadError naming the file."""
        try:
            return cls(read_regular(path, MAX_FILE_BYTES).decode("utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise LoadError("tokenizer_unreadable", file=path, reason=error) from None

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self._token_bytes)

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The table id -> bytes. A special token's bytes are its name; `special_ids` tells it from the same text."""
        return self._token_bytes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the `tokenizer.json` text, hexadecimal."""
        return hashlib.sha256(self.source.encode("utf-8")).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, no special tokens added.

        Raises UsageError when the text is not valid Unicode, or has characters that this vocabulary cannot express;
        it names each with its code point and position, counted from 1.
        """
        try:
            given = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError("prompt_surrogate", index=error.start, code=f"U+{ord(text[error.start]):04X}") from None
        try:
            ids = self._encode(text)
            exact = self.decode(ids) == given
        except LoadError:  # some tokenizers fail at a character that they don't know
            self._refuse_unknown(text)
            raise
        if not exact:
            self._refuse_unknown(text)
        return ids

    def encode_documents(self, documents: Sequence[str]) -> list[list[int]]:
        """`encode` for many trusted texts at once, on all cores and without the check for lost characters."""
        return [e.ids for e in self._rust.encode_batch_fast(list(documents), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids, joined; they may end inside a character."""
        return b"".join(self._token_bytes[i] for i in ids)

    def _encode(self, text: str) -> list[int]:
        try:
            return self._rust.encode(text, add_special_tokens=False).ids
        except BaseException as error:  # a panic of the Rust library is no Exception
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise LoadError("tokenizer_unreadable", file=self._name, reason=error) from None

    def _refuse_unknown(self, text: str) -> None:
        lost = {ch for ch in set(text) if self._loses(ch)}
        unknown = [(i, ch) for i, ch in enumerate(text, 1) if ch in lost]
        if unknown:
            named = ", ".join(f"{ch} U+{ord(ch):04X} at {i}" for i, ch in unknown[:5])
            more = f" (+{len(unknown) - 5})" if len(unknown) > 5 else ""
            raise UsageError("prompt_unknown_characters", characters=named + more)

    def _loses(self, ch: str) -> bool:
        """Whether one character does not come through: no ids, other bytes, or an `<unk>` that no view would mark."""
        try:
            ids = self._encode(ch)
        except LoadError:
            return True
        if self.unknown_id in ids:
            return self.unknown_id not in self.special_ids
        # A normaliser (NFC, lower case) changes the bytes and loses no character.
        return not ids or (self._rust.normalizer is None and ch.encode("utf-8") not in self.decode(ids))


def train_characters(documents: Iterable[str], min_count: int) -> Tokenizer:
    """A character vocabulary: every character that occurs at least `min_count` times, and the 256 bytes.

    Ids: 0 the document start, 1-256 the bytes, then characters by code point. A rarer or unseen character becomes its
    UTF-8 bytes. The file is a `tokenizers` BPE model with byte fallback and no merges, which `AutoTokenizer` opens.

    >>> t = train_characters(["ああい"], min_count=2)
    >>> [t.token_bytes[i] for i in t.encode("あい")] == ["あ".encode(), b"\\xe3", b"\\x81", b"\\x84"]
    True
    """
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(document)
    tokens = [DOCUMENT_START, *(f"<0x{b:02X}>" for b in range(256))]
    tokens += sorted(ch for ch, n in counts.items() if n >= min_count)
    return Tokenizer(_bpe_json({t: i for i, t in enumerate(tokens)}, special=[DOCUMENT_START], byte_fallback=True))


def from_characters(characters: Sequence[str]) -> Tokenizer:
    """A vocabulary of just these characters, id = position, as old checkpoints have it: no bytes, no special tokens."""
    return Tokenizer(_bpe_json({ch: i for i, ch in enumerate(characters)}, special=[], byte_fallback=False))


def from_merges(vocab: Sequence[bytes], merges: Sequence[tuple[int, int]]) -> Tokenizer:
    """A byte-level BPE vocabulary: ids 0-255 are bytes, then one id a merge, in the order they were learned."""
    spell = {byte: ch for ch, byte in _byte_characters().items()}
    names = ["".join(spell[b] for b in token) for token in vocab]
    spec = json.loads(_bpe_json({n: i for i, n in enumerate(names)}, special=[], byte_fallback=False))
    spec["model"]["merges"] = [[names[a], names[b]] for a, b in merges]
    # use_regex off: such a vocabulary was trained on whole texts, with no split into words first.
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    spec["pre_tokenizer"] = spec["decoder"] = level
    return Tokenizer(json.dumps(spec, ensure_ascii=False))


def _bpe_json(vocab: dict[str, int], special: Sequence[str], byte_fallback: bool) -> str:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[s], "content": s, **flags} for s in special],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": byte_fallback,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [],
        },
    }
    return json.dumps(spec, ensure_ascii=False)


def _byte_characters() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, as character -> byte. Source: `bytes_to_unicode` in openai/gpt-2."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in set(printable)]
    return table | {chr(256 + n): b for n, b in enumerate(others)}


def _read_vocabulary(spec: dict[str, Any]) -> tuple[list[bytes], frozenset[int], dict[str, int]]:
    """The table id -> bytes, the special ids and the table name -> id of a parsed `tokenizer.json`."""
    model = spec["model"]
    raw = model["vocab"]
    vocab: dict[str, int] = raw if isinstance(raw, dict) else {entry[0]: i for i, entry in enumerate(raw)}
    kinds = _component_types(spec.get("decoder")) | _component_types(spec.get("pre_tokenizer"))
    if "ByteLevel" in kinds | _component_types(spec.get("normalizer")):
        stand_in = _byte_characters()

        def spell(token: str) -> bytes:
            return bytes(stand_in[ch] for ch in token)
    else:
        fallback = bool(model.get("byte_fallback")) or "ByteFallback" in kinds
        metaspace = bool(kinds & {"Metaspace", "Replace"})

        def spell(token: str) -> bytes:
            if fallback and (match := _BYTE_TOKEN.fullmatch(token)):
                return bytes([int(match.group(1), 16)])
            return (token.replace("\u2581", " ") if metaspace else token).encode("utf-8")

    entries = spec.get("added_tokens") or []
    added: dict[str, int] = {entry["content"]: entry["id"] for entry in entries}
    # Added tokens are literal text, never byte-mapped.
    table = {i: spell(token) for token, i in vocab.items() if token not in added}
    table |= {i: token.encode("utf-8") for token, i in added.items()}
    ids = vocab | added
    if len(added) != len(entries) or len(table) != len(ids) or sorted(table) != list(range(len(table))):
        raise ValueError("the ids are not 0, 1, 2 ... without gap or repeat")
    if any(len(b) > MAX_TOKEN_BYTES for b in table.values()):
        raise ValueError(f"a vocabulary entry is longer than {MAX_TOKEN_BYTES} bytes")
    special = frozenset(entry["id"] for entry in entries if entry.get("special"))
    return [table[i] for i in range(len(table))], special, ids


def _component_types(component: dict[str, Any] | None) -> set[str]:
    if not component:
        return set()
    nested = component.get("decoders") or component.get("pretokenizers") or component.get("normalizers") or []
    return {component["type"]}.union(*(_component_types(c) for c in nested))


def _refuse_patterns(spec: dict[str, Any]) -> None:
    parts = [spec.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")]
    if unknown := [pattern for pattern in _patterns(parts) if pattern not in KNOWN_PATTERNS]:
        raise ValueError(f"its regular expression is not one that manako knows to be safe: {unknown[0]}")


def _patterns(part: Any) -> Iterator[str]:
    """Every regular expression inside a component, at any depth."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "Regex":
                yield value
            else:
                yield from _patterns(value)
    elif isinstance(part, list):
        for value in part:
            yield from _patterns(value)
