"""What a person sees while a run goes on: lines, and a bar on a terminal."""

import sys
import time
from typing import Any


class Console:
    """Lines and the progress of training; a context manager.

    Args:
      steps: steps of the whole run.
      quiet: shows nothing.
    """

    def __init__(self, steps: int, *, quiet: bool = False):
        self._steps, self._quiet = steps, quiet
        self._bar: Any = None
        self._task: Any = None
        self._said = 0.0
        self._from: tuple[int, float] | None = None

    def __enter__(self) -> "Console":
        if sys.stdout.isatty() and not self._quiet:
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}  {task.fields[text]}"),
            )
            self._bar.start()
            self._task = self._bar.add_task("training", total=self._steps, text="")
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._quiet:
            return
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False)

    def row(self, row: dict[str, Any]) -> None:
        """Shows a row of metrics: on the bar, or every ten seconds as a line."""
        if self._quiet:
            return
        now = time.monotonic()
        if self._from is None:
            self._from = (row["step"], now)
        rate = f"rate {row['learning_rate']:.3g}  " if "learning_rate" in row else ""
        text = (
            f"loss {row['loss']:.4f}  {rate}{row['images_per_second']:.0f} images/s  "
            f"data wait {row['data_wait']:.0%}  ETA {self._eta(row['step'], now)}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=row["step"], text=text)
        elif now - self._said > 10 or row["step"] == self._steps:
            self._said = now
            print(f"step {row['step']}/{self._steps}  {text}", flush=True)

    def _eta(self, step: int, now: float) -> str:
        assert self._from is not None
        first, start = self._from
        if step <= first:
            return "..."
        seconds = round((now - start) / (step - first) * (self._steps - step))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return (
            f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        )
