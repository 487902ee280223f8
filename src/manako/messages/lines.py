"""Where a sentence may be broken into lines: at spaces, and in Japanese between any two characters but a few.

Special here: lines are measured in cells, two for a wide character; no line begins with a closing bracket or a full
stop, none ends with an opening bracket (the part of kinsoku shori that readers notice).
"""

import unicodedata

_NEVER_FIRST = "」』）】〉》］、。，．・：；！？ー〜々ぁぃぅぇぉっゃゅょァィゥェォッャュョ)]},;:!?%›…”’"
_NEVER_LAST = "「『（【〈《［〜([{‹“‘"


def cells(text: str) -> int:
    """How many columns of a terminal a text takes.

    >>> cells("cat"), cells("眼"), cells("e\\u0301")
    (3, 2, 1)
    """
    return sum(map(_cells, text))


def breaks(text: str, columns: int) -> list[int]:
    """The index at which each line but the first begins, so that none takes more than `columns` cells.

    >>> breaks("one two three", 8)
    [8]
    """
    found: list[int] = []
    if 2 * len(text) <= columns:  # fits whatever its characters
        return found
    start = allowed = used = 0
    for i, ch in enumerate(text):
        if i > start and _may_begin_line(text[i - 1], ch):
            allowed = i
        used += _cells(ch)
        if used > columns and ch != " " and i > start:  # spaces at the end of a line need no room
            start = allowed if allowed > start else _hard(text, start, i)
            found.append(start)
            used = cells(text[start : i + 1])
    return found


def wrap(text: str, columns: int) -> list[str]:
    """The lines of a text, without the spaces at their ends.

    >>> wrap("「はい」と答えた。", 10)
    ['「はい」と', '答えた。']
    """
    starts = [0, *breaks(text, columns)]
    return [text[a:b].rstrip() for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def _cells(ch: str) -> int:
    return 0 if unicodedata.combining(ch) else 2 if _wide(ch) else 1


def _wide(ch: str) -> bool:
    return unicodedata.east_asian_width(ch) in "WF"


def _hard(text: str, start: int, i: int) -> int:
    """Where to cut what has no place for it: at `i`, or before it if a closing bracket would come first there."""
    while text[i] in _NEVER_FIRST and i - 1 > start:
        i -= 1
    return i


def _may_begin_line(before: str, ch: str) -> bool:
    if ch == " " or ch in _NEVER_FIRST or before in _NEVER_LAST:
        return False
    return before == " " or _wide(before) or _wide(ch)
