"""Separated attribute predictability: is a factor read off one dimension only?"""

from collections.abc import Sequence

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.factors import checked_factors, standard


@checked
def separated_predictability(
    z: chex.Array, s: chex.Array, *, categorical: Sequence[int] = ()
) -> float:
    """SAP (Kumar et al. 2018, arXiv:1711.00848).

    1/k Σ_j (S_(1)j − S_(2)j), the difference of the two largest scores of factor j.
    S_ij is the R² of a line from z_i to s_j, which is their squared correlation; for a
    categorical factor it is the balanced accuracy of thresholds on z_i, halfway between
    neighbouring class means. The perfect code has 1 for independent numbers, 1 − 1/C
    for a category of C values: without knowledge 1/C are right.

    Args:
      z: [n, d] codes, d ≥ 2.
      s: [n, k] true factors.
      categorical: which of the k are names, not numbers.

    Returns:
      In [0, 1].

    Raises:
      UsageError: for shapes that do not fit, values that are not finite, a constant
        factor, or a categorical one out of range.
    """
    name = "separated_predictability"
    z, s = checked_factors(name, z, s, least=(2, 1))
    if not all(0 <= j < s.shape[1] for j in categorical):
        raise UsageError(
            f"{name}: categorical must be columns in [0, {s.shape[1]}), got "
            f"{tuple(categorical)}"
        )
    z = standard(z)
    scores = np.square(z.T @ standard(s) / len(z))
    for j in categorical:
        labels = np.unique(s[:, j], return_inverse=True)[1]
        scores[:, j] = [_balanced_accuracy(column, labels) for column in z.T]
    ranked = np.sort(scores, axis=0)
    return float(np.mean(ranked[-1] - ranked[-2]))


def _balanced_accuracy(x: np.ndarray, labels: np.ndarray) -> float:
    """Of the class of nearest mean; of equal means the lower class."""
    count = np.bincount(labels)
    means = np.bincount(labels, x) / count
    order = np.argsort(means, kind="stable")
    borders = (means[order][1:] + means[order][:-1]) / 2
    found = order[np.searchsorted(borders, x, side="left")]
    return float(np.mean(np.bincount(labels, found == labels) / count))
