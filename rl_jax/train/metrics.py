"""The metrics of a run: one JSON object a line, appended, safe against a kill."""

import json
import math
import os
import pathlib
from typing import Any

CLOCK = ("time", "images_per_second", "data_wait")
"""Fields that depend on the clock; all others repeat exactly on a resumed run."""


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a metrics file in order of steps; a torn last line is left out."""
    if not path.exists():
        return []
    rows = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


def keep_rows(path: pathlib.Path, *, up_to: int) -> None:
    """Drops rows after step `up_to` and torn lines; replaces the file atomically."""
    if not path.exists():
        return
    rows = [row for row in read_rows(path) if row["step"] <= up_to]
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(draft, path)


class MetricsFile:
    """Appends rows to a file; a context manager."""

    def __init__(self, path: pathlib.Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")

    def write(self, row: dict[str, Any]) -> None:
        """Appends one row; NaN and infinities become null, which JSON can hold."""
        row = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in row.items()
        }
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Returns when all rows are on disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, *error) -> None:
        self._file.close()
