"""Noise: Gaussian, shot, impulse and speckle."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.evaluate.corruptions.filters import Corruption, to_normal


def _amount(table, index, shape):
    del shape
    return {"amount": np.float32(table[index, 0])}


def _normal(u, shape):
    return {"normal": to_normal(u).reshape(shape)}


def _uniform(u, shape):
    return {"uniform": u.reshape(shape)}


def gaussian_noise(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Adds c z to x: the noise of little light.

    Args:
      image: x [H, W, C].
      fields: "normal" z ~ N(0, 1) [H, W, C], drawn as `normal(rng, shape)`.
      constants: "amount" c.

    Returns:
      [H, W, C].
    """
    return image + constants["amount"] * fields["normal"]


def speckle_noise(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Adds c x z to x: noise that grows with the signal.

    Args:
      image: x [H, W, C].
      fields: "normal" z ~ N(0, 1) [H, W, C], drawn as `normal(rng, shape)`.
      constants: "amount" c.

    Returns:
      [H, W, C].
    """
    return image + constants["amount"] * image * fields["normal"]


def impulse_noise(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Salt and pepper in each channel: 0 where u < c/2, 1 where u >= 1 − c/2.

    Args:
      image: [H, W, C].
      fields: "uniform" u ~ U[0, 1) [H, W, C], drawn as `uniform(rng, shape)`.
      constants: "amount" c, the share of values replaced.

    Returns:
      [H, W, C].
    """
    u, half = fields["uniform"], constants["amount"] / 2
    return jnp.where(u < half, 0.0, jnp.where(u >= 1 - half, 1.0, image))


def _poisson_table(table, index, shape):
    """[256, K] distribution functions of Poisson(c l / 255) at k = 0, …, K − 1.

    K is a power of two past the tails of all severities.
    """
    del shape
    most = table[:, 0].max()
    k = np.arange(2 ** int(np.ceil(np.log2(most + 8 * np.sqrt(most) + 8))))
    log_factorial = np.cumsum(np.log(np.maximum(k, 1)))
    mean = table[index, 0] * np.arange(1, 256)[:, None] / 255
    mass = np.exp(k * np.log(mean) - mean - log_factorial)
    cumulative = np.concatenate([np.ones((1, len(k))), np.cumsum(mass, 1)])
    cumulative[:, -1] = 1
    return {
        "cumulative": np.minimum(cumulative, 1).astype(np.float32),
        "amount": np.float32(table[index, 0]),
    }


def shot_noise(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Poisson(c x) / c: the noise of counting photons.

    That is k / c, k the smallest count with P(Poisson(c x) <= k) >= u, so the draw
    comes before the image; x is rounded to its 256 levels, whose distributions are
    tabled.

    Args:
      image: x [H, W, C] in [0, 1].
      fields: "uniform" u ~ U[0, 1) [H, W, C], drawn as `uniform(rng, shape)`.
      constants: "amount" c; "cumulative" [256, K], P(Poisson(c l / 255) <= k).

    Returns:
      [H, W, C] >= 0.
    """
    table, u = constants["cumulative"], fields["uniform"]
    counts = table.shape[1]
    row = counts * jnp.round(255 * image).astype(jnp.int32)
    table = table.reshape(-1)

    # Bisection; searchsorted wants one table for all.
    def step(turn, below):
        probe = below + (counts >> (turn + 1))
        return jnp.where(table[row + probe - 1] < u, probe, below)

    turns = counts.bit_length() - 1
    count = jax.lax.fori_loop(0, turns, step, jnp.zeros(image.shape, jnp.int32))
    return count / constants["amount"]


NOISE = {
    "gaussian_noise": Corruption(_amount, math.prod, _normal, gaussian_noise),
    "shot_noise": Corruption(_poisson_table, math.prod, _uniform, shot_noise),
    "impulse_noise": Corruption(_amount, math.prod, _uniform, impulse_noise),
    "speckle_noise": Corruption(_amount, math.prod, _normal, speckle_noise),
}
"""The corruptions of this file, by name."""
