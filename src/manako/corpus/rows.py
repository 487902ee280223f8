"""Texts that are rows of a table: JSON lines, and Parquet through the optional pyarrow.

Special here: read strictly, so that a wrong field name or one broken line is an error with its place, not a corpus that
is quietly smaller; only rows whose text is blank are passed over. A line or row is in memory, never the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from manako.errors import LoadError, MissingExtraError
from manako.files import strict_json

LONGEST_LINE = 64 * 2**20  # bytes
_ROWS_AT_A_TIME = 64


@dataclass(frozen=True)
class Row:
    """One text of a table."""

    name: str
    """The file and the row, counted from 1."""
    text: str
    title: str | None
    author: str | None


def json_lines(name: str, stream: BinaryIO, field: str) -> Iterator[Row]:
    """The rows of a JSON lines file in UTF-8: one object a line, its text in `field`.

    Raises LoadError naming file and line for what is no JSON object, has no such field or no text in it.
    """
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise LoadError("corpus_line_too_long", file=f"{name}:{number}", limit=LONGEST_LINE)
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
            row = _row(f"{name}:{number}", strict_json(line, f"{name}:{number}"), field)
            if row.text.strip():
                yield row


def parquet(path: Path, field: str) -> Iterator[Row]:
    """The rows of a Parquet file, its text in the column `field`.

    Raises MissingExtraError without pyarrow, LoadError for a damaged file or one that has no such column of text.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError("missing_pyarrow")
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = [name for name in (field, "title", "author") if name in file.schema_arrow.names]
            if field not in columns:
                known = ", ".join(file.schema_arrow.names)
                raise LoadError("corpus_field_missing", file=path, field=field, known=known)
            for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    row = _row(f"{path}:{number}", values, field)
                    if row.text.strip():
                        yield row
    except (pyarrow.ArrowException, OSError) as error:
        raise LoadError("file_unreadable", file=path, reason=error) from None


def _row(name: str, values: dict[str, Any], field: str) -> Row:
    if field not in values:
        raise LoadError("corpus_field_missing", file=name, field=field, known=", ".join(values))
    if not isinstance(values[field], str):
        raise LoadError("corpus_field_no_text", file=name, field=field, kind=type(values[field]).__name__)
    known = {key: value for key in ("title", "author") if isinstance(value := values.get(key), str)}
    text = values[field].replace("\r\n", "\n").replace("\r", "\n")
    return Row(name, text, known.get("title"), known.get("author"))
