"""Texts that are rows of a table: JSON lines, and Parquet through the optional pyarrow.

Special here: read strictly, so that a wrong field name or one broken line is an error with its place, not a corpus that
is quietly smaller; only rows whose text is blank are passed over. Fields that nobody reads are not judged: pandas
writes NaN into them. A line or row is in memory, never the file.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

from manako.corpus.archives import refuse_bomb
from manako.errors import LoadError, MissingExtraError
from manako.files import printable

LONGEST_LINE = 64 * 2**20  # bytes
_ROWS_AT_A_TIME = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """One text of a table."""

    name: str
    """The file and the row, counted from 1."""
    text: str
    title: str | None
    author: str | None


Bad = Callable[[LoadError], None]  # raises the error, or counts it


def json_lines(name: str, stream: BinaryIO, field: str, bad: Bad) -> Iterator[Row]:
    """The rows of a JSON lines file in UTF-8: one object a line, its text in `field`.

    bad is called with a LoadError naming file and line for what is no JSON object, has no such field or no text in it.
    """
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        place = f"{name}:{number}"
        if len(line) > LONGEST_LINE:
            raise LoadError("corpus_line_too_long", file=place, limit=LONGEST_LINE)
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        try:
            row = _row(place, _fields(line, place), field) if line.strip() else None
        except LoadError as error:
            bad(error)
            continue
        if row and row.text.strip():
            yield row


def parquet(path: Path, field: str, bad: Bad) -> Iterator[Row]:
    """The rows of a Parquet file, its text in the column `field`.

    bad is called with a LoadError for a row without text in that column. Raises MissingExtraError without pyarrow,
    LoadError for a damaged file, one without one such column of values, and one whose texts together are those of a
    bomb.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError("missing_pyarrow")
    import pyarrow
    import pyarrow.parquet

    number, size, inflated = 0, path.stat().st_size, 0
    try:
        schema = pyarrow.parquet.read_schema(path)
        there = Counter(schema.names)
        if field not in there:
            raise LoadError("corpus_field_missing", file=path, field=field, known=", ".join(there))
        if there[field] > 1:
            raise LoadError("corpus_field_twice", file=path, field=field)
        if pyarrow.types.is_nested(kind := schema.field(field).type):
            raise LoadError("corpus_field_no_text", file=path, field=field, kind=kind)
        columns = [name for name in (field, "title", "author") if there[name] == 1]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=[field]) as file:  # or shared texts would be copied
            for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=columns):
                for index in range(batch.num_rows):
                    number += 1
                    try:
                        values = {name: batch.column(name)[index].as_py() for name in columns}
                        row = _row(f"{path}:{number}", values, field)
                    except UnicodeDecodeError:
                        bad(LoadError("corpus_field_no_utf8", file=f"{path}:{number}", field=field))
                        continue
                    except LoadError as error:
                        bad(error)
                        continue
                    inflated += len(row.text)
                    refuse_bomb(path, size, inflated)
                    if row.text.strip():
                        yield row
    except (pyarrow.ArrowException, OSError) as error:
        raise LoadError("file_unreadable", file=path, reason=error) from None


_TWICE = object()  # the value of a key that an object has twice


def _fields(line: bytes, name: str) -> dict[str, Any]:
    """One JSON object, of which only what is asked for is judged later. Raises LoadError for what is none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            found[key] = _TWICE if key in found else value
        return found

    try:
        # Numbers are never read: a whole number of 5,000 digits is as good as any.
        parsed: object = json.loads(line.decode("utf-8"), object_pairs_hook=once, parse_int=float, parse_float=float)
    except (ValueError, RecursionError) as error:
        raise LoadError("json_invalid", file=name, reason=error) from None
    if not isinstance(parsed, dict):
        raise LoadError("json_invalid", file=name, reason="not an object")
    return cast("dict[str, Any]", parsed)


def _row(name: str, values: dict[str, Any], field: str) -> Row:
    if field not in values:
        raise LoadError("corpus_field_missing", file=name, field=field, known=", ".join(values))
    text = values[field]
    if text is _TWICE:
        raise LoadError("corpus_field_twice", file=name, field=field)
    if not isinstance(text, str):
        raise LoadError("corpus_field_no_text", file=name, field=field, kind=type(text).__name__)
    if half := _SURROGATE.search(text):
        raise LoadError("corpus_field_surrogate", file=name, field=field, place=half.start() + 1)
    known = {key: printable(value) for key in ("title", "author") if isinstance(value := values.get(key), str)}
    return Row(name, text.replace("\r\n", "\n").replace("\r", "\n"), known.get("title"), known.get("author"))
