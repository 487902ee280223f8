"""Characters a token of each kind of vocabulary on text that it was not made from, with the time and memory it took.

    python vocabularies.py SOURCE...     text files, folders of them, or archives, as `manako corpus build` takes

Every 50th document is held out. Each vocabulary is made in a process of its own, so that its memory is its own.
"""

import json
import resource
import subprocess
import sys
from itertools import chain
from pathlib import Path

from measure import calibration, report, seconds

from manako.corpus.documents import documents
from manako.tokenizer import Tokenizer, train_byte_bpe, train_character_bpe, train_characters

MAKERS = {
    "characters": lambda texts, min_count: train_characters(texts, min_count),
    "bpe": train_character_bpe,
    "byte-bpe": train_byte_bpe,
}
SIDES = [("characters", 10), *((kind, size) for size in (4096, 8192, 16384) for kind in ("bpe", "byte-bpe"))]


def measure(kind: str, number: int, sources: list[str]) -> dict[str, float]:
    """One vocabulary; number: its size, or the least count of a character."""
    texts = [document.text for document in chain.from_iterable(documents(Path(s)) for s in sources)]
    held_out = [texts.pop(n) for n in range(len(texts) - 1, -1, -50)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made: list[Tokenizer] = []
    took = seconds(lambda: made.append(MAKERS[kind](texts, number)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    encoded = made[0].encode_documents(held_out)
    count = sum(map(len, encoded))
    parts = sum(1 <= i <= 256 and made[0].token_bytes[i] >= b"\x80" for ids in encoded for i in ids)
    return {
        "vocab_size": made[0].vocab_size,
        "train_characters": sum(map(len, texts)),
        "held_out_characters": sum(map(len, held_out)),
        "characters_per_token": round(sum(map(len, held_out)) / count, 3),
        "bytes_per_token": round(sum(len(t.encode()) for t in held_out) / count, 3),
        "share_of_tokens_that_are_one_byte_of_a_character": round(parts / count, 4),
        "seconds": round(took, 1),
        "gigabytes_more_than_the_texts": round((peak - before) / 1e6, 2),
    }


def main(sources: list[str]) -> None:
    start = calibration()
    results = {}
    for kind, number in SIDES:
        command = [sys.executable, __file__, "--one", kind, str(number), *sources]
        results[f"{kind} {number}"] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    report("vocabularies", "none: figures for docs/tokenizers.md", start, results=results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), sys.argv[4:])))
    else:
        main(sys.argv[1:])
