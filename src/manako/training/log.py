"""metrics.jsonl while a run is trained: one line after the other, each whole or not there.

Special here: a log that cannot be written, as on a full disk, ends no training. The lines can be counted again from a
checkpoint, the steps since the last one cannot; so it is said once, and each further line is tried anew.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Log:
    """report(key, **values) gets a catalog key for the line that a person should see."""

    def __init__(self, path: Path, report: Callable[..., None]) -> None:
        self._path, self._report, self._told = path, report, False
        self._add(b"")  # from its first step on a run has a log

    def add(self, line: Mapping[str, Any]) -> None:
        """Put a line at the end."""
        self._add((json.dumps(line) + "\n").encode())

    def _add(self, data: bytes) -> None:
        try:
            _append(self._path, data)
        except OSError as error:
            if not self._told:
                self._report("train.log_not_written", file=self._path, reason=error.strerror or error)
            self._told = True


def _append(path: Path, data: bytes) -> None:
    """Raises OSError; of what was written by then nothing stays, or the next line would be joined to it."""
    with path.open("ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[stream.write(data) :]
        except OSError:
            with contextlib.suppress(OSError):
                stream.truncate(end)
            raise
