"""The table with which SentencePiece rewrites a text: at each place the longest key that stands there.

Special here: the table is a double array, as `darts-clone` lays it out, walked byte by byte; what a stranger's table
points at is looked at before it is read. `tokenizers` walks the same table by graphemes and takes the shortest key, so
half-width ｶﾞ does not become ガ there. Source: `normalizer.cc` in google/sentencepiece; `darts.h` in s-yata/darts-clone.
"""

import struct

MOST_KEYS = 32  # that begin at one place; the library looks at no more
MAX_KEY = 64  # characters; published ones have up to four
MAX_REPLACEMENT = 1024  # bytes; the longest published one has 33
State = int | None


class Charsmap:
    """`longest`: what a text has in place of the characters that stand at a place of it."""

    def __init__(self, data: bytes) -> None:
        """data: a `precompiled_charsmap`. Raises ValueError."""
        size = int.from_bytes(data[:4], "little")
        if len(data) < 8 or not 4 <= size <= len(data) - 4 or size % 4:
            raise ValueError("its table of characters is damaged")
        self.data = data
        self._units = struct.unpack(f"<{size // 4}I", data[4 : 4 + size])
        self._texts = data[4 + size :]
        self._first: dict[str, tuple[State, str | None, int]] = {}

    def longest(self, text: str, at: int) -> tuple[str, int]:
        """(replacement, the place behind what it replaces) at one place; the character itself where no key begins.

        Raises ValueError where the table is damaged.
        """
        ch = text[at]
        first = self._first.get(ch)
        if first is None:
            first = self._first[ch] = self._walked(self._root(), ch, 0)
        node, found, keys = first
        end = at = at + 1
        start = at
        while node is not None and at < len(text) and keys < MOST_KEYS:
            if at - start > MAX_KEY:
                raise ValueError(f"its table of characters has keys of more than {MAX_KEY}")
            node, longer, keys = self._walked(node, text[at], keys)
            at += 1
            if longer is not None:
                found, end = longer, at
        return (ch if found is None else found), end

    def _root(self) -> State:
        return _offset(self._units[0])

    def _walked(self, node: State, ch: str, keys: int) -> tuple[State, str | None, int]:
        """One character further: (where that leads, the replacement if a key ends there, keys met so far)."""
        found = None
        for byte in ch.encode("utf-8"):
            if found is not None:
                raise ValueError("its table of characters cuts one in two")
            if node is None or (node := node ^ byte) >= len(self._units):
                return None, None, keys
            unit = self._units[node]
            if unit & 0x800000FF != byte:
                return None, None, keys
            node ^= _offset(unit)
            if unit >> 8 & 1:
                keys += 1
                found = self._replacement(node)
        return node, found, keys

    def _replacement(self, node: int) -> str:
        start = self._units[node] & 0x7FFFFFFF if node < len(self._units) else len(self._texts)
        end = self._texts.find(b"\0", start, start + MAX_REPLACEMENT)
        if end < 0:
            raise ValueError("its table of characters is damaged")
        return self._texts[start:end].decode("utf-8")


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)
