"""The information bottleneck of jointly Gaussian variables, in closed form."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked, known
from rl_jax.theory.gaussian import canonical_correlations


@checked
def scalar_relevance(rate: chex.Numeric, *, rho: chex.Numeric) -> chex.Array:
    """The information curve of two correlated scalars (Chechik et al. 2005, JMLR 6).

    T = X + ξ with Gaussian noise of variance var(X) / (e^{2R} − 1), so that I(X;T) = R:
    I(T;Y) = −½ log(1 − ρ²(1 − e^{−2R})).

    Args:
      rate: R = I(X;T) ≥ 0, up to rounding, in nats, of any shape.
      rho: correlation of X and Y, |ρ| < 1, broadcast against the rate.

    Returns:
      I(T;Y) in nats: concave in R, of slope ρ² at 0 and 0 at infinity, below the
      ceiling I(X;Y) = −½ log(1 − ρ²).

    Raises:
      UsageError: for R < 0 or |ρ| ≥ 1.
    """
    _check_correlation("scalar_relevance", rho)
    if not isinstance(rate, jax.core.Tracer) and not np.all(np.asarray(rate) > -1e-6):
        raise UsageError(f"scalar_relevance: rate must be >= 0, got {rate}")
    # expm1 and log1p: a small rate would drown in 1 − e^{−2R}.
    return -0.5 * jnp.log1p(jnp.square(rho) * jnp.expm1(-2.0 * jnp.asarray(rate)))


@checked
def scalar_rate(beta: chex.Numeric, *, rho: chex.Numeric) -> chex.Array:
    """Where the curve of two scalars has slope 1/β: R = ½ log(ρ²(β − 1)/(1 − ρ²)).

    Args:
      beta: β > 0, of any shape.
      rho: correlation of X and Y, |ρ| < 1, broadcast against β.

    Returns:
      I(X;T) in nats of the minimum of I(X;T) − β I(T;Y); 0 up to the critical β = 1/ρ².

    Raises:
      UsageError: for |ρ| ≥ 1.
    """
    _check_correlation("scalar_rate", rho)
    square = jnp.square(rho)
    return 0.5 * jnp.log(jnp.maximum(square * (beta - 1.0) / (1.0 - square), 1.0))


class GaussianBottleneck(NamedTuple):
    """The optimal T = AX + ξ, ξ ~ N(0, I), at one β.

    Attributes:
      projection: [Dx, Dx], A; row i is zero while β ≤ critical[i].
      rate: I(X;T) in nats.
      relevance: I(T;Y) in nats.
      eigenvalues: [Dx], λ of Σ_{x|y} Σ_x⁻¹, ascending, in (0, 1].
      critical: [Dx], β_i = 1/(1 − λ_i), ascending; inf where X tells nothing of Y.
    """

    projection: chex.Array
    rate: chex.Array
    relevance: chex.Array
    eigenvalues: chex.Array
    critical: chex.Array


@checked
def gaussian_bottleneck(
    sigma_x: chex.Array,
    sigma_y: chex.Array,
    sigma_xy: chex.Array,
    *,
    beta: chex.Numeric,
) -> GaussianBottleneck:
    """The bottleneck of Gaussian vectors (Chechik et al. 2005, JMLR 6:165-188).

    With v_i the left eigenvectors of Σ_{x|y} Σ_x⁻¹ scaled to v_iᵀ Σ_x v_i = 1, row i of
    A is √((β(1 − λ_i) − 1)/λ_i) v_i where that is real, else 0. Over those rows
    I(X;T) = ½ Σ log((β − 1)(1 − λ_i)/λ_i), I(T;Y) = I(X;T) − ½ Σ log(β(1 − λ_i)).

    Args:
      sigma_x, sigma_y: [Dx, Dx], [Dy, Dy] covariances, positive definite.
      sigma_xy: [Dx, Dy], E[x yᵀ] of the centred vectors.
      beta: β > 0, a float or a scalar array.

    Returns:
      A `GaussianBottleneck`, in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit or β ≤ 0.
    """
    number = known(beta)
    if number is not None and not number > 0:
        raise UsageError(f"gaussian_bottleneck: beta must be > 0, got {beta}")
    square, directions = canonical_correlations(sigma_x, sigma_y, sigma_xy)
    square = jnp.square(square)  # 1 − λ
    signal = beta * square - 1.0
    active = signal > 0
    one = jnp.ones_like(square)
    tell = jnp.where(active, square, one)  # where inactive, logarithms of one
    eigenvalue = 1.0 - square
    rate = jnp.where(active, (beta - 1.0) * tell / eigenvalue, one)
    loss = jnp.where(active, beta * tell, one)
    gain = jnp.sqrt(jnp.where(active, signal, 0.0) / eigenvalue)
    rate, loss = 0.5 * jnp.log(rate).sum(), 0.5 * jnp.log(loss).sum()
    return GaussianBottleneck(
        projection=gain[:, None] * directions,
        rate=rate,
        relevance=rate - loss,
        eigenvalues=eigenvalue,
        critical=1.0 / square,
    )


@checked
def gaussian_curve(rate: chex.Numeric, *, eigenvalues: chex.Array) -> chex.Array:
    """The information curve of Gaussian vectors (Chechik et al. 2005, JMLR 6:165-188).

    I(T;Y) = R − n/2 log[Π(1 − λ_i)^{1/n} + e^{2R/n} Π λ_i^{1/n}] over the n smallest
    λ, n the largest with Σ_{i<n} ½ log[λ_n(1 − λ_i) / λ_i(1 − λ_n)] ≤ R.

    Args:
      rate: R = I(X;T) ≥ 0 in nats, of any shape.
      eigenvalues: [D], ascending, in (0, 1], as `gaussian_bottleneck` returns them.

    Returns:
      I(T;Y) in nats, of the shape of the rate: concave, with continuous slope.

    Raises:
      UsageError: for eigenvalues that are not [D].
    """
    lam = jnp.asarray(eigenvalues, float)
    if lam.ndim != 1 or not lam.size:
        raise UsageError(f"gaussian_curve: eigenvalues must be [D], got {lam.shape}")
    rate = jnp.asarray(rate, lam.dtype)
    n = jnp.arange(1, lam.size + 1, dtype=lam.dtype)
    log_noise, log_signal = jnp.log(lam), jnp.log1p(-lam)  # log(1 − 1) = −inf: never
    quality = log_signal - log_noise
    enters = 0.5 * (jnp.cumsum(quality) - n * quality)
    enters = jnp.where(lam < 1, enters, jnp.inf).at[0].set(0.0)
    count = jnp.sum(rate[..., None] >= _like(enters, rate), axis=-1)
    k = jnp.take(n, count - 1)
    signal = jnp.take(jnp.cumsum(log_signal) / n, count - 1)
    noise = jnp.take(jnp.cumsum(log_noise) / n, count - 1)
    return rate - 0.5 * k * jnp.logaddexp(signal, noise + 2.0 * rate / k)


@checked
def gaussian_cells(rho: float, *, cells: int = 32, reach: float = 4.0) -> np.ndarray:
    """A Gaussian pair as a finite joint distribution: its density at cells of a grid.

    p_ij ∝ exp(−(x_i² − 2ρ x_i y_j + y_j²) / (2(1 − ρ²))) at the middle of each cell.

    Args:
      rho: correlation, inside (−1, 1).
      cells: of each axis.
      reach: the axes go from −reach to reach, in standard deviations.

    Returns:
      float64 [cells, cells] that add up to 1.

    Raises:
      UsageError: for |ρ| ≥ 1 or no cell.
    """
    if not -1 < rho < 1 or cells < 1:
        raise UsageError(
            "gaussian_cells: expected rho inside (-1, 1) and at least one cell, got "
            f"{rho} and {cells}"
        )
    edges = np.linspace(-reach, reach, cells + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    x, y = middle[:, None], middle[None]
    density = np.exp(-(x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho**2)))
    return density / density.sum()


def _check_correlation(name, rho):
    if not isinstance(rho, jax.core.Tracer) and not np.all(np.abs(rho) < 1):
        raise UsageError(f"{name}: rho must be inside (-1, 1), got {rho}")


def _like(values, rate):
    """[D] with the leading axes of `rate[..., None]`, each of size one."""
    return values.reshape((1,) * rate.ndim + values.shape)
