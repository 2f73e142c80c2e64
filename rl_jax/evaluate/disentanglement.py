"""Whether single dimensions of a code are single factors of the data."""

import chex
import numpy as np
from scipy.optimize import linear_sum_assignment

from rl_jax.errors import UsageError


def mean_correlation(z: chex.Array, s: chex.Array) -> float:
    """MCC, mean correlation coefficient (Khemakhem et al. 2020, arXiv:1907.04809).

    The mean |Pearson correlation| of source and dimension, with each source paired to a
    dimension of its own so that the mean is largest (linear assignment). 1 when z are
    the sources up to order, scale, shift and sign. A random rotation already scores
    about 0.9 with two sources, less with more.

    Args:
      z: [n, d] codes, d ≥ k; a constant dimension correlates with nothing.
      s: [n, k] true sources.

    Returns:
      In [0, 1].

    Raises:
      UsageError: for shapes that do not fit, values that are not finite, or a constant
        source.
    """
    z, s = np.asarray(z, np.float64), np.asarray(s, np.float64)
    if z.ndim != 2 or s.ndim != 2 or len(z) != len(s) or len(z) < 2:
        raise UsageError(
            "mean_correlation: expected codes [n, d] and sources [n, k] with n >= 2, "
            f"got {z.shape}, {s.shape}"
        )
    if z.shape[1] < s.shape[1]:
        raise UsageError(
            f"mean_correlation: {z.shape[1]} dimensions cannot be paired with "
            f"{s.shape[1]} sources; use a code of at least as many dimensions"
        )
    if not (np.isfinite(z).all() and np.isfinite(s).all()):
        raise UsageError("mean_correlation: codes and sources must be finite")
    if np.any(s.max(0) == s.min(0)):
        column = int(np.argmax(s.max(0) == s.min(0)))
        raise UsageError(
            f"mean_correlation: source {column} is constant, so nothing correlates "
            "with it; leave it out"
        )
    table = np.abs(_standard(z).T @ _standard(s)) / len(z)
    pairs = linear_sum_assignment(table, maximize=True)
    return float(table[pairs].mean())


def _standard(x: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1; 0 where a column is constant."""
    constant = x.max(0) == x.min(0)
    spread = np.where(constant, 1.0, x.std(0))
    return np.where(constant[None], 0.0, (x - x.mean(0)[None]) / spread[None])
