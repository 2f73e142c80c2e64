"""What an experiment finds: each number beside the one expected."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np

Relation = Literal["=", "≤", "≥"]


class Check(NamedTuple):
    """A number beside what it should be.

    Attributes:
      quantity: what was measured, with its setting ("rate at β = 3").
      found: the number; over seeds the one that is furthest from passing.
      relation: how it should stand to `expected`.
      expected: of a closed form, of a reference in float64, or a bound.
      tolerance: how far it may miss, in the unit of `found`.
      unit: "nat", "bit", "s", ...; "" for a pure number.
    """

    quantity: str
    found: float
    relation: Relation
    expected: float
    tolerance: float = 0.0
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the relation holds; never for what is not finite."""
        if not all(map(math.isfinite, (self.found, self.expected, self.tolerance))):
            return False
        if self.relation == "=":
            return abs(self.found - self.expected) <= self.tolerance
        if self.relation == "≤":
            return self.found <= self.expected + self.tolerance
        return self.found >= self.expected - self.tolerance


def equal(
    quantity: str, found: Any, expected: float, *, tolerance: float, unit: str = ""
) -> Check:
    """|found − expected| ≤ tolerance; of several the furthest away is kept."""
    values = np.asarray(found, np.float64).ravel()
    return Check(
        quantity,
        float(values[_worst(np.abs(values - expected))]),
        "=",
        float(expected),
        tolerance,
        unit,
    )


def at_most(quantity: str, found: Any, bound: float, *, unit: str = "") -> Check:
    """Found ≤ bound; of several the largest is kept."""
    values = np.asarray(found, np.float64).ravel()
    return Check(quantity, float(values[_worst(values)]), "≤", float(bound), unit=unit)


def at_least(quantity: str, found: Any, bound: float, *, unit: str = "") -> Check:
    """Found ≥ bound; of several the smallest is kept."""
    values = np.asarray(found, np.float64).ravel()
    return Check(quantity, float(values[_worst(-values)]), "≥", float(bound), unit=unit)


def _worst(misses: np.ndarray) -> int:
    """Index of the largest miss; what is not finite is worse than all."""
    return int(np.argmax(np.where(np.isfinite(misses), misses, np.inf)))


class Outcome(NamedTuple):
    """What `run` returns.

    Attributes:
      checks: at least one.
      data: arrays that `draw` needs, by name; plain NumPy.
      said: one or two sentences: what was found, with its numbers.
      correction: where the text's claim does not hold as stated: how it must be put,
        with the number; "" where it holds.
    """

    checks: tuple[Check, ...]
    data: dict[str, Any]
    said: str
    correction: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check holds; never without one."""
        return bool(self.checks) and all(check.passed for check in self.checks)
