"""A step beside the training text in a terminal: how often its last tokens occur, then model and text side by side.

Special here: `k` is how many of the last tokens were looked for. A table has a column for each k; one that occurs at
the same places as a longer one would repeat it and is left out.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from manako.analysis.evidence import Evidence, Occurrences, SearchedText
from manako.messages.numbers import count, percent
from manako.trace.record import Candidate, bytes_to_text
from manako.views.terminal import glyphs as g
from manako.views.terminal.columns import Column, blocks, number, rows
from manako.views.terminal.steps import Look, candidate_columns, heading_lines, plain_rows

_LABEL_CELLS = (8, 24)  # least, and most: the document start needs 23


def corpus_lines(corpus: SearchedText, look: Look) -> Iterator[Text]:
    """Which text was searched."""
    counts = {"documents": count(corpus.documents), "tokens": count(corpus.tokens)}
    yield Text(look.say("evidence.corpus", digest=g.visible(corpus.digest[:12], look.glyphs), **counts), style="dim")
    yield Text("")


def evidence_lines(found: Evidence, look: Look) -> Iterator[Text]:
    """One step: how often each context occurs, what could come next, and what that adds up to."""
    pending = g.pending_bytes(found.step.bytes_before)
    yield from heading_lines(found.step, look)
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

    often = [found.followers(o, 1)[0] for o in found.occurrences]
    names = [partial(look.label, token, pending) for token in often]
    shares = [percent(token.count / o.count) for token, o in zip(often, found.occurrences, strict=True)]
    texts = [partial(_last_tokens, found, o.length, look) for o in found.occurrences]
    least, most = _LABEL_CELLS
    columns = [
        Column([f" {o.length}" for o in found.occurrences], "k", right=True),
        Column([count(o.count) for o in found.occurrences], look.say("evidence.count"), right=True, gap=2),
        Column(names, look.say("evidence.then"), gap=2, most=most, least=least, gives_way=1),
        number(shares),
        Column(texts, look.say("evidence.last"), gap=2, wide=12, least=7, gives_way=2, fills=True),
    ]
    yield from rows(columns, look.columns)


def _context_sentences(found: Evidence, look: Look, pending: bytes) -> Iterator[Text]:
    for o in found.occurrences:
        often = found.followers(o, 1)[0]
        values = {
            "length": o.length,
            "text": _last_tokens(found, o.length, look, look.columns * 2),
            "count": count(o.count),
            "token": look.spoken(often, pending),
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
    left, styles = candidate_columns(found.step, shown, look, pending, (_LABEL_CELLS[0], 0, _LABEL_CELLS[1]), "p_model")
    texts = [
        number([*(_share(o, [c]) for c in shown), _share(o, shown, others=True)], f"k={o.length}")
        for o in found.distinct
    ]
    yield from blocks(left, texts, look.columns, styles)


def _candidate_sentences(found: Evidence, look: Look, pending: bytes) -> Iterator[Text]:
    def shares(tokens: Sequence[Candidate], others: bool) -> str:
        said = ((o.length, _share(o, tokens, others)[:-1]) for o in found.distinct)
        return "".join(look.say("evidence.plain_share", length=length, share=share) for length, share in said)

    yield from plain_rows(found.step, look, pending, found.candidates(look.top), shares)


def _share(found: Occurrences, tokens: Sequence[Candidate], others: bool = False) -> str:
    """How much of what came next these tokens are, or all others."""
    these = sum(found.followers.get(c.id, 0) for c in tokens)
    return percent((found.count - these if others else these) / found.count)


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
    token = look.label(found.step.chosen, pending)
    o = found.continued
    if o is None:
        return look.say("evidence.not_continued", token=token)
    times = count(o.followers[found.step.token_id])
    return look.say("evidence.continued", token=token, length=o.length, count=times, of=count(o.count))
