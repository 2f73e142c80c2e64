"""What autoencoders pay: for the error of a reconstruction, and for dense codes."""

import math

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError, checked


@checked
def squared_distance(x: chex.Array, y: chex.Array) -> chex.Array:
    """Mean over the batch of ‖x − y‖² (Baldi & Hornik 1989, Neural Networks 2:53-58).

    1/B Σ_i Σ_j (x_ij − y_ij)²: the sum over entries, the mean over examples, as the
    eigenvalues of a covariance count it. `squared_error` is the mean over both.

    Args:
      x, y: [B, ...] of one shape.

    Returns:
      Scalar float32 ≥ 0.

    Raises:
      UsageError: for shapes that differ.
    """
    if jnp.shape(x) != jnp.shape(y) or not jnp.ndim(x):
        raise UsageError(
            "squared_distance: expected arrays [B, ...] of one shape, got "
            f"{jnp.shape(x)}, {jnp.shape(y)}"
        )
    gap = jnp.asarray(x, jnp.float32) - jnp.asarray(y, jnp.float32)
    return jnp.sum(jnp.square(gap)) / len(gap)


@checked
def l1(z: chex.Array) -> chex.Array:
    """Mean over the batch of ‖z‖₁ (Olshausen & Field 1996, 10.1038/381607a0).

    1/B Σ_i Σ_j |z_ij|. Its gradient at 0 is 0.

    Args:
      z: [B, d] codes.

    Returns:
      Scalar float32 ≥ 0.

    Raises:
      UsageError: for a rank other than 2.
    """
    _check_codes("l1", z)
    z = jnp.asarray(z, jnp.float32)
    # The derivative of |z| is 1 at 0 to JAX.
    return jnp.sum(jnp.where(z == 0, 0.0, jnp.abs(z))) / len(z)


@checked
def kl_sparsity(z: chex.Array, *, rho: float, logits: bool = False) -> chex.Array:
    """Divergence of the mean activations from ρ (Ng 2011, Stanford CS294A notes).

    Σ_j KL(ρ ‖ r_j) = Σ_j ρ log(ρ/r_j) + (1 − ρ) log((1 − ρ)/(1 − r_j)), with
    r_j = 1/B Σ_i z_ij the share of examples that unit j is on for. It is one number
    of the whole batch, not a mean over it.

    Args:
      z: [B, d] activations in [0, 1]. r is kept 1e-6 away from 0 and 1, in the
        derivative too, so that a unit which is never on is still pulled.
      rho: ρ in (0, 1), the mean activation wished for.
      logits: z are numbers whose sigmoids are the activations. Their gradient does not
        vanish where that of the sigmoid does: summed over the batch it is r_j − ρ where
        all z_ij are equal.

    Returns:
      Scalar float32 ≥ 0 up to rounding, in nats.

    Raises:
      UsageError: for a rank other than 2, or ρ outside (0, 1).
    """
    _check_codes("kl_sparsity", z)
    if not 0 < rho < 1:
        raise UsageError(f"kl_sparsity: rho must be in (0, 1), got {rho}")
    z = jnp.asarray(z, jnp.float32)
    if logits:
        log_on, log_off = (
            jax.nn.logsumexp(jax.nn.log_sigmoid(x), axis=0) - math.log(len(z))
            for x in (z, -z)
        )
    else:
        mean = jnp.mean(z, axis=0)
        kept = jnp.clip(mean, 1e-6, 1 - 1e-6)
        mean = jax.lax.stop_gradient(kept) + (mean - jax.lax.stop_gradient(mean))
        log_on, log_off = jnp.log(mean), jnp.log1p(-mean)
    on = rho * (math.log(rho) - log_on)
    off = (1 - rho) * (math.log1p(-rho) - log_off)
    return jnp.sum(on + off)


def _check_codes(name: str, z: chex.Array) -> None:
    if jnp.ndim(z) != 2:
        raise UsageError(f"{name}: expected codes [B, d], got {jnp.shape(z)}")
