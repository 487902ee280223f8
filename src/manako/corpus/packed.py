"""A packed corpus, opened: token ids in memory-mapped shards, in a folder that says exactly what it holds.

    corpus.json           schema, settings, statistics, the shards and their SHA-256, and a digest over all of that
    tokenizer.json        the vocabulary that the ids belong to
    documents.jsonl       one line a document: name, side, group of near-duplicates, characters, tokens ...
    train-00000.ids       ids, at most SHARD_TOKENS of them; validation-00000.ids the same for the held-out side

Special here: a shard is a safetensors file with the one tensor `ids`, so any reader of that format opens it. Sizes are
compared before anything is mapped. A memory map grows with every page it has touched, so each call opens its own.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from manako.checks import Rule, check
from manako.errors import LoadError
from manako.files import exists, is_dir, is_file, read_regular, strict_json

Ids = npt.NDArray[np.uint16 | np.uint32]
Side = Literal["train", "validation"]
SIDES: tuple[Side, Side] = ("train", "validation")
SCHEMA = "manako.corpus/1"
HEADER, TOKENIZER, DOCUMENTS = "corpus.json", "tokenizer.json", "documents.jsonl"
SHARD_TOKENS = 32 * 2**20
MAX_VOCABULARY = 2**32
_MAX_HEADER_BYTES = 64 * 2**20
_MAX_TOKENIZER_BYTES = 256 * 2**20
_DTYPES = {"uint16": "U16", "uint32": "U32"}  # NumPy's name -> that of safetensors
_COUNT: Rule = {"type": "integer", "minimum": 0}
_TEXT: Rule = {"type": "string"}
_SETTING: Rule = {"type": ["string", "number", "boolean", "array", "null"], "items": _TEXT}
_SHARD: Rule = {
    "type": "object",
    "properties": {"tokens": _COUNT | {"minimum": 1, "maximum": SHARD_TOKENS}, "sha256": _TEXT},
}
_RULES: Mapping[str, Rule] = {  # of corpus.json; what it says of the statistics is checked apart
    "settings": {"type": "object", "additionalProperties": _SETTING},
    "sources": {"type": "array", "items": _TEXT},
    "statistics": {"type": "object"},
    "vocab_size": {"type": "integer", "minimum": 1, "maximum": MAX_VOCABULARY},
    "start_id": _COUNT,
    "tokenizer_sha256": _TEXT,
    "documents_sha256": _TEXT,
    "dtype": _TEXT,
    "shards": {
        "type": "object",
        "properties": dict.fromkeys(SIDES, {"type": "array", "minItems": 1, "items": _SHARD}),
    },
}


@dataclass(frozen=True)
class Shard:
    """One file of ids."""

    path: Path
    tokens: int
    sha256: str
    """Of the raw ids, little-endian, without the header of the file."""
    dtype: np.dtype[Any]

    @property
    def head(self) -> bytes:
        """The bytes before the first id: the length of the safetensors header, and that header."""
        return shard_head(self.tokens, self.dtype, self.sha256)

    def open(self) -> Ids:
        """The ids, memory-mapped, read-only [tokens]. Raises LoadError when the file is not as long as it should be."""
        try:
            return np.memmap(self.path, self.dtype, "r", offset=len(self.head), shape=(self.tokens,))
        except (OSError, ValueError) as error:  # ValueError: shorter than that
            raise LoadError("corpus_shard_damaged", file=self.path, reason=error) from None

    def check_size(self) -> None:
        """Raises LoadError when the file is missing or has another size than its tokens need."""
        need = len(self.head) + self.tokens * self.dtype.itemsize
        try:
            if not is_file(self.path):
                raise LoadError("file_missing", file=self.path)
            if (size := self.path.stat().st_size) != need:
                raise LoadError("corpus_shard_damaged", file=self.path, reason=f"{size} bytes, should be {need}")
        except OSError as error:
            raise LoadError("file_unreadable", file=self.path, reason=error.strerror or error) from None

    def verify(self, vocab_size: int) -> None:
        """Read the whole file. Raises LoadError for a header, an id or a digest that is not what it should be."""
        self.check_size()
        with self.path.open("rb") as stream:
            same_head = stream.read(len(self.head)) == self.head
        ids = self.open()
        if not same_head or hashlib.sha256(ids.view(np.uint8).data).hexdigest() != self.sha256:
            raise LoadError("corpus_shard_damaged", file=self.path, reason="SHA-256")
        if int(ids.max()) >= vocab_size:
            raise LoadError("corpus_contradicts", file=self.path, reason=f"id {ids.max()} of {vocab_size}")


class Shards:
    """One side of a corpus: the ids of all its shards, one after another.

    Every document stands behind a document-start token, and one more of them ends the side.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self._ends = np.cumsum([s.tokens for s in shards], dtype=np.int64)  # [shards] where each one ends

    def __len__(self) -> int:
        return int(self._ends[-1])

    def windows(self, starts: npt.ArrayLike, length: int) -> npt.NDArray[np.int64]:
        """Copies of the windows of `length` ids that begin at `starts` [B], counted over all shards.

        Returns int64 [B, length]; a window may cross from one shard into the next. Raises IndexError for one that does
        not lie inside the side, LoadError for a shard that has been cut short since it was opened.
        """
        places = np.asarray(starts, dtype=np.int64)[:, None] + np.arange(length)  # [B, length]
        if places.size and (places.min() < 0 or places.max() >= len(self)):
            raise IndexError(f"windows from {places.min()} to {places.max()} of {len(self)} ids")
        which = np.searchsorted(self._ends, places, side="right")  # [B, length] the shard of each id
        ids = np.empty(places.shape, dtype=np.int64)
        for n in np.unique(which):
            shard, here = self.shards[n], which == n
            ids[here] = shard.open()[places[here] - (self._ends[n] - shard.tokens)]
        return ids

    def documents(self, start_id: int) -> Iterator[Ids]:
        """The ids of each document in turn, without the document-start token."""
        begun: list[Ids] = []  # what earlier shards hold of the document that goes on in this one
        opened = False  # nothing stands before the first start
        for shard in self.shards:
            ids = shard.open()
            place = 0
            for start in np.flatnonzero(ids == start_id):
                if opened:
                    yield np.concatenate([*begun, ids[place:start]])
                begun, opened, place = [], True, int(start) + 1
            begun.append(np.array(ids[place:]))


@dataclass(frozen=True)
class CorpusHeader:
    """What corpus.json says, checked for being whole and consistent with itself."""

    digest: str
    """SHA-256 over everything else in the file, the digests of all shards included: it names this corpus exactly."""
    settings: Mapping[str, Any]
    """How it was made: filters, share of the validation side, kind of vocabulary."""
    sources: Sequence[str]
    """What it was made from, as it was called."""
    statistics: Mapping[str, Any]
    """Counts: documents, characters, bytes and tokens of each side, groups, encodings, the most frequent characters."""
    vocab_size: int
    start_id: int
    """The document-start token."""
    tokenizer_sha256: str
    documents_sha256: str
    dtype: np.dtype[Any]
    shards: Mapping[Side, Sequence[tuple[int, str]]]
    """(tokens, SHA-256) of each shard of a side, in order."""

    def to_json(self) -> dict[str, Any]:
        """The content of corpus.json, the digest aside."""
        return {
            "schema": SCHEMA,
            "settings": dict(self.settings),
            "sources": list(self.sources),
            "statistics": dict(self.statistics),
            "vocab_size": self.vocab_size,
            "start_id": self.start_id,
            "tokenizer_sha256": self.tokenizer_sha256,
            "documents_sha256": self.documents_sha256,
            "dtype": self.dtype.name,
            "shards": {side: [{"tokens": n, "sha256": d} for n, d in self.shards[side]] for side in SIDES},
        }


class PackedCorpus:
    """A packed corpus, opened: `train` and `validation` ids, and the vocabulary they belong to."""

    def __init__(self, folder: Path, header: CorpusHeader, tokenizer_source: str) -> None:
        self.folder = folder
        self.header = header
        self.tokenizer_source = tokenizer_source
        """The text of tokenizer.json."""
        self.train, self.validation = (Shards(self._shards(side)) for side in SIDES)

    vocab_size = property(lambda self: self.header.vocab_size)
    start_id = property(lambda self: self.header.start_id)
    digest = property(lambda self: self.header.digest)

    def __repr__(self) -> str:
        return f"<PackedCorpus {self.folder.name} {len(self.train)} + {len(self.validation)} tokens>"

    def verify(self) -> None:
        """Read every shard and compare its SHA-256, and that every id is in the vocabulary.

        Raises LoadError naming the file that is damaged.
        """
        for side in (self.train, self.validation):
            for shard in side.shards:
                shard.verify(self.vocab_size)
        listing = read_regular(self.folder / DOCUMENTS)
        if hashlib.sha256(listing).hexdigest() != self.header.documents_sha256:
            raise LoadError("corpus_contradicts", file=self.folder / DOCUMENTS, reason="SHA-256")

    def documents(self) -> Iterator[dict[str, Any]]:
        """The lines of documents.jsonl. Raises LoadError for one that is not JSON."""
        path = self.folder / DOCUMENTS
        for number, line in enumerate(read_regular(path).splitlines(), 1):
            yield strict_json(line, f"{path}:{number}")

    def _shards(self, side: Side) -> list[Shard]:
        return [
            Shard(self.folder / shard_name(side, n), tokens, digest, self.header.dtype)
            for n, (tokens, digest) in enumerate(self.header.shards[side])
        ]


def is_packed(folder: Path) -> bool:
    """Whether a folder looks like a packed corpus: it has a corpus.json. Whether that is sound, open_packed tells."""
    try:
        return is_file(folder / HEADER)
    except LoadError:
        return False


def open_packed(folder: str | Path) -> PackedCorpus:
    """Open a packed corpus; no id is read, but the size of every file is compared.

    Raises LoadError for anything missing, damaged or contradictory, naming the file. PackedCorpus.verify reads all.
    """
    folder = Path(folder)
    if not is_dir(folder):
        raise LoadError("folder_missing" if not exists(folder) else "not_a_folder", file=folder)
    path = folder / HEADER
    raw = strict_json(read_regular(path, _MAX_HEADER_BYTES), str(path))
    try:
        header = _header(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LoadError("corpus_header", file=path, reason=error) from None
    source = read_regular(folder / TOKENIZER, _MAX_TOKENIZER_BYTES)
    if hashlib.sha256(source).hexdigest() != header.tokenizer_sha256:
        raise LoadError("corpus_contradicts", file=folder / TOKENIZER, reason="SHA-256")
    if not is_file(folder / DOCUMENTS):
        raise LoadError("file_missing", file=folder / DOCUMENTS)
    try:
        corpus = PackedCorpus(folder, header, source.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise LoadError("tokenizer_unreadable", file=folder / TOKENIZER, reason=error) from None
    for side in (corpus.train, corpus.validation):
        for shard in side.shards:
            shard.check_size()
    return corpus


def open_whole(folder: str | Path) -> PackedCorpus:
    """The same, with every byte checked. Raises LoadError."""
    corpus = open_packed(folder)
    corpus.verify()
    return corpus


def header_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content of a JSON header without its "digest", in one canonical spelling."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def shard_name(side: Side, number: int) -> str:
    """The file name of a shard."""
    return f"{side}-{number:05d}.ids"


def shard_head(tokens: int, dtype: np.dtype[Any], sha256: str) -> bytes:
    """What stands before the ids: a safetensors header for the one tensor `ids` [tokens]."""
    tensor = {"dtype": _DTYPES[dtype.name], "shape": [tokens], "data_offsets": [0, tokens * dtype.itemsize]}
    text = json.dumps({"__metadata__": {"sha256": sha256}, "ids": tensor}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the ids are aligned
    return len(text).to_bytes(8, "little") + text


def dtype_for(vocab_size: int) -> np.dtype[Any]:
    """The narrowest type for the ids of a vocabulary: uint16 up to 65,536 of them."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def _header(raw: Mapping[str, Any]) -> CorpusHeader:
    """corpus.json as a record. Raises ValueError, KeyError or TypeError for what does not fit together."""
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"schema {raw.get('schema')!r}, this version reads {SCHEMA!r}")
    content = {name: value for name, value in raw.items() if name != "digest"}
    if header_digest(content) != raw["digest"]:
        raise ValueError("its own SHA-256 does not fit")
    for name, rule in _RULES.items():
        check(raw[name], rule, name)
    _check_statistics(raw["statistics"])
    size = raw["vocab_size"]
    if raw["start_id"] >= size or raw["dtype"] != dtype_for(size).name:
        raise ValueError("start_id or dtype")
    shards = {side: [(s["tokens"], s["sha256"]) for s in raw["shards"][side]] for side in SIDES}
    plain = {name: raw[name] for name in raw.keys() & CorpusHeader.__dataclass_fields__.keys()}
    return CorpusHeader(**plain | {"dtype": dtype_for(size), "shards": shards})


def _check_statistics(raw: Mapping[str, Any]) -> None:
    for name in (*SIDES, "encodings", "formats"):
        check(raw[name], {"type": "object", "additionalProperties": _COUNT}, name)
    for name, count in dict(raw["top_characters"]).items():
        check(count, _COUNT, f"top_characters {name}")
    for side in SIDES:
        if missing := {"documents", "characters", "bytes", "tokens"} - raw[side].keys():
            raise KeyError(*missing)
    for name in ("works", "near_duplicates", "different_characters"):
        check(raw[name], _COUNT, name)
