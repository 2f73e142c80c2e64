"""Whether single dimensions of a code are single factors of the data."""

import chex
import numpy as np
from scipy.optimize import linear_sum_assignment

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.factors import checked_factors, standard


@checked
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
    z, s = checked_factors("mean_correlation", z, s, word="source")
    if z.shape[1] < s.shape[1]:
        raise UsageError(
            f"mean_correlation: {z.shape[1]} dimensions cannot be paired with "
            f"{s.shape[1]} sources; use a code of at least as many dimensions"
        )
    table = np.abs(standard(z).T @ standard(s)) / len(z)
    pairs = linear_sum_assignment(table, maximize=True)
    return min(float(table[pairs].mean()), 1.0)
