"""Noise of networks in training: dropout and stochastic depth."""

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError


def dropout(
    rng: chex.PRNGKey, x: chex.Array, rate: chex.Numeric, *, rows: bool = False
) -> chex.Array:
    """Dropout: x / (1 − p) with probability 1 − p, else 0.

    Srivastava et al. 2014, jmlr.org/papers/v15/srivastava14a.html

    Args:
      rng: what is dropped is drawn from it.
      x: [B, ...].
      rate: p in [0, 1).
      rows: drop whole rows, everything of an example, instead of single numbers. On the
        branch of a residual block that is stochastic depth (Huang et al. 2016,
        arXiv:1603.09382).

    Returns:
      An array like x, in expectation x.
    """
    shape = (x.shape[0],) + (1,) * (x.ndim - 1) if rows else x.shape
    kept = jax.random.bernoulli(rng, 1.0 - rate, shape)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def check_rates(factory: str, **rates: float) -> None:
    """Refuses probabilities outside [0, 1).

    Raises:
      UsageError: naming the factory and the argument.
    """
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise UsageError(f"{factory}: {name} must be in [0, 1), got {rate}")
