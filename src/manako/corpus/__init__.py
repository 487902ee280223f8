"""Where text comes from, and how it becomes a packed corpus of token ids.

documents.py         a path -> documents, each with a name and a text; filters
encodings.py         bytes -> text, strictly: UTF-8, CP932, EUC-JP, or refused
archives.py          the text files inside .tar and .zip, as streams
rows.py              the texts in JSON lines and Parquet
aozora.py            the notation of Aozora Bunko (青空文庫) taken out of a work; modern or historical kana
near_duplicates.py   which documents are the same work
build.py             documents -> a packed corpus: grouped, split, encoded, written
packed.py            a packed corpus, opened: memory-mapped shards, checksums
occurrences.py       where the end of a text occurs, and what came next
"""
