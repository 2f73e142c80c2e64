"""Checks of the arguments of augmentations, made while tracing: before compiling."""

import math

from rl_jax.errors import UsageError

Range = tuple[float, float]


def within(op: str, low: float, high: float, **values: float):
    """Raises UsageError unless every value is finite and lies in [low, high]."""
    for name, value in values.items():
        if not (math.isfinite(value) and low <= value <= high):
            expected = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
            raise UsageError(f"{op}: {name} must be {expected}, got {value}")


def ordered(op: str, high: float = math.inf, **ranges: Range):
    """Raises UsageError unless every range has 0 < lower <= upper <= high."""
    for name, value in ranges.items():
        lower, upper = value
        if not (math.isfinite(upper) and 0 < lower <= upper <= high):
            limit = "" if high == math.inf else f" <= {high:g}"
            raise UsageError(
                f"{op}: {name} must be (low, high) with 0 < low <= high{limit}, "
                f"got {tuple(value)}"
            )
