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


def entropies(targets: chex.Array, used: chex.Array) -> dict[str, chex.Array]:
    """How soft targets are, and how evenly prototypes are used: shares of log K.

    Args:
      targets: [B, T, K] distributions.
      used: [B, V, K] distributions whose mean over all rows is the use.

    Returns:
      As `shares`.
    """
    return shares(jnp.mean(_entropy(targets)), jnp.mean(used, (0, 1)))


def shares(soft: chex.Array, use: chex.Array) -> dict[str, chex.Array]:
    """The same from the mean entropy of targets and the mean [K] of distributions.

    Returns:
      `target_entropy`: 0 where each is certain, 1 where each is uniform.
      `usage_entropy`: 0 where all views have one prototype, 1 where all are used alike.
    """
    most = jnp.log(float(len(use)))
    return {"target_entropy": soft / most, "usage_entropy": _entropy(use) / most}


def _entropy(p: chex.Array) -> chex.Array:
    return -jnp.sum(jax.scipy.special.xlogy(p, p), axis=-1)
