"""Random erasing: a box of the image in which nothing of it is left."""

import functools
import math
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from rl_jax.augment import ranges
from rl_jax.errors import UsageError

Fill = Literal["noise", "mean"]

_ATTEMPTS = 10


def random_erasing(
    rng: chex.PRNGKey,
    image: chex.Array,
    *,
    probability: float = 0.25,
    area: ranges.Range = (0.02, 1 / 3),
    aspect: ranges.Range = (0.3, 1 / 0.3),
    fill: Fill = "noise",
) -> chex.Array:
    """Erases a random box of a standardised image (Zhong et al. 2017, 1708.04896).

    a / (H W) ~ U(area), log r ~ U(log aspect); the box has round(√(a r)) rows and
    round(√(a / r)) columns, its place is uniform. The first of ten draws that is
    smaller than the image on both sides is taken; if none is, the image stays. So does
    timm, whose mode "pixel" is "noise", by which DeiT, BEiT and MAE are trained.

    Args:
      rng: key.
      image: [H, W, C] float32 with mean 0 and variance 1 over the data, as `views`
        gives it to transforms in `finish`.
      probability: that a box is erased, in [0, 1].
      area: range of the box's share of the image's area, in (0, 1].
      aspect: range of its height over its width, > 0.
      fill: "noise": N(0, 1) of every value by itself; "mean": 0, the mean of the data.

    Returns:
      [H, W, C] float32.

    Raises:
      UsageError: an argument out of bounds, or another fill.
    """
    ranges.within("random_erasing", 0, 1, probability=probability)
    ranges.ordered("random_erasing", high=1.0, area=area)
    ranges.ordered("random_erasing", aspect=aspect)
    if fill not in ("noise", "mean"):
        raise UsageError(
            f"random_erasing: fill must be 'noise' or 'mean', got {fill!r}"
        )
    chex.assert_rank(image, 3)
    if probability == 0:
        return image
    height, width, channels = image.shape
    rng_box, rng_noise = jax.random.split(rng)
    draws = jax.random.uniform(rng_box, (2 * _ATTEMPTS + 3,))
    top, left, rows, columns = _box(
        draws[:-1], height=height, width=width, area=area, aspect=aspect
    )
    rows = jnp.where(draws[-1] < probability, rows, 0)
    row = jnp.arange(height)[:, None] - top
    column = jnp.arange(width)[None, :] - left
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    if fill == "mean":
        return jnp.where(inside[..., None], 0.0, image)
    # Bits for the largest box, laid into the box row by row, as generating them for the
    # whole image takes longer than all other operations on it.
    most = area[1] * height * width + (height + width) / 2 + 1
    most = min(math.floor(most), height * width)
    bits = _sixteen(rng_noise, most * channels).reshape(most, channels)
    place = jnp.where(inside, row * columns + column, 0)
    bits = bits.at[place].get(mode="promise_in_bounds")
    noise = jnp.asarray(_quantiles()).at[bits].get(mode="promise_in_bounds")
    return jnp.where(inside[..., None], noise, image)


def _box(
    draws: chex.Array,
    *,
    height: int,
    width: int,
    area: ranges.Range,
    aspect: ranges.Range,
) -> chex.Array:
    """[4] int32: top, left, rows, columns; no rows where no attempt fits."""
    shares, shapes = draws[:_ATTEMPTS], draws[_ATTEMPTS:-2]
    pixels = (area[0] + (area[1] - area[0]) * shares) * (height * width)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = jnp.exp(low + (high - low) * shapes)
    rows = jnp.round(jnp.sqrt(pixels * ratio)).astype(jnp.int32)
    columns = jnp.round(jnp.sqrt(pixels / ratio)).astype(jnp.int32)
    fits = (rows < height) & (columns < width)
    first = jnp.argmax(fits)
    extent = jnp.stack([jnp.where(fits.any(), rows[first], 0), columns[first]])
    room = jnp.array([height, width]) - extent
    corner = jnp.floor(draws[-2:] * (room + 1)).astype(jnp.int32)
    return jnp.concatenate([jnp.minimum(corner, room), extent])


def _sixteen(rng: chex.PRNGKey, number: int) -> chex.Array:
    """Whole numbers in [0, 2¹⁶), two of a word: it is words that take time."""
    words = jax.random.bits(rng, (-(-number // 2),), jnp.uint32)
    return jnp.concatenate([words & 0xFFFF, words >> 16])[:number]


@functools.cache
def _quantiles() -> np.ndarray:
    """Of N(0, 1) at (k + ½) / 2¹⁶, whose mean is 0 and variance 0.99998.

    A table, for a formula would be computed anew for each pixel of the image.
    """
    shares = (np.arange(2**16) + 0.5) / 2**16
    return special.ndtri(shares).astype(np.float32)
