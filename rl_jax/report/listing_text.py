"""The runs of a folder as a table for a terminal, and for programs."""

import datetime
from collections.abc import Sequence
from typing import Any

from rl_jax.report.listing import Row

HEAD = ("run", "method", "data", "step", "status", "probe", "k-NN", "written")


def table(rows: Sequence[Row]) -> str:
    """The rows as text; what is wrong with one stands below it."""
    cells = [tuple(map(_short, row)) for row in (HEAD, *map(_cells, rows))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
    right = {HEAD.index(name) for name in ("step", "probe", "k-NN")}
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    said = [row.reason for row in rows]
    out = [lines[0], "-" * max(map(len, lines))]
    for line, reason in zip(lines[1:], said, strict=True):
        out += [line, *([f"  {reason}"] if reason else [])]
    return "\n".join(out)


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _cells(row: Row) -> tuple[str, ...]:
    step = "" if row.step is None else f"{row.step:,}"
    if row.steps is not None:
        step = f"{step or '0'}/{row.steps:,}"
    stale = row.evaluated != row.step and row.status != "running"
    of = f" at {row.evaluated:,}" if stale and row.evaluated is not None else ""
    scores = ("" if x is None else f"{x:.3f}{of}" for x in (row.probe, row.knn))
    when = "" if row.time is None else f"{_local(row.time):%Y-%m-%d %H:%M}"
    return row.name, row.method or "", row.data or "", step, row.status, *scores, when


def content(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for a program: as they are, times by ISO 8601."""
    return [
        row._asdict()
        | {
            "time": None
            if row.time is None
            else _local(row.time).isoformat(timespec="seconds")
        }
        for row in rows
    ]


def _local(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds).astimezone()
