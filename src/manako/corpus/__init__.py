"""Where text comes from, and how it becomes a packed corpus of token ids.

documents.py         a path -> documents, each with a name and a text; filters
encodings.py         bytes -> text, strictly: UTF-8, CP932, EUC-JP, or refused
archives.py          the text files inside .tar and .zip, as streams
rows.py              the texts in JSON lines and Parquet
aozora.py            the notation of Aozora Bunko (青空文庫) taken out of a work; modern or historical kana
near_duplicates.py   which documents are the same work
settings.py          all that a corpus can be told, with its defaults; which vocabulary
packing.py           documents -> a packed corpus: grouped, split, encoded, written
packed.py            a packed corpus, opened: memory-mapped shards, checksums
sample.py            a smaller packed corpus out of one: fewer training documents, less held out
occurrences.py       where the end of a text occurs, and what came next
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manako.corpus.packed import PackedCorpus


def build(
    sources: str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    report: Callable[..., None] = lambda key, **values: None,
    **settings: Any,
) -> "PackedCorpus":
    """Read text and pack it into a new folder, whole or not at all; what `manako corpus build` does.

    sources: files, folders, archives, or "-" for standard input. settings: fields of `CorpusSettings`, such as
    tokenizer="bpe", vocab_size=4096, validation=0.1, authors=["夏目漱石"]. report(key, **values) gets a catalog key for
    each line that a person should see. Raises UsageError for a setting that makes no sense, LoadError for what cannot
    be read, ManakoError when the folder is there already.
    """
    from manako.corpus.documents import read
    from manako.corpus.packing import pack
    from manako.corpus.settings import CorpusSettings, check_names, check_sources
    from manako.files import printable

    check_names(settings, CorpusSettings.__dataclass_fields__)
    chosen, named = CorpusSettings(**settings), check_sources("sources", sources)
    return pack(
        read(named, chosen, report),
        Path(folder),
        chosen.make_vocabulary(),
        validation_share=chosen.validation,
        settings=chosen.on_record(),
        sources=[printable(source) for source in named],
        report=report,
    )
