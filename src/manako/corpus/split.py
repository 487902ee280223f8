"""Which documents a model learns from and which it is judged on.

Special here: the side is decided by a digest of the document's title-free text start, not by order or chance, so that
the same work falls on the same side whatever else is in the corpus, and a second copy of it cannot leak across.
"""

import hashlib
import re
from collections.abc import Iterable

from manako.corpus.documents import Document
from manako.errors import UsageError

VALIDATION_SHARE = 0.03


def split(documents: Iterable[Document], share: float = VALIDATION_SHARE) -> tuple[list[Document], list[Document]]:
    """(training, validation) documents, about `share` of them on the validation side.

    With a single document, or when chance leaves one side empty, the last `share` of the longest document is cut off
    instead: the caller can tell by the name, which then ends in "[end]". Raises UsageError for no documents at all.
    """
    train: list[Document] = []
    validation: list[Document] = []
    for document in documents:
        (validation if _fraction(document.text) < share else train).append(document)
    if train and validation:
        return train, validation
    everything = sorted(train + validation, key=lambda d: len(d.text), reverse=True)
    if not everything:
        raise UsageError("corpus_no_documents")
    longest = everything[0]
    others = [d for d in everything[1:] if _fraction(d.text) != _fraction(longest.text)]  # a copy would leak the end
    cut = max(1, int(len(longest.text) * (1 - max(share, 0.1))))
    end = Document(longest.name + " [end]", longest.text[cut:])
    return [Document(longest.name, longest.text[:cut]), *others], [end]


def _fraction(text: str) -> float:
    # Kanji alone, so that an edition in old kana and one in new agree; 200 of them name a work.
    key = "".join(re.findall(r"[\u4e00-\u9fff]", text[:4000]))[:200] or text[:400]
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:8], "big") / 2**64
