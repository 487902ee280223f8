"""Small corpora for tests: made-up works, and a vocabulary of their characters that needs no tokenizer library."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from manako.corpus.documents import Document
from manako.corpus.packed import PackedCorpus
from manako.corpus.packing import Vocabulary, pack

KANJI = [chr(c) for c in range(0x4E00, 0x4E30)]


def toy_documents(count: int = 40, seed: int = 0) -> list[Document]:
    """Works of some dozen characters, kanji among kana."""
    rng = random.Random(seed)
    return [
        Document(f"w{n}", "".join(rng.choice(KANJI) + rng.choice("のはが。") for _ in range(rng.randrange(10, 30))))
        for n in range(count)
    ]


def toy_vocabulary(texts: Iterable[str], vocab_size: int = 64) -> Vocabulary:
    """id = position among all characters that toy documents can have; the last id is the document start."""
    list(texts)
    ids = {ch: i for i, ch in enumerate([*KANJI, *"のはが。"])}
    return Vocabulary(
        source=f'{{"toy": {vocab_size}}}',
        vocab_size=vocab_size,
        start_id=vocab_size - 1,
        encode_documents=lambda batch: [[ids.get(ch, 55) for ch in text] for text in batch],
    )


def build_toy(folder: Path, count: int = 40, seed: int = 0, vocab_size: int = 64, **settings: Any) -> PackedCorpus:
    """A packed corpus of toy documents, a fifth of them held out."""
    share = settings.pop("validation_share", 0.2)
    documents = settings.pop("documents", None) or toy_documents(count, seed)
    return pack(documents, folder, lambda texts: toy_vocabulary(texts, vocab_size), validation_share=share, **settings)
