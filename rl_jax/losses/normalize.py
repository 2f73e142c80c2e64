"""Rows of unit length."""

import chex
import jax.numpy as jnp
from jax import lax


def normalize(x: chex.Array, *, eps: float = 1e-12) -> chex.Array:
    """Divides each row by its l2 norm, in float32: x · rsqrt(max(Σx², eps)).

    The maximum stands inside the root, so a zero row gives zero and a finite gradient
    (a norm clipped from below gives NaN there).

    Args:
      x: [..., D] of any float dtype.
      eps: smallest squared norm; shorter rows are scaled by eps^-½.

    Returns:
      float32 of the shape of `x`.
    """
    x = x.astype(jnp.float32)
    return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), eps))
