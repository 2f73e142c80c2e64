"""What methods that assign views to prototypes share."""

import chex
import jax
import jax.numpy as jnp


def init(rng: chex.PRNGKey, count: int, dim: int) -> chex.Array:
    """Prototypes [K, D] uniform on the sphere in direction; only that matters."""
    return jax.random.normal(rng, (count, dim)) / dim**0.5


def frozen(prototypes: chex.Array, step: chex.Array, steps: int) -> chex.Array:
    """The same, without gradient in the first `steps` steps."""
    still = jax.lax.stop_gradient(prototypes)
    return jnp.where(step < steps, still, prototypes) if steps else prototypes


def warmed(step: chex.Array, *, start: float, end: float, steps: int) -> chex.Numeric:
    """A teacher's temperature: from `start` to `end` in a straight line of `steps`."""
    share = jnp.minimum(step / max(steps, 1), 1.0) if steps else 1.0
    return start + share * (end - start)


def entropies(
    targets: chex.Array, used: chex.Array, weight: chex.Array | None = None
) -> dict[str, chex.Array]:
    """How soft targets are, and how evenly prototypes are used: shares of log K.

    Args:
      targets: [B, T, K] distributions.
      used: [B, V, K] distributions whose mean over all rows is the use.
      weight: [B, T] for T = V, 1 where a row counts and 0 where it does not; None: 1.

    Returns:
      `target_entropy`: 0 where each is certain, 1 where each is uniform.
      `usage_entropy`: 0 where all views have one prototype, 1 where all are used alike.
    """
    most = jnp.log(float(targets.shape[-1]))
    if weight is None:
        soft, use = jnp.mean(_entropy(targets)), jnp.mean(used, (0, 1))
    else:
        share = weight / jnp.maximum(jnp.sum(weight), 1)
        soft = jnp.sum(share * _entropy(targets))
        use = jnp.einsum("bt,btk->k", share, used, precision="highest")
    return {"target_entropy": soft / most, "usage_entropy": _entropy(use) / most}


def _entropy(p: chex.Array) -> chex.Array:
    return -jnp.sum(jax.scipy.special.xlogy(p, p), axis=-1)
