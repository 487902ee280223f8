"""Where a text occurs in a packed corpus: one search of the training side against one plain read of the same files.

    python benchmarks/evidence.py PACKED [TEXT ...]

Both sides read memory-mapped files that are in the page cache; the plain read takes the largest id. Correctness first:
the counts of each text are those of Python's own search in the decoded documents, or no time is taken. Peak memory is
that of a process of its own, beside one that opens the corpus and searches nothing. Target: 70 M tokens in <= 1 s.
"""

import subprocess
import sys
from pathlib import Path

from measure import calibration, interleaved, ratio, report

from manako.corpus.occurrences import occurrences
from manako.corpus.packed import PackedCorpus, open_packed
from manako.tokenizer import Tokenizer

TEXTS = ("私は", "吾輩は猫", "の")  # the last one ends with the most frequent character of the works
LONGEST = 16
PROCESS = """
import sys
from pathlib import Path
from manako.corpus.occurrences import occurrences
from manako.corpus.packed import open_packed
corpus = open_packed(Path(sys.argv[1]))
for ids in sys.argv[2:]:
    occurrences(corpus.train, [int(i) for i in ids.split()], corpus.start_id, 16)
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
"""


def main() -> None:
    folder, texts = Path(sys.argv[1]), sys.argv[2:] or TEXTS
    corpus = open_packed(folder)
    tokenizer = Tokenizer(corpus.tokenizer_source)
    contexts = {text: tokenizer.encode(text) for text in texts}
    counts = {text: search(corpus, ids) for text, ids in contexts.items()}
    check(corpus, tokenizer, contexts, counts)

    start = calibration()
    sides = {text: lambda ids=ids: search(corpus, ids) for text, ids in contexts.items()}
    times = interleaved(sides | {"plain read": lambda: plain_read(corpus)})
    nothing, searched = peak(folder, []), peak(folder, list(contexts.values()))
    report(
        "evidence",
        "70 M tokens in <= 1 s",
        start,
        tokens=len(corpus.train),
        counts=counts,
        against_plain_read={text: ratio(times[text], times["plain read"]) for text in texts},
        seconds=times,
        peak_rss_mb={"search": searched, "open only": nothing},
    )


def search(corpus: PackedCorpus, ids: list[int]) -> list[int]:
    """How often the last 1, 2 ... of these ids occur."""
    return [o.count for o in occurrences(corpus.train, ids, corpus.start_id, LONGEST)]


def plain_read(corpus: PackedCorpus) -> int:
    """Every id, once."""
    return max(int(shard.open().max()) for shard in corpus.train.shards)


def check(
    corpus: PackedCorpus, tokenizer: Tokenizer, contexts: dict[str, list[int]], counts: dict[str, list[int]]
) -> None:
    """For texts whose tokens are characters: the same counts by `bytes.find` in the decoded documents."""
    wanted = {(text, n): tokenizer.decode(ids[-n:]) for text, ids in contexts.items() for n in range(1, len(ids) + 1)}
    found = dict.fromkeys(wanted, 0)
    for ids in corpus.train.documents(corpus.start_id):
        data = tokenizer.decode(ids.tolist())
        for key, needle in wanted.items():
            at = data.find(needle)
            while at >= 0:
                found[key] += 1
                at = data.find(needle, at + 1)
    for text, ids in contexts.items():
        expected = [found[text, n] for n in range(1, len(ids) + 1) if found[text, n]]
        assert counts[text] == expected, f"{text}: {counts[text]}, should be {expected}"


def peak(folder: Path, contexts: list[list[int]]) -> float:
    """Peak memory in MB of a process that opens the corpus and searches for these ids."""
    words = [" ".join(map(str, ids)) for ids in contexts]
    command = [sys.executable, "-c", PROCESS, str(folder), *words]
    # not ru_maxrss, which begins with what this process had when it forked
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


if __name__ == "__main__":
    main()
