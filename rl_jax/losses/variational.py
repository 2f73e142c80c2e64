"""Terms of evidence bounds: Gaussian divergences, likelihoods, samples."""

import math

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError, checked


@checked
def gaussian_kl(
    mean: chex.Array,
    log_variance: chex.Array,
    prior_mean: chex.Array | None = None,
    prior_log_variance: chex.Array | None = None,
) -> chex.Array:
    """Divergence of Gaussians (Kingma & Welling 2014, arXiv:1312.6114), each dimension.

    KL(N(μ, σ²) ‖ N(m, s²)) = ½[σ²/s² − 1 − log(σ²/s²) + (μ − m)²/s²]; with the
    standard prior ½(μ² + σ² − 1 − log σ²). Not summed: free bits and counts of active
    units need the dimensions.

    Args:
      mean, log_variance: [B, d] μ and log σ².
      prior_mean, prior_log_variance: [B, d] m and log s²; None: 0.

    Returns:
      [B, d] float32 ≥ 0 up to rounding, in nats; 0 where the two are equal.

    Raises:
      UsageError: for shapes that differ.
    """
    shape = jnp.shape(mean)
    if prior_mean is None:
        prior_mean = jnp.zeros(shape, jnp.float32)
    if prior_log_variance is None:
        prior_log_variance = jnp.zeros(shape, jnp.float32)
    sides = (mean, log_variance, prior_mean, prior_log_variance)
    _check_shapes("gaussian_kl", *sides)
    mean, log_variance, prior_mean, prior_log_variance = map(_float32, sides)
    ratio = log_variance - prior_log_variance
    gap = jnp.square(mean - prior_mean) * jnp.exp(-prior_log_variance)
    # e^r − 1 − r is small beside e^r near r = 0.
    return 0.5 * (jnp.expm1(ratio) - ratio + gap)


@checked
def gaussian_log_likelihood(
    x: chex.Array, mean: chex.Array, log_variance: chex.Numeric
) -> chex.Array:
    """Gaussian log p(x|z) (Kingma & Welling 2014, arXiv:1312.6114).

    log N(x; μ, σ²) = −½ Σ [(x − μ)²/σ² + log σ² + log 2π], the sum over all axes but
    the first.

    Args:
      x, mean: [B, ...].
      log_variance: log σ², a number or an array of the shape of x.

    Returns:
      [B] float32, in nats; a density, it can be positive.

    Raises:
      UsageError: for shapes that differ.
    """
    if not jnp.ndim(log_variance):
        log_variance = jnp.full(jnp.shape(x), log_variance, jnp.float32)
    sides = (x, mean, log_variance)
    _check_shapes("gaussian_log_likelihood", *sides)
    x, mean, log_variance = map(_float32, sides)
    square = jnp.square(x - mean) * jnp.exp(-log_variance)
    return -0.5 * _sum(square + log_variance + math.log(2 * math.pi))


@checked
def bernoulli_log_likelihood(x: chex.Array, logits: chex.Array) -> chex.Array:
    """Bernoulli log p(x|z) from logits (Kingma & Welling 2014, arXiv:1312.6114).

    Σ x log p + (1 − x) log(1 − p) = Σ x·l − log(1 + e^l), p = 1/(1 + e^−l). For
    grey values strictly inside (0, 1) it is minus a cross-entropy, not the logarithm of
    a density.

    Args:
      x: [B, ...] in [0, 1].
      logits: l, of the shape of x.

    Returns:
      [B] float32 ≤ 0, in nats, the sum over all axes but the first.

    Raises:
      UsageError: for shapes that differ.
    """
    _check_shapes("bernoulli_log_likelihood", x, logits)
    x, logits = _float32(x), _float32(logits)
    return _sum(x * logits - jax.nn.softplus(logits))


@checked
def gaussian_sample(
    rng: chex.PRNGKey, mean: chex.Array, log_variance: chex.Array, *, index: chex.Array
) -> chex.Array:
    """Reparametrised sample μ + σε (Kingma & Welling 2014, arXiv:1312.6114).

    ε ~ N(0, I). The noise of example i is drawn from fold_in(rng, index[i]): it
    depends neither on the position in the batch nor on the number of devices.

    Args:
      rng: key of the step.
      mean, log_variance: [B, ...] μ and log σ².
      index: int [B], which examples these are.

    Returns:
      Like `mean`, float32; gradients pass to both.

    Raises:
      UsageError: for shapes that do not fit.
    """
    _check_shapes("gaussian_sample", mean, log_variance)
    if index.shape != mean.shape[:1]:
        raise UsageError(
            f"gaussian_sample: expected index [{len(mean)}], one for each row, "
            f"got {index.shape}"
        )
    mean, log_variance = _float32(mean), _float32(log_variance)
    noise = jax.vmap(
        lambda i: jax.random.normal(
            jax.random.fold_in(rng, i), mean.shape[1:], jnp.float32
        )
    )(index)
    return mean + jnp.exp(0.5 * log_variance) * noise


@checked
def free_bits(kl: chex.Array, *, threshold: float) -> chex.Array:
    """Rate with λ nats of each dimension free (Kingma et al. 2016, arXiv:1606.04934).

    Σ_j max(λ, mean_i KL_ij): a dimension whose mean over the batch is below λ gets no
    gradient, so that it is not switched off early.

    Args:
      kl: [B, d] divergences.
      threshold: λ ≥ 0; 0 gives the plain rate.

    Returns:
      Scalar float32 ≥ λ·d.

    Raises:
      UsageError: for a rank other than 2, or λ < 0.
    """
    if jnp.ndim(kl) != 2:
        raise UsageError(f"free_bits: expected kl [B, d], got {jnp.shape(kl)}")
    if threshold < 0:
        raise UsageError(f"free_bits: threshold must be >= 0, got {threshold}")
    return jnp.sum(jnp.maximum(jnp.mean(kl, axis=0), threshold))


def _float32(x: chex.Array) -> chex.Array:
    return jnp.asarray(x, jnp.float32)


def _sum(x: chex.Array) -> chex.Array:
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def _check_shapes(name: str, *arrays: chex.Array) -> None:
    shapes = [jnp.shape(x) for x in arrays]
    if len(set(shapes)) > 1 or not shapes[0]:
        found = ", ".join(map(str, shapes))
        raise UsageError(f"{name}: expected arrays [B, ...] of one shape, got {found}")
