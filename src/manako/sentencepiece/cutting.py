"""A text made ready and cut into pieces, as the library `sentencepiece` does both.

Special here: the same arithmetic, float32 where that has float32, so that also of two ways that are as good as equal
the same one is taken. Ids come with the characters that they stand for. Source: `normalizer.cc`, `unigram_model.cc`
(`EncodeOptimized`) and `bpe_model.cc` in google/sentencepiece; Kudo and Richardson 2018, arXiv:1808.06226.
"""

import heapq
import struct
from collections.abc import Iterable, Iterator

from manako.sentencepiece.model_file import BPE, BYTES, NORMAL, SPACE, UNUSED, USER_DEFINED, PieceModel

Spans = list[tuple[int, int]]
MOST_LENGTHS = 64  # of pieces that begin with one character: each place of a text is looked at so often
_UNKNOWN_PENALTY = 10.0


def _float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def _lengths(pieces: Iterable[str]) -> dict[str, list[int]]:
    """How long the pieces are that begin with a character, the shortest first. Raises ValueError for too many."""
    found: dict[str, set[int]] = {}
    for text in pieces:
        found.setdefault(text[0], set()).add(len(text))
    if most := next((ch for ch, lengths in found.items() if len(lengths) > MOST_LENGTHS), None):
        raise ValueError(f"pieces that begin with {most!r} have more than {MOST_LENGTHS} lengths")
    return {ch: sorted(lengths) for ch, lengths in found.items()}


class Cutter:
    """One model at work."""

    def __init__(self, model: PieceModel) -> None:
        self._model = model
        self._ids = {p.text: i for i, p in enumerate(model.pieces) if p.kind in (NORMAL, USER_DEFINED, UNUSED)}
        self._unused = {i for i, p in enumerate(model.pieces) if p.kind == UNUSED}
        self._unknown = model.unknown_id
        self._bytes = {p.text: i for i, p in enumerate(model.pieces)} if model.byte_fallback else {}
        self._own = {p.text for p in model.pieces if p.kind == USER_DEFINED}
        self._own_lengths = _lengths(self._own)
        normal = [p.score for p in model.pieces if p.kind == NORMAL]
        # What a piece of the user's own counts has changed with the library's versions; this is the newest one's.
        self._scores = [
            _float32((len(p.text.encode("utf-8")) - 1) * 0.1) if p.kind == USER_DEFINED else p.score
            for p in model.pieces
        ]
        self._unknown_score = _float32(min(normal, default=0.0) - _UNKNOWN_PENALTY)
        self._lengths = _lengths(text for text, i in self._ids.items() if i not in self._unused)

    def cut(self, text: str, prefix: bool = True, behind: bool = False) -> tuple[list[int], Spans]:
        """(ids, the characters of `text` that each stands for).

        prefix: whether the space before a text is put there, where the model has one. behind: whether it goes on with
        another text, so that spaces at its beginning are no extra ones. Raises ValueError.
        """
        ready, origin = self._ready(text, prefix, behind)
        merged = self._merged(ready) if self._model.kind == BPE else self._likeliest(ready)
        ids: list[int] = []
        spans: Spans = []
        before = False  # whether the piece before is an unknown one, to which the next unknown one belongs
        for start, end, i in merged:
            span = origin[start][0], origin[end - 1][1]
            if i != self._unknown:
                ids.append(i)
                spans.append(span)
            elif self._bytes:
                own = [self._bytes[BYTES[b]] for b in ready[start:end].encode("utf-8")]
                ids += own
                spans += [span] * len(own)
            elif before:
                spans[-1] = spans[-1][0], span[1]
            else:
                ids.append(i)
                spans.append(span)
            before = i == self._unknown
        return ids, spans

    def _ready(self, text: str, prefix: bool, behind: bool) -> tuple[str, Spans]:
        """(the text as it is cut, for each of its characters those of `text` that it comes from)."""
        model = self._model
        squeeze = model.remove_extra_whitespaces
        dummy = prefix and model.add_dummy_prefix
        out: list[str] = []
        origin: Spans = []
        after_space, told = squeeze and not behind, behind
        for chunk, start, end in self._chunks(text):
            kept = chunk.lstrip(" ") if after_space else chunk
            if not kept and not told and chunk == " ":
                continue  # spaces before the text
            told = True
            out += kept
            origin += [(start, end)] * len(kept)
            if kept:
                after_space = squeeze and kept.endswith(" ")
        if not told:
            return "", []
        if dummy and not model.space_is_suffix:
            out.insert(0, SPACE)
            origin.insert(0, (0, 0))
        ready = "".join(out).replace(" ", SPACE)
        if squeeze:
            ready = ready.rstrip(SPACE)
            del origin[len(ready) :]
        if dummy and model.space_is_suffix:
            ready += SPACE
            origin.append((len(text), len(text)))
        return ready, origin

    def _chunks(self, text: str) -> Iterator[tuple[str, int, int]]:
        """The text as its table rewrites it: (characters, start, end of what they were)."""
        table, at = self._model.charsmap, 0
        while at < len(text):
            if own := self._own_at(text, at):
                chunk, end = text[at : at + own], at + own
            elif table:
                chunk, end = table.longest(text, at)
            else:
                chunk, end = text[at], at + 1
            yield chunk, at, end
            at = end

    def _own_at(self, text: str, at: int) -> int:
        """How long the longest piece of the user's own is that stands at a place, 0 where none does."""
        lengths = reversed(self._own_lengths.get(text[at], ()))
        return next((length for length in lengths if text[at : at + length] in self._own), 0)

    def _likeliest(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Of all ways to cut the text the one with the greatest sum of scores: (start, end, id)."""
        best: list[tuple[float, int, int] | None] = [None] * (len(text) + 1)  # [N+1] (sum, start, id) that ends there
        best[0] = (0.0, 0, 0)
        for start in range(len(text)):
            till = best[start]
            if till is None:
                continue
            so_far, single = till[0], False
            for length in self._lengths.get(text[start], ()):
                i = self._ids.get(text[start : start + length])
                if i is None or i in self._unused or start + length > len(text):
                    continue
                single = single or length == 1
                total, known = _float32(self._scores[i] + so_far), best[start + length]
                if known is None or total > known[0]:
                    best[start + length] = total, start, i
            if not single:
                total, known = _float32(self._unknown_score + so_far), best[start + 1]
                if known is None or total > known[0]:
                    best[start + 1] = total, start, self._unknown
        found: list[tuple[int, int, int]] = []
        end = len(text)
        while end and (node := best[end]):
            found.append((node[1], end, node[2]))
            end = node[1]
        return reversed(found)

    def _merged(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Neighbours merged, the pair of the best score first, and of equal ones the first: (start, end, id)."""
        starts: list[int] = []
        frozen: set[int] = set()  # a piece of the user's own takes no part
        at = 0
        while at < len(text):
            starts.append(at)
            if own := self._own_at(text, at):
                frozen.add(at)
            at += own or 1
        end_of = dict(zip(starts, [*starts[1:], len(text)], strict=False))  # of the symbol that starts there
        start_before = dict(zip(starts[1:], starts, strict=False))
        agenda: list[tuple[float, int, int, int]] = []  # (-score, start, middle, end)
        parts: dict[str, int] = {}  # unused piece -> length of the first of the two that made it

        def offer(left: int, right: int) -> None:
            if left in frozen or right in frozen:
                return
            end = end_of[right]
            i = self._ids.get(text[left:end])
            if i is not None:
                heapq.heappush(agenda, (-self._model.pieces[i].score, left, right, end))
                if i in self._unused:
                    parts[text[left:end]] = right - left

        for left, right in zip(starts, starts[1:], strict=False):
            offer(left, right)
        while agenda:
            _, left, right, end = heapq.heappop(agenda)
            if end_of.get(left) != right or end_of.get(right) != end:
                continue  # one of the two has become part of something else
            end_of[left] = end
            del end_of[right]
            if left:
                offer(start_before[left], left)
            if end < len(text):
                start_before[end] = left
                offer(left, end)
        for start in sorted(end_of):
            yield from self._used(text, start, end_of[start], parts)

    def _used(self, text: str, start: int, end: int, parts: dict[str, int]) -> Iterator[tuple[int, int, int]]:
        """A piece, or where it is an unused one those that made it."""
        todo = [(start, end)]
        while todo:
            start, end = todo.pop()
            piece = text[start:end]
            i = self._ids.get(piece, self._unknown)
            if i in self._unused and piece in parts:
                todo += [(start + parts[piece], end), (start, start + parts[piece])]
            else:
                yield start, end, i
