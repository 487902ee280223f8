"""The finished runs of a sweep as a Parquet table: a column for each setting that varies and for each figure."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from manako.analysis.sweep import Outcome
from manako.files import write_file

PARQUET = "results.parquet"


def write_parquet(sweep: Path, outcomes: Sequence[Outcome]) -> None:
    """Put results.parquet in place; pyarrow is there. A setting that is a figure's name keeps the figure's column."""
    import pyarrow
    import pyarrow.parquet

    rows = [_row(outcome) for outcome in outcomes]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({n: _one_type(values) for n, values in columns.items()}), stream)
    write_file(sweep / PARQUET, stream.getvalue())


def _row(outcome: Outcome) -> dict[str, Any]:
    figures = {name: value for name, value in asdict(outcome).items() if name != "varied"}
    derived = {"epochs": outcome.epochs, "context": outcome.context}
    return {"run": outcome.run, **outcome.varied, **figures, **derived}


def _one_type(values: list[Any]) -> list[Any]:
    """Whole numbers among others as floats: a column has one type."""
    return [float(v) if type(v) is int else v for v in values] if any(type(v) is float for v in values) else values
