"""Mutual information gap: is a factor told by one dimension only?"""

import chex
import numpy as np
from scipy.special import entr

from rl_jax.errors import checked
from rl_jax.evaluate.factors import checked_bins, checked_factors, in_bins


@checked
def mutual_information_gap(z: chex.Array, s: chex.Array, *, bins: int = 20) -> float:
    """MIG (Chen et al. 2018, arXiv:1802.04942).

    1/k Σ_j [I(z_(1); s_j) − I(z_(2); s_j)] / H(s_j), z_(1) and z_(2) the two dimensions
    that tell most of s_j. Information is that of the counts, with each dimension in
    bins of equal width between its smallest and its largest value (Locatello et al.
    2019, arXiv:1811.12359). 1 for a factor to each dimension, in bins fine enough to
    tell its values apart; 0 where two dimensions tell the same.

    Args:
      z: [n, d] codes, d ≥ 2.
      s: [n, k] true factors: integers as they are, floating ones in bins like z.
      bins: how many, in [2, n]. Counts are biased upwards by about (bins − 1)(values
        − 1)/2n nats each, which the difference mostly removes.

    Returns:
      In [0, 1].

    Raises:
      UsageError: for shapes that do not fit, values that are not finite, a constant
        factor, or more bins than examples.
    """
    name = "mutual_information_gap"
    z, s = checked_factors(name, z, s, least=(2, 1))
    checked_bins(name, bins, len(z))
    codes, factors = in_bins(z, bins), in_bins(s, bins)
    gaps = []
    for factor in factors.T:
        information = sorted(_information(code, factor) for code in codes.T)
        own = entr(np.bincount(factor) / len(factor)).sum()
        gaps.append((information[-1] - information[-2]) / own)
    return float(np.mean(gaps))


def _information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) = H(a) + H(b) − H(a, b) in nats, of integers."""
    values = a.max() + 1, b.max() + 1
    joint = np.bincount(a * values[1] + b, minlength=values[0] * values[1])
    joint = joint.reshape(values) / len(a)
    return entr(joint.sum(1)).sum() + entr(joint.sum(0)).sum() - entr(joint).sum()
