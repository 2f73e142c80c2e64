"""Codes beside the true factors of the data: checked, standardised, in bins."""

import numpy as np

from rl_jax.errors import UsageError


def checked_factors(
    name: str, z, s, *, word: str = "factor", least: tuple[int, int] = (1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """Float64 codes [n, d] and float64 or int factors [n, k], n ≥ 2, none constant.

    Args:
      name: of the measure.
      z, s: the codes and the factors.
      word: what the measure calls a factor.
      least: d and k it needs.

    Raises:
      UsageError: for anything else.
    """
    z, s = np.asarray(z, np.float64), np.asarray(s)
    if not np.issubdtype(s.dtype, np.integer):
        s = s.astype(np.float64)
    if z.ndim != 2 or s.ndim != 2 or len(z) != len(s) or len(z) < 2:
        raise UsageError(
            f"{name}: expected codes [n, d] and {word}s [n, k] with n >= 2, got "
            f"{z.shape}, {s.shape}"
        )
    if z.shape[1] < least[0] or s.shape[1] < least[1]:
        raise UsageError(
            f"{name}: needs at least {least[0]} dimensions and {least[1]} {word}s, "
            f"got {z.shape[1]} and {s.shape[1]}"
        )
    if not (np.isfinite(z).all() and np.isfinite(s).all()):
        raise UsageError(f"{name}: codes and {word}s must be finite, got NaN or inf")
    constant = s.max(0) == s.min(0)
    if constant.any():
        raise UsageError(
            f"{name}: {word} {int(constant.argmax())} is constant, so nothing can "
            "tell of it; leave it out"
        )
    return z, s


def standard(x: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1; 0 where a column is constant."""
    constant = x.max(0) == x.min(0)
    # By a power of two, which rounds nothing: squares must be in range.
    x = np.ldexp(x, -np.frexp(np.abs(x).max(0))[1][None])
    spread = np.where(constant, 1.0, x.std(0))
    return np.where(constant[None], 0.0, (x - x.mean(0)[None]) / spread[None])


def checked_bins(name: str, bins: int, n: int) -> None:
    """Refuses a number of bins outside [2, n].

    Raises:
      UsageError: for it.
    """
    if not 2 <= bins <= n:
        raise UsageError(
            f"{name}: bins must be in [2, {n}], the number of examples, got {bins}"
        )


def in_bins(x: np.ndarray, bins: int) -> np.ndarray:
    """Int [n, m] ≥ 0: integers by their value, others by bins of equal width."""
    if np.issubdtype(x.dtype, np.integer):
        columns = [np.unique(column, return_inverse=True)[1] for column in x.T]
        return np.stack(columns, axis=1)
    low, width = x.min(0), x.max(0) - x.min(0)
    place = np.floor((x - low) / np.where(width > 0, width, 1.0) * bins)
    return np.minimum(place, bins - 1).astype(int)
