"""Checks of the arguments of augmentations, made while tracing: before compiling."""

import math
from collections.abc import Callable
from typing import Any

import jax

from rl_jax.errors import UsageError, check_integer

Range = tuple[float, float]


def within(op: str, low: float, high: float, **values: float):
    """Raises UsageError unless every value is finite and lies in [low, high]."""
    expected = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"

    def holds(value):
        return low <= value <= high and math.isfinite(value)

    for name, value in values.items():
        _check(op, name, value, expected, holds)


def whole(op: str, low: int, **values: int):
    """Raises UsageError unless every value is a whole number and >= low."""
    within(op, low, math.inf, **values)
    for name, value in values.items():
        check_integer(f"{op}: {name}", value)


def shares(op: str, **values: float):
    """Raises UsageError unless every value lies in (0, 1]."""
    for name, value in values.items():
        _check(op, name, value, "in (0, 1]", lambda v: 0 < v <= 1)


def pairs(op: str, **values: tuple[float, float]):
    """Raises UsageError unless every value is two."""
    for name, value in values.items():
        _check(op, name, value, "two numbers", lambda v: len(v) == 2)


def ordered(op: str, high: float = math.inf, **ranges: Range):
    """Raises UsageError unless every range has 0 < lower <= upper <= high."""
    limit = "" if high == math.inf else f" <= {high:g}"
    expected = f"(low, high) with 0 < low <= high{limit}"

    def holds(value):
        lower, upper = value
        return 0 < lower <= upper <= high and math.isfinite(upper)

    for name, value in ranges.items():
        _check(op, name, value, expected, holds)


def _check(op: str, name: str, value, expected: str, holds: Callable[[Any], bool]):
    try:
        good = holds(value)
    except jax.errors.ConcretizationTypeError:  # traced: nothing is known of it here
        return
    except (TypeError, ValueError):  # it is no number, or are not two
        good = False
    if not good:
        raise UsageError(f"{op}: {name} must be {expected}, got {value}")
