"""How BPE put a text together: from characters or bytes, merge by merge, in the order in which they were applied.

Special here: each token is replayed by itself. No merge of a word passes a border between two of its tokens, or there
would be none; so inside of a token the merges are those of the whole word, and it does not matter how the text was cut
into words. How often a merge is applied in a corpus follows from how often each token occurs there.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from manako.corpus.packed import PackedCorpus
from manako.tokenizer import Tokenizer

Span = tuple[int, int]
"""(start, end) in bytes of the text as it was read."""
_BYTES_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class Merge:
    """One merge, at every place of the text where it was applied at this moment."""

    rank: int
    """Its place among all merges of the vocabulary, counted from 1: the order in which they were learned."""
    left: bytes
    right: bytes
    places: tuple[Span, ...]
    """What it made."""
    pieces: tuple[Span, ...]
    """All of the text after it."""
    count: int | None
    """How often it is applied in the training text of the corpus; None where no corpus is known."""

    @property
    def made(self) -> bytes:
        """The two together."""
        return self.left + self.right


@dataclass(frozen=True)
class Replay:
    """A text from its smallest pieces to its tokens."""

    ref: str
    read: bytes
    """The text as the tokenizer read it."""
    begin: tuple[Span, ...]
    """Its pieces before the first merge: characters or bytes, and tokens that are not made by merges."""
    merges: tuple[Merge, ...]


def replay(
    tokenizer: Tokenizer, text: str, ref: str = "", special: bool = False, counts: Mapping[int, int] | None = None
) -> Replay | None:
    """The merges that made the tokens of a text; None for a vocabulary of another kind than BPE.

    special: as for `tokens`. counts: merge -> how often a corpus has it, see `merge_counts`. Raises UsageError as
    `Tokenizer.encode` does.
    """
    rules = _rules(tokenizer)
    if rules is None:
        return None
    ranks, names = rules
    table, ids = tokenizer.token_bytes, tokenizer.encode(text, special)
    words = [_Word(names.get(i, ""), table[i], ranks) for i in ids]
    starts = np.concatenate([[0], np.cumsum([len(table[i]) for i in ids], dtype=np.int64)]).tolist()
    begin = _spans(words, starts)
    merges: list[Merge] = []
    while (rank := min((word.next for word in words), default=_NEVER)) < _NEVER:
        places: list[Span] = []
        pair = (b"", b"")
        for word, start in zip(words, starts, strict=False):
            if word.next == rank:
                pair, made = word.apply()
                places += [(start + a, start + b) for a, b in made]
        known = None if counts is None else counts.get(rank, 0)
        merges.append(Merge(rank + 1, *pair, tuple(places), _spans(words, starts), known))
    return Replay(ref, b"".join(table[i] for i in ids), begin, tuple(merges))


def merge_counts(tokenizer: Tokenizer, corpus: PackedCorpus) -> dict[int, int]:
    """How often each merge is applied when the training side of a corpus is encoded: merge -> times."""
    rules = _rules(tokenizer)
    found: Counter[int] = Counter()
    if rules is None:
        return found
    ranks, names = rules
    times = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for shard in corpus.train.shards:
        ids = shard.open()
        for at in range(0, len(ids), _BYTES_AT_A_TIME):
            times += np.bincount(ids[at : at + _BYTES_AT_A_TIME], minlength=len(times))
    for i in np.flatnonzero(times).tolist():
        word = _Word(names.get(i, ""), tokenizer.token_bytes[i], ranks)
        while word.next < _NEVER:
            rank = word.next
            found[rank] += len(word.apply()[1]) * int(times[i])
    return dict(found)


def merge_table(tokenizer: Tokenizer, corpus: PackedCorpus | None) -> bytes:
    """All merges of a vocabulary as JSON, for the page, which replays texts by itself; empty where there are none.

    `names` has each id as the merges spell it, `merges` pairs in their order, `counts` how often the corpus has each.
    """
    rules = _rules(tokenizer)
    if rules is None or not rules[0]:
        return b""
    ranks, names = rules
    counts = None if corpus is None else merge_counts(tokenizer, corpus)
    table = {
        "tokenizer_sha256": tokenizer.fingerprint,
        "names": [names.get(i, "") for i in range(tokenizer.vocab_size)],
        "merges": [[*pair, rank] for pair, rank in sorted(ranks.items(), key=lambda each: each[1])],
        "counts": None if counts is None else [[rank, count] for rank, count in sorted(counts.items())],
    }
    return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()


_NEVER = 1 << 62
_Ranks = Mapping[tuple[str, str], int]


class _Word:
    """One token on its way from symbols to itself; symbols are characters of its name in the file."""

    def __init__(self, name: str, data: bytes, ranks: _Ranks) -> None:
        self._ranks = ranks
        self.symbols = list(name) if _comes_together(list(name), ranks) else [name]
        sizes = [len(s.encode("utf-8")) for s in self.symbols]
        if len(self.symbols) == len(data):  # each stands for a byte, whatever character spells it
            sizes = [1] * len(data)
        if sum(sizes) != len(data):  # spelled otherwise than it reads, as "▁" or <0xE3>: as a whole
            self.symbols, sizes = [name], [len(data)]
        self.sizes, self._data = sizes, data

    @property
    def next(self) -> int:
        """The merge that comes next, _NEVER where none is left."""
        return min(
            (self._ranks.get(pair, _NEVER) for pair in zip(self.symbols, self.symbols[1:], strict=False)),
            default=_NEVER,
        )

    def apply(self) -> tuple[tuple[bytes, bytes], list[Span]]:
        """The next merge at each of its places: (its two parts, where what it made is)."""
        rank, n, made = self.next, 0, list[Span]()
        pair = (b"", b"")
        while n < len(self.symbols) - 1:
            if self._ranks.get((self.symbols[n], self.symbols[n + 1])) == rank:
                start, (left, right) = sum(self.sizes[:n]), self.sizes[n : n + 2]
                pair = (self._data[start : start + left], self._data[start + left : start + left + right])
                made.append((start, start + left + right))
                self.symbols[n : n + 2] = ["".join(self.symbols[n : n + 2])]
                self.sizes[n : n + 2] = [left + right]
            n += 1
        return pair, made


def _comes_together(symbols: list[str], ranks: _Ranks) -> bool:
    """Whether merges alone make one of them all; a vocabulary may hold words that no merge leads to."""
    while len(symbols) > 1:
        pairs = list(zip(symbols, symbols[1:], strict=False))
        best = min(pairs, key=lambda pair: ranks.get(pair, _NEVER))
        if best not in ranks:
            return False
        n = pairs.index(best)
        symbols = [*symbols[:n], "".join(best), *symbols[n + 2 :]]
    return True


def _spans(words: Sequence[_Word], starts: Sequence[int]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for word, start in zip(words, starts, strict=False):
        for size in word.sizes:
            spans.append((start, start + size))
            start += size
    return tuple(spans)


def _rules(tokenizer: Tokenizer) -> tuple[_Ranks, Mapping[int, str]] | None:
    """(pair -> rank, id -> name) of a BPE vocabulary."""
    model: dict[str, Any] = json.loads(tokenizer.source)["model"]
    if model.get("type") != "BPE" or not isinstance(model.get("merges"), list):
        return None
    pairs = [each.split(" ", 1) if isinstance(each, str) else each for each in cast("list[Any]", model["merges"])]
    ranks = {(left, right): rank for rank, (left, right) in reversed(list(enumerate(pairs)))}
    return ranks, {i: name for name, i in cast("dict[str, int]", model["vocab"]).items()}
