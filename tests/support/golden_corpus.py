"""A packed corpus over the twelve tokens of the golden record: every count in it can be done by hand."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from golden import END_ID, MODEL, TOKENS, golden_trace

from manako.corpus.documents import Document
from manako.corpus.packed import PackedCorpus
from manako.corpus.packing import Vocabulary, pack
from manako.trace.record import Trace

SOURCE = '{"golden": 12}'  # in place of a tokenizer.json
DOCUMENTS = (
    (9, 2, 2, 3, 4, 5),
    (9, 2, 2, 10),
    (9, 9, 2),
    (11, 9, 1, 1),
    (6, 7, 8, 10, 10),
    (5, 6, 7, 8, 10, 11),
    (9,),
)


def golden_corpus(folder: Path, documents: Sequence[Sequence[int]] = DOCUMENTS) -> PackedCorpus:
    """A corpus of these ids, nothing held out."""
    vocabulary = Vocabulary(
        SOURCE, len(TOKENS), END_ID, lambda texts: [[ord(ch) - 97 for ch in text] for text in texts]
    )
    made = [Document(str(n), "".join(chr(97 + i) for i in ids)) for n, ids in enumerate(documents)]
    return pack(made, folder, lambda texts: vocabulary, validation_share=0)


def trace_of_corpus(steps: int = 12, **changes: Any) -> Trace:
    """The golden record, as a model of the golden corpus would have it.

    Its tokens: 9, then 2 2 3 4 5 6 7 8 10 10 1 0.
    """
    fingerprint = hashlib.sha256(SOURCE.encode()).hexdigest()
    return golden_trace(steps, model=replace(MODEL, tokenizer_sha256=fingerprint), **changes)
