"""Jointly Gaussian vectors: information by log-determinants, canonical directions."""

import chex
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from rl_jax.errors import UsageError, checked


@checked
def gaussian_information(
    sigma_x: chex.Array, sigma_y: chex.Array, sigma_xy: chex.Array
) -> chex.Array:
    """Mutual information of Gaussian vectors: ½ log(|Σ_x| |Σ_y| / |Σ|), Σ of both.

    Args:
      sigma_x, sigma_y: [Dx, Dx], [Dy, Dy] covariances, positive definite.
      sigma_xy: [Dx, Dy], E[x yᵀ] of the centred vectors.

    Returns:
      Scalar in nats, ≥ 0; float64 under `jax.enable_x64()`, and infinite or not a
      number where a direction of X determines one of Y.

    Raises:
      UsageError: for shapes that do not fit.
    """
    x, y, xy = check_covariances("gaussian_information", sigma_x, sigma_y, sigma_xy)
    both = jnp.block([[x, xy], [xy.T, y]])
    return 0.5 * (log_determinant(x) + log_determinant(y) - log_determinant(both))


@checked
def canonical_correlations(
    sigma_x: chex.Array, sigma_y: chex.Array, sigma_xy: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Canonical correlations (Hotelling 1936) and the directions of X.

    Singular values and left vectors U of L_x⁻¹ Σ_xy L_y⁻ᵀ, with Σ = LLᵀ.

    Args:
      sigma_x, sigma_y: [Dx, Dx], [Dy, Dy] covariances, positive definite.
      sigma_xy: [Dx, Dy], E[x yᵀ] of the centred vectors.

    Returns:
      `(correlations, directions)`: [Dx] in [0, 1], descending, with 0 for those beyond
      Dy; and [Dx, Dx], whose rows V = Uᵀ L_x⁻¹ make V x white: V Σ_x Vᵀ = I.

    Raises:
      UsageError: for shapes that do not fit.
    """
    x, y, xy = check_covariances("canonical_correlations", sigma_x, sigma_y, sigma_xy)
    root_x, root_y = jnp.linalg.cholesky(x), jnp.linalg.cholesky(y)
    half = solve_triangular(root_x, xy, lower=True)
    white = solve_triangular(root_y, half.T, lower=True).T
    left, values, _ = jnp.linalg.svd(white, full_matrices=True)
    values = jnp.pad(values, (0, len(x) - len(values)))
    return values, solve_triangular(root_x, left, lower=True, trans=1).T


def log_determinant(matrix: chex.Array) -> chex.Array:
    """Log-determinant of a positive definite matrix, by its Cholesky factor."""
    return 2.0 * jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix))).sum()


def check_covariances(name, sigma_x, sigma_y, sigma_xy):
    """The three blocks as floating arrays that fit together."""
    x, y, xy = (jnp.asarray(s, float) for s in (sigma_x, sigma_y, sigma_xy))
    sizes = x.shape[:1] + y.shape[:1]
    if (x.shape, y.shape, xy.shape) != (2 * sizes[:1], 2 * sizes[1:], sizes):
        raise UsageError(
            f"{name}: expected covariances [Dx, Dx], [Dy, Dy], [Dx, Dy], got "
            f"{x.shape}, {y.shape}, {xy.shape}"
        )
    return x, y, xy
