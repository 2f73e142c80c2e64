"""Rows of unit length."""

import chex
import jax.numpy as jnp
from jax import lax

from rl_jax.errors import checked


@checked
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
      float32 of the shape of `x`; NaN for a row whose squared norm overflows, which is
      longer than 1.8e19. From 1e12 on its gradient is none to rely on.
    """
    x, inverse = with_inverse_norm(x, eps=eps)
    return x * inverse


def with_inverse_norm(
    x: chex.Array, *, eps: float | None = None
) -> tuple[chex.Array, chex.Array]:
    """The two factors of `normalize`: the rows, and one over the norm of each.

    Args:
      x, eps: as in `normalize`.

    Returns:
      float32 [..., D] and [..., 1].
    """
    if eps is None:
        eps = 1e-6 if x.dtype == jnp.float16 else 1e-12
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    # 1/∞ would make it a row of zeros, of which nobody sees that training diverges.
    square = jnp.where(jnp.isinf(square), jnp.nan, square)
    return x, lax.rsqrt(jnp.maximum(square, eps))
