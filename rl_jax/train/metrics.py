"""The metrics of a run: one JSON object a line, appended, safe against a kill."""

import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

from rl_jax import files
from rl_jax.errors import RunError

CLOCK = ("time", "images_per_second", "data_wait")
"""Fields that depend on the clock; all others repeat exactly on a resumed run."""


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a metrics file in order of steps, without lines that are none."""
    if not path.exists():
        return []
    rows = {}
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            rows[int(row["step"])] = row
        except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
            # Torn, or changed on the disk.
            continue
    return [rows[step] for step in sorted(rows)]


def keep_rows(path: pathlib.Path, *, up_to: int) -> None:
    """Drops rows after step `up_to` and torn lines; replaces the file atomically."""
    if not path.exists():
        return
    rows = [row for row in read_rows(path) if row["step"] <= up_to]
    _replace(path, rows)


def _replace(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _for_json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v
        for k, v in row.items()
    }


NEWLINE = b"\n"


class MetricsFile:
    """Appends rows to a file; a context manager.

    Where the file cannot be written (full disk), that is said once and the rows wait in
    memory: every later write, and the end, tries again.

    Args:
      path: of the file; its folder is made.
      say: called with one line where something has to be said.
    """

    def __init__(self, path: pathlib.Path, *, say: Callable[[str], None] = print):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._say = path, say
        # Unbuffered: what a failed write took, and what it left, is then known.
        self._file = path.open("ab", buffering=0)
        self._waiting = b""
        self._reason = ""
        self._warned = self._late = False

    def write(self, row: dict[str, Any]) -> None:
        """Appends one row; NaN and infinities become null, which JSON can hold."""
        self._waiting += json.dumps(_for_json(row)).encode() + NEWLINE
        self._flush(sync=False)

    def replace(self, row: dict[str, Any]) -> None:
        """Puts a row in the place of that of its step, or appends it if there is none.

        A kill leaves one of the two. Where the file cannot be replaced the row is
        appended as well: of two rows of a step readers take the later.
        """
        if not self._waiting:
            step = row["step"]
            others = [other for other in read_rows(self._path) if other["step"] != step]
            try:
                rows = sorted([*others, _for_json(row)], key=lambda each: each["step"])
                _replace(self._path, rows)
                file = self._path.open("ab", buffering=0)
            except OSError:
                pass
            else:
                self._file.close()
                self._file = file
                return
        self.write(row)

    def sync(self) -> None:
        """Returns when all rows are on disk, or it was said that they are not."""
        self._flush(sync=True)

    def check(self) -> None:
        """Raises if rows are still waiting.

        Raises:
          RunError: with their number and the reason.
        """
        if self._waiting:
            raise RunError(
                f"the run ended, but {self._waiting.count(NEWLINE)} rows are missing "
                f"from {self._path}: {self._reason}; its checkpoints are saved"
            )

    def _flush(self, *, sync: bool) -> None:
        try:
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
            if sync:
                os.fsync(self._file)
        except OSError as error:
            self._reason = error.strerror or str(error)
            if not self._warned:
                self._say(
                    f"warning: {self._path} cannot be written ({self._reason}): "
                    "training goes on and the rows wait in memory, make room"
                )
            self._warned, self._late = True, bool(self._waiting)
            return
        if self._late:
            self._say(f"{self._path} is written again, no row is missing")
            self._warned = self._late = False

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, *error) -> None:
        self._flush(sync=False)
        self._file.close()
