"""How fast the eigenvalues of the covariance fall: the exponent of their power law."""

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.rounding import rounding

_ROWS = 4096
"""That are in float64 at a time."""


@checked
def alpha_req(features: chex.Array, *, ranks: tuple[int, int] = (6, 100)) -> float:
    """α-ReQ (Agrawal, Mondal, Ghosh & Richards 2022, NeurIPS): α of λ_j ∝ j^−α.

    λ_1 ≥ λ_2 ≥ … are the eigenvalues of the features' covariance, and −α is the slope
    of the line through (log j, log λ_j) by least squares with weights 1/j, as the
    authors fit it, after Stringer et al. (2019, Nature 571): with x = log j,
    y = log λ_j and means ¯ under these weights,

        α = −Σ_j (x − x̄)(y − ȳ)/j  /  Σ_j (x − x̄)²/j.

    It is the same for features that are scaled, turned or moved. The first eigenvalues
    seldom lie on the line, so the authors' code begins with the sixth. They found good
    representations of natural images near α = 1: below, the features keep much that
    is fine detail or noise, above, few directions hold nearly everything.

    Eigenvalues that could be rounding of the features are left out: those beyond the
    n − 1 that n rows can have, and those not above the largest that rounding errors of
    float32, or of a coarser dtype of the features, would have by themselves. Computed
    in float64, without a D × D matrix where D > n. Few rows make α too large: n should
    be several times the last rank.

    Args:
      features: [n, D], n ≥ 3, of any float dtype.
      ranks: first and last j of the fit, from 1; the last is at most the number of
        eigenvalues there are.

    Returns:
      α ≥ 0; 0 where all directions spread the same.

    Raises:
      UsageError: not [n, D], values that are not finite, ranks that do not rise from 1
        on, or fewer than two eigenvalues among them.
    """
    name = "alpha_req"
    arguments.features(name, least=3, features=features)
    first, last = _ranks(name, ranks)
    values = _eigenvalues(np.asarray(features))
    j = np.arange(first, min(last, len(values)) + 1)
    if len(values) < 2:
        raise UsageError(
            f"{name}: expected features that spread, got {len(values)} direction(s) "
            "above rounding; they have collapsed"
        )
    if len(j) < 2:
        raise UsageError(
            f"{name}: ranks must hold two of the eigenvalues 1 to {len(values)}, which "
            f"is what {features.shape[0]} rows of {features.shape[1]} have above "
            f"rounding, got {first} to {last}; begin lower"
        )
    weight = 1 / j / np.sum(1 / j)
    x, y = np.log(j), np.log(values[j - 1])
    x, y = x - weight @ x, y - weight @ y
    return float(-(weight @ (x * y)) / (weight @ (x * x))) + 0.0  # no -0.0


def _ranks(name: str, ranks: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(ranks, tuple | list) or len(ranks) != 2:
        raise UsageError(f"{name}: ranks must be (first, last), got {ranks!r}")
    first, last = ranks
    arguments.counts(f"{name}: ranks", first=first, last=last)
    if first >= last:
        raise UsageError(f"{name}: ranks must rise, got {first} to {last}")
    return first, last


def _eigenvalues(x: np.ndarray) -> np.ndarray:
    """Of the scatter of the rows, largest first, those above rounding."""
    n, dim = x.shape
    # No square under- or overflows, and no ratio changes.
    largest = float(np.abs(x).max()) or 1.0
    mean = x.mean(0, dtype=np.float64)
    if dim > n:
        rows = (x - mean) / largest
        scatter = rows @ rows.T
    else:
        scatter = np.zeros((dim, dim))
        for start in range(0, n, _ROWS):
            rows = (x[start : start + _ROWS] - mean) / largest
            scatter += rows.T @ rows
    values = np.linalg.eigvalsh(scatter)[::-1]
    # Errors that are independent have no singular value above this; nor are the
    # eigenvalues themselves exact.
    noise = rounding(x) / largest * (np.sqrt(n) + np.sqrt(dim))
    own = len(values) * np.finfo(np.float64).eps * values[0]
    return values[values > max(noise**2, own)]
