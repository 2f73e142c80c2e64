"""Rows of unit length."""

import chex
import jax.numpy as jnp
from jax import lax


def normalize(x: chex.Array, *, eps: float | None = None) -> chex.Array:
    """Divides each row by its l2 norm, in float32: x · rsqrt(max(Σx², eps)).

    The maximum stands inside the root, so a zero row gives zero and a finite gradient
    (a norm clipped from below gives NaN there).

    Args:
      x: [..., D] of any float dtype.
      eps: smallest squared norm; shorter rows are scaled by eps^-½, and so is their
        gradient, in the dtype of `x`. None: 1e-12, and 1e-6 for float16, which ends at
        65,504: it holds gradients at the unit rows up to 65.

    Returns:
      float32 of the shape of `x`.
    """
    if eps is None:
        eps = 1e-6 if x.dtype == jnp.float16 else 1e-12
    x = x.astype(jnp.float32)
    return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), eps))
