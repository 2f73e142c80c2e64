"""Checks of the arguments of methods; each names the factory and the argument."""

import jax.numpy as jnp

from rl_jax.errors import UsageError, known


def positive(factory: str, **values: float) -> None:
    """Refuses numbers that are not > 0 and finite.

    Raises:
      UsageError: for the first of them.
    """
    for name, value in values.items():
        _within(factory, name, value, "> 0 and finite", lambda v: 0 < v < jnp.inf)


def not_negative(factory: str, **values: float) -> None:
    """Refuses numbers that are not ≥ 0 and finite.

    Raises:
      UsageError: for the first of them.
    """
    for name, value in values.items():
        _within(factory, name, value, ">= 0 and finite", lambda v: 0 <= v < jnp.inf)


def shares(factory: str, **values: float) -> None:
    """Refuses numbers outside [0, 1].

    Raises:
      UsageError: for the first of them.
    """
    for name, value in values.items():
        _within(factory, name, value, "in [0, 1]", lambda v: 0 <= v <= 1)


def at_least(factory: str, least: int, **counts: int) -> None:
    """Refuses counts below `least`, and what is no whole number.

    Raises:
      UsageError: for the first of them.
    """
    for name, count in counts.items():
        number = known(count)
        if number is not None and number.dtype.kind not in "iu":
            raise UsageError(f"{factory}: {name} must be a whole number, got {count!r}")
        _within(factory, name, count, f"at least {least}", lambda n: n >= least)


def _within(factory: str, name: str, value, expected: str, holds) -> None:
    # A sweep may trace a number; nothing is known of it here.
    number = known(value)
    if number is None:
        return
    if number.dtype.kind not in "iuf" or not holds(number):
        raise UsageError(f"{factory}: {name} must be {expected}, got {value!r}")
