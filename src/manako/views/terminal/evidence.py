"""A step beside the training text in a terminal: how often its last tokens occur, then model and text side by side.

Special here: `k` is how many of the last tokens were looked for. A table has a column for each k; one that occurs at
the same places as a longer one would repeat it and is left out.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.evidence import Evidence, Occurrences, SearchedText
from manako.messages.numbers import count, percent
from manako.trace.record import Candidate, bytes_to_text
from manako.views.terminal import glyphs as g
from manako.views.terminal.steps import Look

_NUMBER_CELLS = 8  # a space and seven, as 0.0123% needs
_LABEL_CELLS = (8, 24)  # least, and most: the document start needs 23
_TEXT_CELLS = (7, 12)  # for the tokens that were looked for: least, and before a label gets more than its least


def corpus_lines(corpus: SearchedText, look: Look) -> Iterator[Text]:
    """Which text was searched."""
    counts = {"documents": count(corpus.documents), "tokens": count(corpus.tokens)}
    yield Text(look.say("evidence.corpus", digest=g.visible(corpus.digest[:12], look.glyphs), **counts), style="dim")
    yield Text("")


def evidence_lines(found: Evidence, look: Look) -> Iterator[Text]:
    """One step: how often each context occurs, what could come next, and what that adds up to."""
    pending = g.pending_bytes(found.step.bytes_before)
    yield Text(look.say("step.title", number=found.step.index + 1), style="bold")
    room = max(8, look.columns - cell_len(look.say("step.text", text="")))
    yield Text(look.say("step.text", text=g.prose_tail(found.step.text_before, look.glyphs, room)))
    yield Text("")
    if found.occurrences:
        yield Text(look.say("evidence.contexts"))
        yield from (_context_sentences if look.plain else _contexts)(found, look, pending)
        yield Text("")
    yield Text(look.say("evidence.candidates"))
    yield from (_candidate_sentences if look.plain else _tables)(found, look, pending)
    if len(found.distinct) < found.longest:
        yield Text(look.say("evidence.left_out"), style="dim")
    yield Text("")
    yield Text(_how_far(found, look), style="bold")
    yield Text(_how_on(found, look, pending), style="bold")
    yield Text("")


def meaning_lines(look: Look) -> Iterator[Text]:
    """What the numbers do not mean."""
    yield Text(look.say("evidence.meaning"), style="dim")


# --- how often a context occurs ---------------------------------------------------------------------------------------


def _contexts(found: Evidence, look: Look, pending: bytes) -> Iterator[Text]:
    """A row for each length: how often, what came next most often with its share, the tokens themselves."""
    counts = [count(o.count) for o in found.occurrences]
    often = [found.followers(o, 1)[0] for o in found.occurrences]
    heads = [look.say(f"evidence.{name}") for name in ("count", "then", "last")]
    length_cells = len(str(found.longest)) + 1
    count_cells = max(map(cell_len, [heads[0], *counts])) + 2
    spare = look.columns - length_cells - count_cells - 4 - _NUMBER_CELLS - _TEXT_CELLS[1]
    names = _labels(often, look, spare, pending)
    then_cells = max(cell_len(heads[1]), max(map(cell_len, names)) + _NUMBER_CELLS)
    text_cells = max(_TEXT_CELLS[0], look.columns - length_cells - count_cells - 4 - then_cells)

    def row(length: str, count: str, then: str, text: str) -> str:
        numbers = g.pad(length, length_cells, right=True) + g.pad(count, count_cells, right=True)
        return f"{numbers}  {g.pad(then, then_cells)}  {text}".rstrip()

    yield Text(row("k", heads[0], heads[1], g.cut(heads[2], text_cells)), style="dim")
    for o, times, token, name in zip(found.occurrences, counts, often, names, strict=True):
        share = g.pad(percent(token.count / o.count), then_cells - cell_len(name), right=True)
        yield Text(row(str(o.length), times, name + share, _last_tokens(found, o.length, look, text_cells)))


def _context_sentences(found: Evidence, look: Look, pending: bytes) -> Iterator[Text]:
    for o in found.occurrences:
        often = found.followers(o, 1)[0]
        values = {
            "length": o.length,
            "text": _last_tokens(found, o.length, look, look.columns * 2),
            "count": count(o.count),
            "token": g.plain_label(often, look.glyphs, look.lang, pending),
            "share": percent(often.count / o.count)[:-1],
        }
        yield Text(look.say("evidence.plain_context", **values))


def _last_tokens(found: Evidence, length: int, look: Look, cells: int) -> str:
    """The last `length` tokens as one text in quotes, its end where there is no room for all of it."""
    vocabulary, shown = found.step.vocabulary, ""
    for special, ids in groupby(found.context[-length:], lambda i: i in vocabulary.special_ids):
        data = b"".join(vocabulary[i] for i in ids)
        shown += look.say("token.special", text=bytes_to_text(data)) if special else bytes_to_text(data)
    quotes = cell_len(look.say("token.quoted", text=""))
    return look.say("token.quoted", text=g.prose_tail(shown, look.glyphs, max(cells - quotes, 3)))


# --- what could come next ---------------------------------------------------------------------------------------------


def _tables(found: Evidence, look: Look, pending: bytes) -> Iterator[Text]:
    """Model and training text side by side; several tables where the window is too narrow for every k."""
    shown = found.candidates(look.top)
    both = any(c.p != c.p_model for c in shown)
    rank_cells = max(2, len(str(shown[-1].rank)))
    spare = look.columns - rank_cells - 3 - (1 + both + len(found.distinct)) * _NUMBER_CELLS
    names = _labels(shown, look, spare, pending)
    rest = found.step.other(shown)
    other = look.say("step.other", count=count(rest.count))
    label_cells = max(cell_len(other) - rank_cells - 2, *map(cell_len, names))  # `other` begins under the ranks
    left = 1 + rank_cells + 2 + label_cells
    beside = max(1, (look.columns - left - (1 + both) * _NUMBER_CELLS) // _NUMBER_CELLS)
    marks = [f"{look.glyphs.mark if c.id == found.step.token_id else ' '}{c.rank:>{rank_cells}}. " for c in shown]
    rows = [g.pad(mark + name, left) for mark, name in zip(marks, names, strict=True)]
    for start in range(0, max(1, len(found.distinct)), beside):
        if start:
            yield Text("")
        lengths = found.distinct[start : start + beside]
        heads = ["p"] * both + ["p_model"] + [f"k={o.length}" for o in lengths]
        yield Text(" " * left + _numbers(heads), style="dim")
        for c, row in zip(shown, rows, strict=True):
            drawn = ["-" if c.cut_by else percent(c.p)] * both
            numbers = [*drawn, percent(c.p_model), *(_share(o, [c]) for o in lengths)]
            yield Text(row + _numbers(numbers), style="bold green" if c.id == found.step.token_id else "")
        drawn = [percent(rest.p)] * both
        numbers = [*drawn, percent(rest.p_model), *(_share(o, shown, others=True) for o in lengths)]
        yield Text(g.pad(f" {other}", left) + _numbers(numbers), style="dim")


def _candidate_sentences(found: Evidence, look: Look, pending: bytes) -> Iterator[Text]:
    def shares(tokens: Sequence[Candidate], others: bool = False) -> str:
        said = (
            look.say("evidence.plain_share", length=o.length, share=_share(o, tokens, others)[:-1])
            for o in found.distinct
        )
        return "".join(said)

    shown = found.candidates(look.top)
    for c in shown:
        key = "plain.chosen" if c.id == found.step.token_id else "plain.cut" if c.cut_by else "plain.candidate"
        token = g.plain_label(c, look.glyphs, look.lang, pending)
        said = look.say(key, rank=c.rank, token=token, p=percent(c.p)[:-1], stage=c.cut_by)
        said += look.say("plain.p_model", p=percent(c.p_model)[:-1])
        yield Text(said + shares([c]))
    rest = found.step.other(shown)
    said = look.say("plain.other", count=count(rest.count), p=percent(rest.p)[:-1])
    yield Text(said + look.say("plain.p_model", p=percent(rest.p_model)[:-1]) + shares(shown, others=True))


def _labels(tokens: Sequence[g.Token], look: Look, spare: int, pending: bytes) -> list[str]:
    """What stands for each token, as wide as there is room for."""
    cells = min(max(spare, _LABEL_CELLS[0]), _LABEL_CELLS[1])
    return [g.label(token, look.glyphs, look.lang, cells, pending) for token in tokens]


def _share(found: Occurrences, tokens: Sequence[Candidate], others: bool = False) -> str:
    """How much of what came next these tokens are, or all others."""
    these = sum(found.followers.get(c.id, 0) for c in tokens)
    return percent((found.count - these if others else these) / found.count)


def _numbers(cells: Sequence[str]) -> str:
    return "".join(g.pad(cell, _NUMBER_CELLS, right=True) for cell in cells)


# --- what it adds up to -----------------------------------------------------------------------------------------------


def _how_far(found: Evidence, look: Look) -> str:
    if not found.longest:
        return look.say("evidence.nowhere")
    if found.longest == 1 and len(found.context) > 1:
        return look.say("evidence.alone")
    values = {"length": found.longest, "count": count(found.occurrences[-1].count)}
    if found.longest < len(found.context):
        return look.say("evidence.found", next=found.longest + 1, **values)
    return look.say("evidence.found_limit" if found.more else "evidence.found_all", **values)


def _how_on(found: Evidence, look: Look, pending: bytes) -> str:
    token = g.label(found.step.chosen, look.glyphs, look.lang, 40, pending)
    o = found.continued
    if o is None:
        return look.say("evidence.not_continued", token=token)
    times = count(o.followers[found.step.token_id])
    return look.say("evidence.continued", token=token, length=o.length, count=times, of=count(o.count))
