"""How alike a representation and a linear map of it are, in NumPy float64."""

import chex
import numpy as np

from rl_jax.errors import UsageError, checked


@checked
def linear_map_cka(covariance: chex.Array, matrix: chex.Array) -> float:
    """Linear CKA of x and Aᵀx (Kornblith et al. 2019, arXiv:1905.00414).

    ‖ΣA‖² / (‖Σ‖ ‖AᵀΣA‖) in Frobenius norms, Σ the covariance of x. For Σ = I and
    singular values a_j of A it is Σ a_j² / √(d Σ a_j⁴): 1 where all are equal, as
    those of rotations and scalings are, and 1/√d where a single one is left.

    Args:
      covariance: Σ [D, D], not all zero.
      matrix: A [D, E], as a layer keeps its weights.

    Returns:
      In [0, 1].

    Raises:
      UsageError: for shapes that do not fit, values that are not finite, or a map that
        leaves nothing of x.
    """
    sigma, a = np.asarray(covariance, np.float64), np.asarray(matrix, np.float64)
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or a.ndim != 2:
        raise UsageError(
            "linear_map_cka: expected covariance [D, D] and matrix [D, E], got "
            f"{sigma.shape} and {a.shape}"
        )
    if len(a) != len(sigma):
        raise UsageError(
            f"linear_map_cka: matrix must have {len(sigma)} rows as the covariance "
            f"has, got {a.shape}"
        )
    if not (np.isfinite(sigma).all() and np.isfinite(a).all()):
        raise UsageError("linear_map_cka: both must be finite, got NaN or inf")
    own = np.linalg.norm(sigma) * np.linalg.norm(a.T @ sigma @ a)
    if not own > 0:
        raise UsageError("linear_map_cka: the map leaves nothing of x: CKA is 0/0")
    return float(np.square(sigma @ a).sum() / own)
