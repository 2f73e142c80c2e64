"""Says while a run goes on when something goes wrong with the representation."""

from collections.abc import Mapping

from rl_jax.verdicts import FIRST, SIGN, Level, judged_from, summary, verdicts

TWICE = 2
"""Log points in a row after which a changed verdict is said: near a threshold it comes
and goes."""

_TOO_FEW = (
    f"; but fewer than {FIRST} steps are too few to tell a failure from a beginning"
)


class Watch:
    """The verdicts of a run, row after row.

    Args:
      steps: of the whole run.
      dims: widths of `h` and `z`.
    """

    def __init__(self, steps: int, dims: Mapping[str, int]):
        self._from, self._dims = judged_from(steps), dims
        self._said: dict[str, Level] = {}
        self._waiting: dict[str, tuple[Level, int]] = {}

    def changes(self, row: Mapping[str, float]) -> list[str]:
        """Lines to print after a row of metrics: mostly none.

        A verdict that is bad or a warning from the start, and each that has changed,
        once it has held for two rows. Nothing in the first steps.
        """
        if row["step"] < self._from:
            return []
        lines = []
        for metric, level, text in verdicts(row, dims=self._dims):
            if level == self._said.get(metric, "good"):
                self._waiting.pop(metric, None)
                continue
            before, count = self._waiting.get(metric, (level, 0))
            count = count + 1 if before == level else 1
            self._waiting[metric] = level, count
            if count >= TWICE:
                del self._waiting[metric]
                self._said[metric] = level
                sign = SIGN.get(level, "better")
                lines.append(f"step {row['step']}: {sign}: {text}")
        return lines

    def conclusion(self, row: Mapping[str, float]) -> str | None:
        """One line on the last row of a run; None where there is nothing to judge."""
        found = verdicts(row, dims=self._dims)
        if not found:
            return None
        few = row["step"] < FIRST and any(v.level != "good" for v in found)
        return f"{summary(found)}{_TOO_FEW if few else ''}"
