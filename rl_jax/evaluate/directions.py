"""Rows of unit length, where cosines are measured and no gradient is taken."""

import chex
import jax
import jax.numpy as jnp
from jax import lax


@jax.jit
def unit_rows(x: chex.Array) -> chex.Array:
    """Each row over its l2 norm, in float32, for lengths from 1e-36 up.

    Args:
      x: [..., D] of any float dtype.

    Returns:
      float32 of the shape of x; rows of zeros stay zero.
    """
    scaled, inverse, _ = _scaled(x)
    return scaled * inverse


def inverse_norms(x: chex.Array) -> chex.Array:
    """One over the l2 norm of each row, float32 [..., 1], for lengths up to 8e37."""
    _, inverse, factors = _scaled(x)
    return inverse * factors[0] * factors[1]


def _scaled(x: chex.Array):
    """Rows times the power of two that brings the largest number of each into [½, 1).

    Which changes no digit. Then one over their norms, and the power as two factors, for
    alone it may be no normal float.
    """
    x = x.astype(jnp.float32)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    half = -exponent // 2
    factors = tuple(jnp.ldexp(jnp.float32(1), e) for e in (half, -exponent - half))
    scaled = x * factors[0] * factors[1]
    square = jnp.sum(scaled * scaled, axis=-1, keepdims=True)
    # Of a row that is not zero it is a quarter at least.
    return scaled, lax.rsqrt(jnp.maximum(square, 0.25)), factors
