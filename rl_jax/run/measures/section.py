"""What a measure gives: values for the record and sentences for people."""

import math
from typing import Any, NamedTuple

import numpy as np

from rl_jax import evaluate


class Section(NamedTuple):
    """One measure of an evaluation.

    Attributes:
      title: a few words.
      lines: a sentence for each number: its uncertainty, what it means.
      values: what the record holds of it, JSON apart from NumPy scalars.
    """

    title: str
    lines: list[str]
    values: dict[str, Any]


def record(section: Section) -> dict[str, Any]:
    """The section as it stands in the record: plain JSON, null where not finite."""
    return plain({"title": section.title, "lines": section.lines} | section.values)


def plain(value: Any) -> Any:
    """JSON of nested dicts, lists and arrays; NaN and infinities become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def number(value: float, low: float | None = None, high: float | None = None) -> dict:
    """A number with its 95 % interval; None where it is exact or not known."""
    return {"value": value, "low": low, "high": high}


def interval(found: evaluate.Interval) -> dict:
    """An interval of one number as a `number`."""
    return number(*map(float, found))


def shown(entry: dict, digits: int = 3) -> str:
    """`0.971 [0.950, 0.984]` of a `number`; words for NaN and infinities."""
    value, low, high = entry["value"], entry["low"], entry["high"]
    if not math.isfinite(value):
        return "not defined"
    if low is None or high is None or not math.isfinite(high - low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
