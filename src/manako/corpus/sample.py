"""A smaller corpus out of a packed one: fewer training documents, and the same held-out text for any vocabulary.

Special here: which documents stay, and where the last of them is cut, is a matter of characters and names, not of
tokens or order. So the same text stays whatever the tokenizer, and a smaller share is part of a larger one.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manako.corpus.documents import Document
from manako.corpus.packed import SIDES, Ids, PackedCorpus, Side, open_packed
from manako.corpus.packing import Record, ShardWriter, Vocabulary, write_heads
from manako.files import new_folder
from manako.tokenizer import Tokenizer, sizes_of


def sample(corpus: PackedCorpus, folder: Path, share: float, most_held_out: int) -> PackedCorpus:
    """Make a packed corpus of part of another in a new folder, whole or not at all, and open it.

    share: of the characters of the training side, in (0, 1]. most_held_out: characters of the validation side. The
    document where one of them is reached is cut there. The vocabulary stays. Raises ManakoError when the folder is
    there already or cannot be written.
    """
    tokenizer = Tokenizer(corpus.tokenizer_source)
    characters = np.array(sizes_of(tokenizer)[0])  # [V]
    leads = np.array([not 0x80 <= (spelled or b"\x80")[0] < 0xC0 for spelled in tokenizer.token_bytes])  # [V]
    rows = list(corpus.documents())
    have = {side: corpus.header.statistics[side]["characters"] for side in SIDES}
    wanted = {"train": round(share * have["train"]), "validation": min(most_held_out, have["validation"])}
    kept = {n: size for side in SIDES for n, size in _chosen(rows, side, wanted[side])}
    counts, records = np.zeros(0x110000, dtype=np.int64), list[Record]()
    shards: dict[Side, list[tuple[int, str]]] = {}
    start = np.array([corpus.start_id], dtype=corpus.header.dtype)
    with new_folder(folder) as temporary:
        for side, ids_of_all in zip(SIDES, (corpus.train, corpus.validation), strict=True):
            writer = ShardWriter(temporary, side, corpus.header.dtype)
            here = [n for n, row in enumerate(rows) if row["side"] == side]
            for n, ids in zip(here, ids_of_all.documents(corpus.start_id), strict=True):
                if n not in kept:
                    continue
                ids = _begin(ids, kept[n], characters, leads)
                data = tokenizer.decode(ids.tolist())
                text = data.decode("utf-8", "replace")  # of foreign bytes some may be lost
                codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)  # [characters]
                counts += np.bincount(codes, minlength=len(counts))
                writer.add(start)
                writer.add(ids)
                records.append(replace(_record(rows[n]), size=len(data), characters=len(codes), tokens=len(ids)))
            writer.add(start)
            writer.flush()
            shards[side] = writer.shards
        vocabulary = Vocabulary(corpus.tokenizer_source, corpus.vocab_size, corpus.start_id, lambda texts: [])
        settings = {**corpus.header.settings, "share": share, "most_held_out": most_held_out}
        write_heads(temporary, vocabulary, shards, records, counts, settings, corpus.header.sources)
    return open_packed(folder)


def _chosen(rows: list[dict[str, Any]], side: Side, wanted: int) -> Iterator[tuple[int, int]]:
    """(number of a document, characters of it) in an order that their names decide, until there are enough."""
    seen = Counter[str]()  # parts of one large file have one name
    order: list[tuple[bytes, int]] = []
    for n, row in enumerate(rows):
        if row["side"] == side:
            order.append((_digest(f"{row['name']}\0{seen[row['name']]}"), n))
            seen[row["name"]] += 1
    for _, n in sorted(order):
        if wanted <= 0:
            return
        yield n, min(wanted, rows[n]["characters"])
        wanted -= rows[n]["characters"]


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()


def _begin(ids: Ids, wanted: int, characters: npt.NDArray[np.int64], leads: npt.NDArray[np.bool_]) -> Ids:
    """The ids of the first characters of a document, no character cut.

    leads: whether a token begins with a character, and not inside one [V]. A piece of bytes may end inside one.
    """
    ends = np.cumsum(characters[ids])  # [tokens]
    end = int(np.searchsorted(ends, wanted, side="right"))
    while 0 < end < len(ids) and not leads[ids[end]]:
        end -= 1
    return ids[:end]


def _record(row: dict[str, Any]) -> Record:
    d = Document(row["name"], "", row.get("title"), row.get("author"), row["encoding"], row["crlf"], row["format"])
    return Record(d, 0, row["bytes"], row["characters"], row["group"], row["side"])
