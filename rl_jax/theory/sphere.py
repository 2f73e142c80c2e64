"""Uniform vectors on the unit sphere: what alignment and uniformity tend to."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.errors import UsageError, checked, known


@checked
def log_mean_exp_cosine(kappa: chex.Numeric, *, dim: int) -> chex.Array:
    """Log E exp(κ⟨u, v⟩), u and v uniform on the sphere of R^d, by its series.

    Equal to log[Γ(d/2) (2/κ)^ν I_ν(κ)], ν = d/2 − 1 (Mardia & Jupp 2000, §9.3), and to
    log Σ_k (κ²/4)^k / (k! (d/2)_k), all of whose terms are positive; they are summed in
    logarithms, about |κ|/2 + 6√|κ| of them. Differentiable to any order: the slope is
    the mean cosine under the density ∝ e^{κ⟨u, v⟩}.

    Args:
      kappa: κ of any sign and shape, for instance 1/τ.
      dim: d ≥ 1.

    Returns:
      Array of the shape of κ, ≥ 0: κ²/2d near 0. Float64 under `jax.enable_x64()`; in
      float32 within 1e-4 up to κ = 200.

    Raises:
      UsageError: for dim < 1.
    """
    if dim < 1:
        raise UsageError(f"log_mean_exp_cosine: dim must be >= 1, got {dim}")
    return _series(jnp.asarray(kappa, float), dim)


@checked
def uniformity_limit(*, dim: int, t: chex.Numeric = 2.0) -> chex.Array:
    """The uniformity loss of the uniform distribution (Wang & Isola 2020, §4.2).

    Log E exp(−t‖u − v‖²) = −2t + log E exp(2t⟨u, v⟩), the least value any distribution
    on the sphere has (arXiv:2005.10242).

    Args:
      dim: d ≥ 1, of the vectors.
      t: inverse width, > 0, of any shape.

    Returns:
      Array of the shape of t, in [−2t, 0]: what `losses.uniformity` tends to. Float64
      under `jax.enable_x64()`; in float32 within 1e-4 up to t = 100.

    Raises:
      UsageError: for t ≤ 0, t > 100 in float32, or dim < 1.
    """
    if not isinstance(t, jax.core.Tracer):
        known = np.asarray(t)
        if not (known > 0).all():
            raise UsageError(f"uniformity_limit: t must be > 0, got {t}")
        if not jax.config.jax_enable_x64 and (known > 100).any():
            raise UsageError(
                f"uniformity_limit: t={t} loses its digits in float32; call it inside "
                "jax.enable_x64()"
            )
    t = jnp.asarray(t, float)
    return log_mean_exp_cosine(2.0 * t, dim=dim) - 2.0 * t


@checked
def info_nce_limit(
    *,
    temperature: chex.Numeric,
    dim: int,
    num_candidates: chex.Numeric | None = None,
    cosine: chex.Numeric = 1.0,
) -> chex.Array:
    """InfoNCE − log K for uniform vectors (Wang & Isola 2020, arXiv:2005.10242, Thm 1).

    With κ = 1/τ, c the cosine of positives and m = log E e^{κ⟨u, v⟩}: −κ E[c] + m as
    K → ∞. Among K candidates the positive itself stands in the sum; with the mean in
    place of the sum over the others, −κc + m + log[(K − 1)/K + e^{κc − m}/K]. At
    d = 64, τ = 0.1 and c = 1 that term is 0.14 even for K = 65,536.

    Args:
      temperature: τ > 0, a float or a scalar array.
      dim: d ≥ 1, of the vectors.
      num_candidates: K, the positive among them. None: the limit.
      cosine: c of the positives, a number or [n] of which the mean is taken.

    Returns:
      Scalar: what `losses.info_nce` − log K tends to.

    Raises:
      UsageError: for τ ≤ 0, dim < 1 or fewer than two candidates.
    """
    number = known(temperature)
    if number is not None and not number > 0:
        raise UsageError(f"info_nce_limit: temperature must be > 0, got {temperature}")
    positive = jnp.asarray(cosine, float) / temperature
    mean = log_mean_exp_cosine(1.0 / temperature, dim=dim)
    if num_candidates is None:
        return mean - positive.mean()
    k = num_candidates
    number = known(k)
    if number is not None and number < 2:
        raise UsageError(f"info_nce_limit: num_candidates must be >= 2, got {k}")
    log_k, log_others = jnp.log(jnp.asarray(k, float)), jnp.log(k - 1.0)
    return (jnp.logaddexp(mean + log_others, positive) - positive).mean() - log_k


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
@functools.partial(jax.jit, static_argnames="dim")
def _series(kappa, dim):
    log_square = 2.0 * jnp.log(0.5 * jnp.abs(kappa))
    # What follows the first term below this, beyond the largest, is lost in rounding.
    lost = jnp.log(jnp.finfo(kappa.dtype).eps) - 3.0

    def ratio(k):
        return log_square - jnp.log(k * (k + 0.5 * dim - 1.0))

    def unfinished(carry):
        k, term, total = carry
        return jnp.any((term - total > lost) | (ratio(k) > 0.0))

    def add(carry):
        k, term, total = carry
        term = term + ratio(k)
        return k + 1.0, term, jnp.logaddexp(total, term)

    zero = jnp.zeros_like(kappa)
    return lax.while_loop(unfinished, add, (jnp.ones([], kappa.dtype), zero, zero))[2]


@_series.defjvp
def _series_jvp(dim, primals, tangents):
    (kappa,), (tangent,) = primals, tangents
    value = _series(kappa, dim)
    # I_{ν+1}(κ) / I_ν(κ), and ν + 1 belongs to d + 2.
    slope = kappa / dim * jnp.exp(_series(kappa, dim + 2) - value)
    return value, slope * tangent
