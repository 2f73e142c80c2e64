"""What a person sees: a table for each experiment, a bar where there is a terminal."""

import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from experiments import record
from experiments.catalogue import Entry
from experiments.outcome import Check
from experiments.record import Record

WIDTH = 88
QUANTITY = 48
HEADER = ("quantity", "found", "", "expected", "tolerance", "unit", "")


class Progress:
    """Says what runs and what came of it; a context manager.

    Args:
      count: of the experiments that will run.
    """

    def __init__(self, count: int):
        self._count = count
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty():
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("{task.completed}/{task.total}"),
                progress.BarColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("{task.description}"),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._count)
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, name: str) -> None:
        """Shows on the bar what runs now."""
        if self._bar is not None:
            self._bar.update(self._task, description=name)

    def done(self, found: Record) -> None:
        """Prints what was found, above the bar if there is one."""
        for line in lines(found):
            if self._bar is None:
                print(line, flush=True)
            else:
                bad = line.lstrip().startswith("✗") or line.endswith("✗ fail")
                text = Text(line, style="red" if bad else "")
                self._bar.console.print(text, soft_wrap=True)
        if self._bar is not None:
            self._bar.advance(self._task)


def lines(found: Record) -> list[str]:
    """What is printed of one: a line, the table, what was said, the correction."""
    entry, mark = found.entry, "✓" if found.passed else "✗"
    head = f"{mark} {entry.section:<5} {entry.name:<24} {found.seconds:6.1f} s  "
    out = [f"{head}{found.verdict:<5}  {entry.title}".rstrip()]
    if found.outcome is not None:
        out += [f"    {line}" for line in table(found.outcome.checks)]
        out += _wrapped(found.outcome.said)
    if found.correction:
        out += _wrapped(f"Correction to the text: {found.correction}")
    if found.error:
        out.append(f"    ✗ {found.error}")
    return [*out, ""]


def table(checks: Sequence[Check]) -> list[str]:
    """The checks of an experiment, aligned."""
    rows = []
    for check in checks:
        value, expected, tolerance = record.digits(check)
        word = "✓ pass" if check.passed else "✗ fail"
        row = (value, check.relation, expected, tolerance, check.unit, word)
        first, *more = textwrap.wrap(check.quantity, QUANTITY) or [""]
        rows.append((first, *row))
        rows += [(f"  {rest}", *[""] * len(row)) for rest in more]
    columns = zip(HEADER, *rows, strict=True)
    header = [name if any(cells) else "" for name, *cells in columns]
    return _aligned([header, *rows], right=(1, 3, 4))


def summary(records: Sequence[Record], seconds: float) -> str:
    """The last line but one: how many hold, and which do not."""
    bad = [found.entry.name for found in records if not found.passed]
    corrected = sum(bool(found.correction) for found in records)
    parts = [f"{len(records) - len(bad)} of {len(records)} hold"]
    if corrected:
        parts.append(f"{corrected} with a correction to the text")
    if bad:
        parts.append(f"not {', '.join(bad)}")
    return f"{', '.join(parts)}; {seconds:.1f} s"


def listed(entries: Sequence[Entry]) -> str:
    """A line for each: section, name, title."""
    rows = [(entry.section, entry.name, entry.title) for entry in entries]
    return "\n".join(_aligned(rows))


def explained(entries: Sequence[Entry]) -> str:
    """The docstring of each, and the options that it has."""
    out = []
    for entry in entries:
        text = textwrap.indent("\n".join([entry.claim, "", entry.text]).strip(), "  ")
        flags = [f"    {flag}" for flag in entry.flags]
        head = f"{entry.name}  {entry.section}  {entry.title}".rstrip()
        out.append("\n".join([head, "", text, "", *flags, ""]))
    return "\n".join(out)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="    ", subsequent_indent="    "
    )  # fmt: skip


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Columns two spaces apart; empty ones are left out."""
    width = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    out = []
    for row in rows:
        cells = []
        for k, (cell, wide) in enumerate(zip(row, width, strict=True)):
            gap = " " * (wide - cell_len(cell))
            cells += [gap + cell if k in right else cell + gap] if wide else []
        out.append("  ".join(cells).rstrip())
    return out
