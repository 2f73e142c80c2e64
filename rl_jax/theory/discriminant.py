"""Two Gaussian classes with one covariance: how well a projection tells them apart."""

import chex
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.stats import norm

from rl_jax.errors import UsageError, checked


@checked
def discriminant_risk(
    means: chex.Array, covariance: chex.Array, *, projection: chex.Array | None = None
) -> chex.Array:
    """Bayes risk of two equally likely classes, seen as Ax (Fisher 1936): Φ(−Δ/2).

    Δ² = (Aδ)ᵀ (AΣAᵀ)⁻¹ Aδ with δ = μ₁ − μ₀, the squared distance of the means in the
    units of the spread within a class. Over all A of one row the risk is least, and as
    low as that of x itself, at Fisher's discriminant A = δᵀΣ⁻¹.

    Args:
      means: [2, D] μ₀ and μ₁.
      covariance: [D, D] Σ of both classes, positive definite.
      projection: A [k, D] of rank k; None: the identity.

    Returns:
      Scalar in [0, ½], in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit.
    """
    name = "discriminant_risk"
    means, sigma = jnp.asarray(means, float), jnp.asarray(covariance, float)
    if means.ndim != 2 or len(means) != 2 or sigma.shape != 2 * means.shape[1:]:
        raise UsageError(
            f"{name}: expected means [2, D] and covariance [D, D], got {means.shape} "
            f"and {sigma.shape}"
        )
    delta = means[1] - means[0]
    if projection is not None:
        a = jnp.asarray(projection, float)
        if a.ndim != 2 or a.shape[1] != len(delta) or not 0 < len(a) <= len(delta):
            raise UsageError(
                f"{name}: projection must be [k, {len(delta)}] with k from 1 to "
                f"{len(delta)}, got {a.shape}"
            )
        delta, sigma = a @ delta, a @ sigma @ a.T
    white = solve_triangular(jnp.linalg.cholesky(sigma), delta, lower=True)
    return norm.cdf(-jnp.linalg.norm(white) / 2)
