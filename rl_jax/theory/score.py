"""Scores of noisy Gaussian mixtures, and the denoisers they are the gradients of."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked


class Mixture(NamedTuple):
    """The density Σ_k w_k N(μ_k, C_k).

    Attributes:
      weights: w [K] > 0, normalised where they are used.
      means: μ [K, D].
      covariances: C [K, D, D], positive definite; or of points, zero, with noise.
    """

    weights: chex.Array
    means: chex.Array
    covariances: chex.Array


@checked
def mixture_log_density(
    x: chex.Array, mixture: Mixture, *, noise: chex.Numeric = 0.0
) -> chex.Array:
    """Log-density of a Gaussian mixture with noise added: log Σ_k w_k N(x; μ_k, S_k).

    S_k = C_k + σ²I: the density p_σ of x + σε, ε ~ N(0, I).

    Args:
      x: [B, D].
      mixture: of the clean x.
      noise: σ ≥ 0.

    Returns:
      [B], in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit.
    """
    log_joint, _, _ = _components("mixture_log_density", x, mixture, noise)
    return jax.nn.logsumexp(log_joint, axis=1)


@checked
def mixture_score(
    x: chex.Array, mixture: Mixture, *, noise: chex.Numeric = 0.0
) -> chex.Array:
    """Score of a Gaussian mixture with noise: ∇log p_σ(x) = Σ_k r_k S_k⁻¹(μ_k − x).

    r_k = P(k|x), the responsibilities under p_σ (Hyvärinen 2005, JMLR 6:695-709, for
    the use of the score).

    Args:
      x, mixture, noise: as in `mixture_log_density`.

    Returns:
      [B, D], in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit.
    """
    log_joint, pull, _ = _components("mixture_score", x, mixture, noise)
    return jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_joint, axis=1), pull)


@checked
def mixture_posterior_mean(
    x: chex.Array, mixture: Mixture, *, noise: chex.Numeric
) -> chex.Array:
    """What a perfect denoiser returns: E[x|x̃] = Σ_k r_k [μ_k + C_k S_k⁻¹(x̃ − μ_k)].

    By conditioning each component (Alain & Bengio 2014, arXiv:1211.4246, for denoising
    autoencoders), without a derivative: `tweedie` reaches it by the score.

    Args:
      x: x̃ [B, D].
      mixture, noise: as in `mixture_log_density`.

    Returns:
      [B, D], in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit.
    """
    log_joint, pull, parts = _components("mixture_posterior_mean", x, mixture, noise)
    means = parts.means[None] - jnp.einsum("kij,bkj->bki", parts.covariances, pull)
    return jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_joint, axis=1), means)


@checked
def tweedie(x: chex.Array, score: chex.Array, *, noise: chex.Numeric) -> chex.Array:
    """Tweedie's formula (Robbins 1956; Efron 2011): E[x|x̃] = x̃ + σ²∇log p_σ(x̃).

    Args:
      x: x̃ [..., D], clean x with noise of deviation σ.
      score: ∇log p_σ(x̃), of that shape.
      noise: σ ≥ 0.

    Returns:
      Array of that shape.

    Raises:
      UsageError: for shapes that differ.
    """
    _check_same("tweedie", x, score)
    return x + noise**2 * score


@checked
def denoiser_score(
    x: chex.Array, reconstruction: chex.Array, *, noise: chex.Numeric
) -> chex.Array:
    """Score that a denoiser stands for (Alain & Bengio 2014): (r(x̃) − x̃)/σ².

    Args:
      x: x̃ [..., D].
      reconstruction: r(x̃), of that shape: `encode` of a denoising autoencoder.
      noise: σ > 0, that of its training.

    Returns:
      Array of that shape; ∇log p_σ(x̃) where r is the best denoiser.

    Raises:
      UsageError: for shapes that differ, or σ ≤ 0.
    """
    _check_same("denoiser_score", x, reconstruction)
    if not isinstance(noise, jax.core.Tracer) and not (np.asarray(noise) > 0).all():
        raise UsageError(f"denoiser_score: noise must be > 0, got {noise}")
    return (reconstruction - x) / noise**2


def _components(name: str, x, mixture, noise):
    """Of each component: log w_k N(x; μ_k, S_k) [B, K] and S_k⁻¹(μ_k − x) [B, K, D]."""
    x = jnp.asarray(x, float)
    parts = Mixture(*(jnp.asarray(a, float) for a in mixture))
    count, dim = len(parts.weights), x.shape[-1]
    expected = (count,), (count, dim), (count, dim, dim)
    shapes = tuple(a.shape for a in parts)
    if x.ndim != 2 or shapes != expected:
        raise UsageError(
            f"{name}: expected x [B, D] and a mixture of weights [K], means [K, D], "
            f"covariances [K, D, D], got {x.shape} and "
            f"{', '.join(map(str, shapes))}"
        )
    noisy = parts.covariances + noise**2 * jnp.eye(dim)[None]
    root = jnp.linalg.cholesky(noisy)
    gap = parts.means[None] - x[:, None]
    columns = jnp.moveaxis(gap, 0, 2)  # [K, D, B]
    solved = jax.vmap(lambda r, c: jax.scipy.linalg.cho_solve((r, True), c))(
        root, columns
    )
    pull = jnp.moveaxis(solved, 2, 0)
    half_log_determinant = jnp.log(jnp.diagonal(root, axis1=1, axis2=2)).sum(1)
    log_weight = jnp.log(parts.weights / parts.weights.sum()) - half_log_determinant
    square = jnp.einsum("bkd,bkd->bk", gap, pull)
    log_joint = log_weight[None] - 0.5 * (square + dim * math.log(2 * math.pi))
    return log_joint, pull, parts


def _check_same(name: str, x, y) -> None:
    if jnp.shape(x) != jnp.shape(y):
        raise UsageError(
            f"{name}: expected arrays of one shape, got {jnp.shape(x)}, {jnp.shape(y)}"
        )
