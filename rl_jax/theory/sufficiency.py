"""Sufficient statistics: exactly, up to ε, and for a Bayes decision."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from rl_jax.errors import UsageError, checked
from rl_jax.theory.gaussian import (
    check_covariances,
    gaussian_information,
    log_determinant,
)


class Family(NamedTuple):
    """A parametric family of samples of n independent numbers, as pure functions.

    Attributes:
      log_density: `(theta, x) -> ` scalar, log p(x; θ) of the sample x [n]; θ [P].
      statistic: `(x) -> ` [k], the minimal sufficient T(x).
      conditional: `(rng, x) -> ` [n], another sample, drawn from p(· | T = T(x)). It
        takes no θ: that is what sufficiency means.
    """

    log_density: Callable[[chex.Array, chex.Array], chex.Array]
    statistic: Callable[[chex.Array], chex.Array]
    conditional: Callable[[chex.PRNGKey, chex.Array], chex.Array]


@checked
def gaussian_mean(*, scale: float = 1.0) -> Family:
    """N(μ, σ²) with σ known: θ = (μ,), T = x̄ (Fisher 1922).

    Args:
      scale: σ > 0.

    Returns:
      A `Family`.

    Raises:
      UsageError: for σ ≤ 0.
    """
    if not scale > 0:
        raise UsageError(f"gaussian_mean: scale must be > 0, got {scale}")

    def log_density(theta, x):
        return _gaussian_log_density(x, theta[0], scale)

    def conditional(rng, x):
        noise = scale * jax.random.normal(rng, x.shape, x.dtype)
        return x.mean() + noise - noise.mean()

    return Family(log_density, lambda x: x.mean()[None], conditional)


def gaussian() -> Family:
    """N(μ, σ²): θ = (μ, σ), T = (x̄, Σ(x − x̄)²) (Fisher 1922)."""

    def log_density(theta, x):
        return _gaussian_log_density(x, theta[0], theta[1])

    def statistic(x):
        return jnp.stack([x.mean(), jnp.square(x - x.mean()).sum()])

    def conditional(rng, x):
        mean, square = statistic(x)
        noise = jax.random.normal(rng, x.shape, x.dtype)
        noise = noise - noise.mean()
        return mean + noise * jnp.sqrt(square / jnp.square(noise).sum())

    return Family(log_density, statistic, conditional)


@checked
def gamma(*, shape: float = 2.0) -> Family:
    """Gamma with known shape α, an exponential family: θ = (rate,), T = Σx.

    Args:
      shape: α > 0; 1 is the exponential distribution.

    Returns:
      A `Family`. Given its sum, a sample is the sum times a Dirichlet(α, …, α) vector.

    Raises:
      UsageError: for α ≤ 0.
    """
    if not shape > 0:
        raise UsageError(f"gamma: shape must be > 0, got {shape}")

    def log_density(theta, x):
        rate = theta[0]
        powers = shape * jnp.log(rate) + (shape - 1.0) * jnp.log(x)
        return (powers - rate * x - gammaln(shape)).sum()

    def conditional(rng, x):
        parts = jax.random.dirichlet(rng, jnp.full(x.shape, shape, x.dtype))
        return x.sum() * parts

    return Family(log_density, lambda x: x.sum()[None], conditional)


@checked
def likelihood_ratio_spread(
    family: Family, x: chex.Array, y: chex.Array, *, thetas: chex.Array
) -> chex.Array:
    """How far p(x; θ) / p(y; θ) depends on θ (Lehmann & Scheffé 1950, Sankhyā 10).

    A statistic T is minimal sufficient exactly where this is 0 for all sets of θ if and
    only if T(x) = T(y).

    Args:
      family: of which only the density is used.
      x, y: [n], two samples.
      thetas: [K, P], the parameters compared.

    Returns:
      Scalar ≥ 0, max − min over θ of log p(x; θ) − log p(y; θ).
    """
    ratios = jax.vmap(lambda t: family.log_density(t, x) - family.log_density(t, y))(
        thetas
    )
    return ratios.max() - ratios.min()


class Sufficiency(NamedTuple):
    """How much of the information about Y a linear statistic T = AX keeps.

    Attributes:
      full: I(X;Y) in nats.
      kept: I(T;Y).
      gap: ε = I(X;Y) − I(T;Y) ≥ 0; 0 when T is sufficient.
      conditional: I(X;Y|T), from conditional covariances: equal to the gap.
    """

    full: chex.Array
    kept: chex.Array
    gap: chex.Array
    conditional: chex.Array


@checked
def gaussian_sufficiency(
    sigma_x: chex.Array,
    sigma_y: chex.Array,
    sigma_xy: chex.Array,
    *,
    projection: chex.Array,
) -> Sufficiency:
    """The ε of ε-sufficiency of T = AX for jointly Gaussian X and Y.

    ε = I(X;Y) − I(T;Y) = I(X;Y|T) = ½ log |Σ_{y|t}| − ½ log |Σ_{y|x}|. It is 0 for the
    regression coefficients A = Σ_yx Σ_x⁻¹.

    Args:
      sigma_x, sigma_y: [Dx, Dx], [Dy, Dy] covariances, positive definite.
      sigma_xy: [Dx, Dy], E[x yᵀ] of the centred vectors.
      projection: A [k, Dx] of rank k.

    Returns:
      A `Sufficiency`, in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit.
    """
    blocks = check_covariances("gaussian_sufficiency", sigma_x, sigma_y, sigma_xy)
    x, y, xy = blocks
    a = jnp.asarray(projection, x.dtype)
    if a.ndim != 2 or a.shape[1] != len(x) or not 0 < len(a) <= len(x):
        raise UsageError(
            f"gaussian_sufficiency: projection must be [k, {len(x)}] with k from 1 to "
            f"{len(x)}, got {a.shape}"
        )
    t, ty = a @ x @ a.T, a @ xy
    given_t = y - ty.T @ jnp.linalg.solve(t, ty)
    given_x = y - xy.T @ jnp.linalg.solve(x, xy)
    full, kept = gaussian_information(*blocks), gaussian_information(t, y, ty)
    conditional = 0.5 * (log_determinant(given_t) - log_determinant(given_x))
    return Sufficiency(full, kept, full - kept, conditional)


@checked
def mixture_statistic(means: chex.Array, covariance: chex.Array) -> chex.Array:
    """The sufficient statistic for the component of x: T = (μ_cᵀ Σ⁻¹ x)_c.

    Args:
      means: [C, D] of Gaussian components with one covariance.
      covariance: [D, D] Σ, positive definite.

    Returns:
      [C, D], the rows μ_cᵀ Σ⁻¹: T = x @ rows.T. Differences of rows suffice too.

    Raises:
      UsageError: for shapes that do not fit.
    """
    means, covariance = _check_mixture("mixture_statistic", means, covariance)
    return jnp.linalg.solve(covariance, means.T).T


@checked
def mixture_log_posterior(
    x: chex.Array,
    *,
    means: chex.Array,
    covariance: chex.Array,
    log_prior: chex.Array | None = None,
    projection: chex.Array | None = None,
) -> chex.Array:
    """Log p(c | x), or log p(c | Ax) from the law of Ax alone, for a Gaussian mixture.

    Ax given c is N(Aμ_c, AΣAᵀ). For the rows of `mixture_statistic` both are equal, and
    so is the Bayes risk of every loss.

    Args:
      x: [n, D] points.
      means: [C, D] of Gaussian components with one covariance.
      covariance: [D, D] Σ, positive definite.
      log_prior: [C], up to a constant; None: equal.
      projection: A [k, D] of any rank; None: the identity.

    Returns:
      [n, C], in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit.
    """
    name = "mixture_log_posterior"
    means, covariance = _check_mixture(name, means, covariance)
    x = jnp.asarray(x, means.dtype)
    count, dim = means.shape
    if x.ndim != 2 or x.shape[1] != dim:
        raise UsageError(f"{name}: x must be [n, {dim}], got {x.shape}")
    prior = jnp.zeros(count) if log_prior is None else jnp.asarray(log_prior, x.dtype)
    if prior.shape != (count,):
        raise UsageError(f"{name}: log_prior must be [{count}], got {prior.shape}")
    if projection is not None:
        a = jnp.asarray(projection, x.dtype)
        if a.ndim != 2 or a.shape[1] != dim:
            raise UsageError(f"{name}: projection must be [k, {dim}], got {a.shape}")
        x, means, covariance = x @ a.T, means @ a.T, a @ covariance @ a.T
    # Ax lives in the range of AΣAᵀ, where the pseudo-inverse is the inverse.
    precision = jnp.linalg.pinv(covariance, hermitian=True)
    gaps = x[:, None, :] - means[None, :, :]
    distance = jnp.einsum("nci,ij,ncj->nc", gaps, precision, gaps)
    return jax.nn.log_softmax(prior[None, :] - 0.5 * distance, axis=1)


@checked
def bayes_risk(log_posterior: chex.Array) -> chex.Array:
    """Mean probability that the most probable class is wrong: E[1 − max_c p(c|x)].

    Args:
      log_posterior: [n, C], of points drawn from the mixture.

    Returns:
      Scalar in [0, 1 − 1/C].

    Raises:
      UsageError: for another rank.
    """
    if jnp.ndim(log_posterior) != 2:
        raise UsageError(
            f"bayes_risk: log_posterior must be [n, C], got {jnp.shape(log_posterior)}"
        )
    return jnp.mean(-jnp.expm1(log_posterior.max(axis=1)))


def _gaussian_log_density(x, mean, scale):
    scaled = (x - mean) / scale
    return -(
        0.5 * jnp.square(scaled) + jnp.log(scale) + 0.5 * jnp.log(2 * jnp.pi)
    ).sum()


def _check_mixture(name, means, covariance):
    means, covariance = jnp.asarray(means, float), jnp.asarray(covariance, float)
    if means.ndim != 2 or covariance.shape != 2 * means.shape[1:]:
        raise UsageError(
            f"{name}: expected means [C, D] and covariance [D, D], got "
            f"{means.shape} and {covariance.shape}"
        )
    return means, covariance
