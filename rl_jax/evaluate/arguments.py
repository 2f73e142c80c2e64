"""Checks of the arrays that are compared; each names the function and the array."""

import chex
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, check_integer


def features(function: str, *, least: int = 1, **arrays: chex.Array) -> int:
    """Refuses what is not [n, D] of the same n ≥ `least` rows, finite.

    Returns:
      n.

    Raises:
      UsageError: for the first array that does not fit.
    """
    rows = same_rows(function, least=least, **arrays)
    for name, x in arrays.items():
        # Their least and greatest: a copy of a million rows would take gigabytes.
        ends = (x.min(), x.max()) if isinstance(x, np.ndarray) and x.size else ()
        if ends and np.isfinite(ends).all():
            largest = max(abs(float(end)) for end in ends)
            if largest > float(jnp.finfo(jnp.float32).max):
                raise UsageError(
                    f"{function}: {name} must fit float32, got up to {largest:.2g}; "
                    "scale them"
                )
        elif not bool(jnp.isfinite(jnp.asarray(x)).all()):
            raise UsageError(
                f"{function}: {name} must be finite, got NaN or inf; the encoder has "
                "diverged"
            )
    return rows


def same_rows(function: str, *, least: int = 1, **arrays: chex.Array) -> int:
    """As `features`, by the shapes alone: nothing is read.

    Returns:
      n.

    Raises:
      UsageError: for the first array that does not fit.
    """
    rows = None
    for name, x in arrays.items():
        if not hasattr(x, "ndim"):
            raise UsageError(
                f"{function}: {name} must be an array, got {type(x).__name__}; use "
                "numpy.asarray"
            )
        if x.ndim != 2 or not x.shape[1] or x.shape[0] < least:
            raise UsageError(
                f"{function}: {name} must be [n, D] with n >= {least} and D >= 1, got "
                f"{x.shape}"
            )
        rows = x.shape[0] if rows is None else rows
        if x.shape[0] != rows:
            raise UsageError(
                f"{function}: all features must be of the same rows, got {rows} and, "
                f"in {name}, {x.shape[0]}"
            )
    assert rows is not None
    return rows


def directions(function: str, *, least: int = 1, **arrays: chex.Array) -> int:
    """As `features`, and refuses rows of length zero, which have no direction.

    Returns:
      n.

    Raises:
      UsageError: for the first array that does not fit.
    """
    rows = features(function, least=least, **arrays)
    for name, x in arrays.items():
        zero = ~(jnp.asarray(x) != 0).any(1)
        if bool(zero.any()):
            raise UsageError(
                f"{function}: row {int(zero.argmax())} of {name} is zero and has no "
                "cosine; leave it out"
            )
    return rows


def same_width(function: str, **arrays: chex.Array) -> None:
    """Refuses [n, D] of different D, which have no inner products.

    Raises:
      UsageError: naming all of them.
    """
    if len({x.shape[1] for x in arrays.values()}) > 1:
        shapes = " and ".join(str(x.shape) for x in arrays.values())
        raise UsageError(
            f"{function}: {' and '.join(arrays)} must be of one width, got {shapes}"
        )


def counts(function: str, least: int = 1, **values: int) -> None:
    """Refuses what is not a whole number of `least` or more.

    Raises:
      UsageError: for the first of them.
    """
    for name, value in values.items():
        check_integer(f"{function}: {name}", value)
        if value < least:
            raise UsageError(f"{function}: {name} must be >= {least}, got {value}")
