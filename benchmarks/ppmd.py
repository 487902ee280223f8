"""How far a good text compressor gets on the held-out text: PPMd, primed with text of the same training side.

    pip install pyppmd
    python benchmarks/ppmd.py PACKED [PRIME [CHARACTERS]]

One encoder reads PRIME characters of training text (20 million; works evenly from the whole side), then the whole
validation side, or the first CHARACTERS of each of its documents. What the output grows by meanwhile is the cost of
that text; it is exact to the few bytes that a range coder holds back. Bits per character are comparable with those of
`manako eval`: both models see each character after all text before it. No target: a yardstick.

Special here: PPMd predicts bytes, so the coding of the text matters. A character outside CP932 goes in as a character
reference. `ids` are the corpus's own tokens, two bytes each, the high one first. A NUL stands after each document.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import calibration, report
from pyppmd import Ppmd7Encoder, Ppmd8Encoder

from manako.corpus.packed import PackedCorpus, Shards, open_packed
from manako.tokenizer import Tokenizer

PRIME = 20_000_000  # characters
MEMORY = 2 << 30  # bytes; a model that runs out of it starts again and forgets
ENCODERS: dict[str, Callable[[int, int], Any]] = {"H": Ppmd7Encoder, "I": Ppmd8Encoder}
ORDERS = (6, 8, 12, 16)  # bytes of context
Coding = Callable[[list[str]], bytes]


def main() -> None:
    start = calibration()
    corpus = open_packed(Path(sys.argv[1]))
    corpus.verify()
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else PRIME
    tokenizer = Tokenizer(corpus.tokenizer_source)
    counts = {side: corpus.header.statistics[side] for side in ("train", "validation")}
    share = min(1.0, wanted / counts["train"]["characters"])
    prime = list(texts(corpus.train, corpus, tokenizer, share))
    held_out = list(texts(corpus.validation, corpus, tokenizer))
    assert sum(map(len, held_out)) == counts["validation"]["characters"]
    if len(sys.argv) > 3:
        held_out = [text[: int(sys.argv[3])] for text in held_out]
    characters, utf8 = sum(map(len, held_out)), sum(len(text.encode()) for text in held_out)

    results = []
    for name, coding in codings(tokenizer).items():
        before, after = coding(prime), coding(held_out)
        for variant, encoder in ENCODERS.items():
            for order in ORDERS:
                began = time.perf_counter()
                size = grown(encoder(order, MEMORY), before, after)
                result = {
                    "coding": name,
                    "variant": variant,
                    "order": order,
                    "bits_per_character": 8 * size / characters,
                    "bits_per_byte": 8 * size / utf8,
                    "bytes": size,
                    "seconds": time.perf_counter() - began,
                }
                print(result, file=sys.stderr, flush=True)
                results.append(result)
    report(
        "ppmd",
        "none: a yardstick for bits per character",
        start,
        best=min(results, key=lambda r: r["bytes"]),
        prime={"documents": len(prime), "characters": sum(map(len, prime))},
        validation={"documents": len(held_out), "characters": characters, "bytes": utf8},
        memory_mb=MEMORY >> 20,
        results=results,
    )


def texts(side: Shards, corpus: PackedCorpus, tokenizer: Tokenizer, share: float = 1.0) -> Iterator[str]:
    """The documents of a side; of a share below 1 as many, from all over it, as make up that share of its tokens."""
    seen = taken = 0
    for ids in side.documents(corpus.start_id):
        seen += len(ids)
        if taken < share * seen:
            taken += len(ids)
            yield tokenizer.decode(ids.tolist()).decode("utf-8")


def codings(tokenizer: Tokenizer) -> dict[str, Coding]:
    """Name -> texts as bytes."""

    def ids(documents: list[str]) -> bytes:
        rows = [np.array([*found, 0], ">u2") for found in tokenizer.encode_documents(documents)]
        return np.concatenate(rows).tobytes()

    def coded(encoding: str, errors: str = "strict") -> Coding:
        return lambda documents: "".join(text + "\0" for text in documents).encode(encoding, errors)

    found = {"utf-8": coded("utf-8"), "utf-16-be": coded("utf-16-be"), "cp932": coded("cp932", "xmlcharrefreplace")}
    return found | ({"ids": ids} if tokenizer.vocab_size <= 2**16 else {})


def grown(encoder: Any, before: bytes, after: bytes) -> int:
    """Bytes that the output grows by while it takes in `after`."""
    encoder.encode(before)
    return len(encoder.encode(after)) + len(encoder.flush())


if __name__ == "__main__":
    main()
