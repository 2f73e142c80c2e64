"""Pixel noise."""

import math

import chex
import jax
import jax.numpy as jnp

from rl_jax.augment import ranges


def gaussian_noise(rng: chex.PRNGKey, image: chex.Array, *, sd: float) -> chex.Array:
    """Adds N(0, sd²) to every value, without clipping: black must not turn grey.

    Args:
      rng: key.
      image: [H, W, C] float32.
      sd: standard deviation >= 0, in units of the range [0, 1].

    Returns:
      [H, W, C] float32; not confined to [0, 1], so put it last.

    Raises:
      UsageError: sd < 0.
    """
    ranges.within("gaussian_noise", 0, math.inf, sd=sd)
    return image + sd * jax.random.normal(rng, image.shape, image.dtype)


def pixel_dropout(rng: chex.PRNGKey, image: chex.Array, *, rate: float) -> chex.Array:
    """Sets each pixel, in all its channels, to zero with probability `rate`.

    Args:
      rng: key.
      image: [H, W, C] float32.
      rate: probability in [0, 1].

    Returns:
      [H, W, C] float32.

    Raises:
      UsageError: rate is not a probability.
    """
    ranges.within("pixel_dropout", 0, 1, rate=rate)
    chex.assert_rank(image, 3)
    if rate == 0:
        return image
    dropped = jax.random.bernoulli(rng, float(rate), (*image.shape[:2], 1))
    return jnp.where(dropped, 0.0, image)
