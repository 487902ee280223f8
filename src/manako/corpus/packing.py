"""Documents to a packed corpus: grouped, split, encoded, written.

Special here: only one document, one batch of ids and one shard of each side are in memory at a time, and a record of
some hundred bytes for each document. The texts are spooled to a file inside the temporary folder, because the
vocabulary is made from the training side alone, and which documents that is can only be said when all have been seen.
The folder appears whole or not at all.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.corpus.documents import Document
from manako.corpus.near_duplicates import Sketches
from manako.corpus.packed import (
    DOCUMENTS,
    HEADER,
    SHARD_TOKENS,
    SIDES,
    TOKENIZER,
    CorpusHeader,
    PackedCorpus,
    Side,
    dtype_for,
    header_digest,
    open_packed,
    shard_head,
    shard_name,
)
from manako.errors import UsageError
from manako.files import new_folder, write_file
from manako.messages.numbers import count

VALIDATION_SHARE = 0.03
LEAST_END = 0.1  # share of the longest document that is held out when no whole document can be
BATCH_CHARACTERS = 2**20  # encoded at a time; the tokenizers library needs some 150 bytes for each token
PART_CHARACTERS = 2**18  # a longer document is encoded in parts that end with a line
TOP_CHARACTERS = 100
TOP_LOST = 5  # named of the characters that a vocabulary lacks
_END = " [end]"

Report = Callable[..., None]  # (catalog key, **values)


@dataclass(frozen=True)
class Vocabulary:
    """What a corpus needs of a tokenizer; a tokenizer itself belongs to another room."""

    source: str
    """The text of its tokenizer.json."""
    vocab_size: int
    start_id: int
    """The document-start token."""
    encode_documents: Callable[[list[str]], list[list[int]]]
    """Many texts to ids, no special tokens added."""
    unspelled: Callable[[list[str]], list[str]] = lambda characters: []
    """Those of some characters that are not in the ids of a text."""
    unknown_id: int | None = None
    """The token that stands for what is not in the vocabulary, if there is one."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one document on its way into a corpus; a line of documents.jsonl."""

    document: Document
    """Without its text, which is in the spool."""
    place: int
    """Where its text begins in the spool."""
    size: int
    """Bytes of its text in UTF-8."""
    characters: int
    group: int = 0
    side: Side = "train"
    tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        d = self.document
        known = {"title": d.title, "author": d.author}
        return {
            "name": d.name,
            **{name: value for name, value in known.items() if value is not None},
            "side": self.side,
            "group": self.group,
            "characters": self.characters,
            "bytes": self.size,
            "tokens": self.tokens,
            "encoding": d.encoding,
            "crlf": d.crlf,
            "format": d.format,
        }


def pack(
    documents: Iterable[Document],
    folder: Path,
    make_vocabulary: Callable[[Iterable[str]], Vocabulary],
    *,
    validation_share: float = VALIDATION_SHARE,
    settings: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (),
    report: Report = lambda key, **values: None,
) -> PackedCorpus:
    """Make a packed corpus in a new folder, whole or not at all, and open it.

    make_vocabulary(texts) is called once, with the texts of the training side, which may be gone through repeatedly.
    settings, sources: recorded as they are. report(key, **values) gets a catalog key for each line a person should see.
    Documents of one work stand on one side (see split_records). Raises UsageError when there are no documents or the
    share is out of range, ManakoError when the folder is there already or cannot be written.
    """
    if not 0 <= validation_share < 1:
        raise UsageError("validation_share", got=validation_share)
    with new_folder(folder) as temporary:
        with Spool(temporary / "texts.tmp") as spool:
            for document in documents:
                spool.add(document)
            records = split_records(spool, validation_share, report)
            report("corpus.vocabulary")
            vocabulary = make_vocabulary(SideTexts(spool, records, "train"))
            report("corpus.encoding_texts", size=vocabulary.vocab_size)
            losses = Losses(vocabulary, spool.character_counts())
            shards, records = _encode(temporary, spool, records, vocabulary, losses)
            losses.tell(report, records)
        spool.remove()
        said = {"validation_share": validation_share, **(settings or {})}
        write_heads(temporary, vocabulary, shards, records, spool.character_counts(), said, sources)
    return open_packed(folder)


def write_heads(
    folder: Path,
    vocabulary: Vocabulary,
    shards: Mapping[Side, Sequence[tuple[int, str]]],
    records: Sequence[Record],
    counts: npt.NDArray[np.int64],
    settings: Mapping[str, Any],
    sources: Sequence[str],
) -> None:
    """What a packed corpus holds beside its shards. counts: how often each character occurs [code points]."""
    listing = "".join(json.dumps(r.to_json(), ensure_ascii=False) + "\n" for r in records).encode("utf-8")
    source = vocabulary.source.encode("utf-8")
    content = CorpusHeader(
        digest="",
        settings=settings,
        sources=list(sources),
        statistics=_statistics(records, counts),
        vocab_size=vocabulary.vocab_size,
        start_id=vocabulary.start_id,
        tokenizer_sha256=hashlib.sha256(source).hexdigest(),
        documents_sha256=hashlib.sha256(listing).hexdigest(),
        dtype=dtype_for(vocabulary.vocab_size),
        shards=shards,
    ).to_json()
    write_file(folder / TOKENIZER, source)
    write_file(folder / DOCUMENTS, listing)
    whole = content | {"digest": header_digest(content)}
    write_file(folder / HEADER, (json.dumps(whole, ensure_ascii=False, indent=1) + "\n").encode("utf-8"))


class Spool:
    """The texts of all documents, in one file; of each, a record and a sketch are kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self.sketches = Sketches()
        self._counts = np.zeros(0x110000, dtype=np.int64)  # [code points]
        self._uncounted: list[npt.NDArray[np.uint32]] = []  # counting one short text by itself would be slow
        self._uncounted_size = 0

    def __enter__(self) -> "Spool":
        self._stream = self.path.open("x+b")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def add(self, document: Document) -> None:
        """Keep one more document."""
        data = document.text.encode("utf-8")
        codes = np.frombuffer(document.text.encode("utf-32-le"), dtype=np.uint32)  # [characters]
        self.records.append(Record(replace(document, text=""), self._stream.tell(), len(data), len(codes)))
        self._stream.write(data)
        self.sketches.add(codes)
        self._uncounted.append(codes)
        self._uncounted_size += len(codes)
        if self._uncounted_size > PART_CHARACTERS:
            self.character_counts()

    def character_counts(self) -> npt.NDArray[np.int64]:
        """How often each character has occurred [code points]."""
        if self._uncounted:
            counts = np.bincount(np.concatenate(self._uncounted))
            self._counts[: len(counts)] += counts
            self._uncounted, self._uncounted_size = [], 0
        return self._counts

    def text(self, record: Record) -> str:
        """The text of a document."""
        self._stream.seek(record.place)
        return self._stream.read(record.size).decode("utf-8")

    def remove(self) -> None:
        self.path.unlink()


class SideTexts:
    """The texts of one side, read anew each time they are gone through."""

    def __init__(self, spool: Spool, records: Sequence[Record], side: Side) -> None:
        self._spool = spool
        self._records = [r for r in records if r.side == side]

    def __iter__(self) -> Iterator[str]:
        return (self._spool.text(r) for r in self._records)


def split_records(spool: Spool, share: float, report: Report) -> list[Record]:
    """The records with their group and side: about `share` of all works on the validation side.

    The side is decided by a digest of the group's key, so that a work falls on the same side whatever else is in the
    corpus, and another edition of it cannot leak across. Where this leaves a side empty, the end of the longest
    document is held out instead, as a document of its own whose name ends in " [end]".
    """
    if not spool.records:
        raise UsageError("corpus_no_documents")
    groups, keys = spool.sketches.groups()
    spool.sketches = Sketches()  # what comes next needs their memory
    sides: list[Side] = ["validation" if fraction(key) < share else "train" for key in keys]
    records = [replace(r, group=int(g), side=sides[g]) for r, g in zip(spool.records, groups, strict=True)]
    if len({r.side for r in records}) == 1 and share > 0:
        records = _hold_out_an_end(spool, records, max(share, LEAST_END), report)
    held_out = sum(r.side == "validation" for r in records)
    report("corpus.split", train=len(records) - held_out, validation=held_out)
    return records


def fraction(key: int) -> float:
    """A number in [0, 1) that stands for a group."""
    return int.from_bytes(hashlib.sha256(key.to_bytes(8, "big")).digest()[:8], "big") / 2**64


def _hold_out_an_end(spool: Spool, records: list[Record], share: float, report: Report) -> list[Record]:
    longest = max(records, key=lambda r: r.characters)
    text = spool.text(longest)
    begin = text[: max(1, int(len(text) * (1 - share)))]
    size, characters = len(begin.encode("utf-8")), len(begin)
    end = replace(
        longest,
        document=replace(longest.document, name=longest.document.name + _END),
        place=longest.place + size,
        size=longest.size - size,
        characters=longest.characters - characters,
        side="validation",
    )
    kept = [r for r in records if r is longest or r.group != longest.group]  # a copy would give the end away
    begun = replace(longest, size=size, characters=characters)
    train = [replace(begun if r is longest else r, side="train") for r in kept]
    if not end.characters:
        report("corpus.nothing_held_out")
        return train
    report("corpus.cut", name=longest.document.name)
    if copies := len(records) - len(kept):
        report("corpus.copies_left_out", count=copies)
    return [*train, end]


class Losses:
    """What of the texts is not in the ids. counts: how often each character occurs [code points].

    Special here: which characters a vocabulary lacks is asked once for each different one, so that the texts need not
    be compared with what their ids spell.
    """

    def __init__(self, vocabulary: Vocabulary, counts: npt.NDArray[np.int64]) -> None:
        lost = vocabulary.unspelled([chr(c) for c in np.flatnonzero(counts)])
        self._lost = np.zeros(len(counts) if lost else 0, dtype=bool)  # [code points]
        self._lost[[ord(ch) for ch in lost]] = True
        self._left_out = Counter[int]()
        self._unknown_id, self._unknown = vocabulary.unknown_id, 0

    def add(self, text: str, ids: npt.NDArray[Any]) -> None:
        """One more text and its ids [tokens]."""
        if len(self._lost):
            codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)  # [characters]
            found = np.unique(codes[self._lost[codes]], return_counts=True)
            self._left_out.update(dict(zip(*(column.tolist() for column in found), strict=True)))
        if self._unknown_id is not None:
            self._unknown += int(np.count_nonzero(ids == self._unknown_id))

    def tell(self, report: Report, records: Sequence[Record]) -> None:
        """Say what was lost, if anything was."""
        if self._left_out:
            named = ", ".join(f"{chr(c)} U+{c:04X} {count(n)}" for c, n in self._left_out.most_common(TOP_LOST))
            more = f" (+{len(self._left_out) - TOP_LOST})" if len(self._left_out) > TOP_LOST else ""
            left_out, of = self._left_out.total(), sum(r.characters for r in records)
            report("corpus.unspelled", count=count(left_out), of=count(of), characters=named + more)
        if self._unknown:
            report("corpus.unknown", count=count(self._unknown), of=count(sum(r.tokens for r in records)))


def _encode(
    folder: Path, spool: Spool, records: Sequence[Record], vocabulary: Vocabulary, losses: Losses
) -> tuple[dict[Side, list[tuple[int, str]]], list[Record]]:
    """Write the shards of both sides. Returns them, and the records with their counts of tokens."""
    dtype = dtype_for(vocabulary.vocab_size)
    writers = {side: ShardWriter(folder, side, dtype) for side in SIDES}
    start = np.array([vocabulary.start_id], dtype=dtype)
    tokens = [0] * len(records)
    for batch in _batches(spool, records):
        made = vocabulary.encode_documents([text for *_, text in batch])
        for (n, first, text), ids in zip(batch, made, strict=True):
            writer = writers[records[n].side]
            if first:
                writer.add(start)
            row = np.array(ids, dtype=dtype)  # [tokens]
            writer.add(row)
            losses.add(text, row)
            tokens[n] += len(ids)
    for writer in writers.values():
        writer.add(start)
        writer.flush()
    counted = [replace(r, tokens=t) for r, t in zip(records, tokens, strict=True)]
    shards: dict[Side, list[tuple[int, str]]] = {side: writers[side].shards for side in SIDES}
    return shards, counted


def _batches(spool: Spool, records: Sequence[Record]) -> Iterator[list[tuple[int, bool, str]]]:
    """Batches of (record, whether it begins here, text), each of some BATCH_CHARACTERS."""
    batch: list[tuple[int, bool, str]] = []
    size = 0
    for n, record in enumerate(records):
        for i, part in enumerate(parts(spool.text(record), PART_CHARACTERS)):
            batch.append((n, i == 0, part))
            size += len(part)
            if size >= BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def parts(text: str, size: int) -> Iterator[str]:
    """A text in parts of at most `size` characters, cut behind the last newline that fits, else anywhere.

    >>> list(parts("ab\\ncd\\nefghij", 6)), list(parts("", 6))
    (['ab\\ncd\\n', 'efghij'], [''])
    """
    place = 0
    while len(text) - place > size:
        end = text.rfind("\n", place, place + size) + 1 or place + size
        yield text[place:end]
        place = end
    yield text[place:]


class ShardWriter:
    """The ids of one side, written as shards when enough have come together."""

    def __init__(self, folder: Path, side: Side, dtype: np.dtype[Any]) -> None:
        self._folder = folder
        self._side: Side = side
        self._ids = np.empty(SHARD_TOKENS, dtype=dtype)  # memory is taken up only as it is filled
        self._count = 0
        self.shards: list[tuple[int, str]] = []
        """(tokens, SHA-256) of each shard so far."""

    def add(self, ids: np.ndarray[Any, Any]) -> None:
        """Some more ids [tokens]."""
        while len(ids):
            fits = ids[: SHARD_TOKENS - self._count]
            self._ids[self._count : self._count + len(fits)] = fits
            self._count += len(fits)
            ids = ids[len(fits) :]
            if self._count == SHARD_TOKENS:
                self.flush()

    def flush(self) -> None:
        """Write what has come together."""
        if not self._count:
            return
        ids = self._ids[: self._count]
        digest = hashlib.sha256(ids.view(np.uint8).data).hexdigest()
        data = shard_head(self._count, ids.dtype, digest) + ids.tobytes()
        write_file(self._folder / shard_name(self._side, len(self.shards)), data)
        self.shards.append((self._count, digest))
        self._count = 0


def _statistics(records: Sequence[Record], counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    top = np.argsort(-counts, kind="stable")[:TOP_CHARACTERS]
    sides = {}
    for side in SIDES:
        here = [r for r in records if r.side == side]
        sides[side] = {
            "documents": len(here),
            "characters": sum(r.characters for r in here),
            "bytes": sum(r.size for r in here),
            "tokens": sum(r.tokens for r in here),
        }
    whole = [r for r in records if not (r.side == "validation" and r.document.name.endswith(_END))]
    groups = {r.group for r in whole}
    return {
        **sides,
        "works": len(groups),
        "near_duplicates": len(whole) - len(groups),
        "encodings": dict(Counter(r.document.encoding or "" for r in records).most_common()),
        "formats": dict(Counter(r.document.format for r in records).most_common()),
        "different_characters": int(np.count_nonzero(counts)),
        "top_characters": [[chr(c), int(counts[c])] for c in top if counts[c]],
    }
