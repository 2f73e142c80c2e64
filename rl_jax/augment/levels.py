"""Operations on levels of brightness, of 0 to 255, and sharpness: those of Pillow.

Where one counts levels, a value x in [0, 1] stands on the level round(255 x).
"""

import chex
import jax.numpy as jnp

from rl_jax.augment import ranges

LEVELS = 256


def _level(image: chex.Array) -> chex.Array:
    """[H, W, C] int32 in [0, 255]."""
    return jnp.round(255 * jnp.clip(image, 0.0, 1.0)).astype(jnp.int32)


def auto_contrast(image: chex.Array) -> chex.Array:
    """(x − min) / (max − min) of each channel: Pillow's `ImageOps.autocontrast`.

    Args:
      image: [H, W, C] float32 in [0, 1].

    Returns:
      [H, W, C] float32 in [0, 1]; a channel of one value stays.
    """
    chex.assert_rank(image, 3)
    low = image.min(axis=(0, 1), keepdims=True)
    width = image.max(axis=(0, 1), keepdims=True) - low
    stretched = (image - low) / jnp.where(width > 0, width, 1.0)
    return jnp.where(width > 0, jnp.minimum(stretched, 1.0), image)


def equalise(image: chex.Array) -> chex.Array:
    """Makes all levels of a channel as frequent: Pillow's `ImageOps.equalize`.

    Level l becomes min(255, (⌊s/2⌋ + Σ_{k<l} n_k) // s), n_k the number of pixels on
    level k and s = (all pixels − those on the highest level there is) // 255.

    Args:
      image: [H, W, C] float32 in [0, 1].

    Returns:
      [H, W, C] float32 in [0, 1]; a channel stays where s = 0, as with one level or
      few pixels. Exact up to two million pixels.
    """
    chex.assert_rank(image, 3)
    height, width, channels = image.shape
    level = _level(image) + (LEVELS + 1) * jnp.arange(channels)[None, None, :]
    # Counted one by one: of what XLA offers for a histogram this alone holds no array
    # of pixels times levels, and on CPU it is 6 to 60 times faster. One bin further, so
    # that the sum up to a level's own bin is of those below.
    counts = jnp.zeros(channels * (LEVELS + 1), jnp.int32)
    counts = counts.at[level.ravel() + 1].add(1, mode="promise_in_bounds")
    below = jnp.cumsum(counts.reshape(channels, LEVELS + 1), axis=1)
    step = jnp.where(below < height * width, below, 0).max(axis=1)[None, None] // 255
    # Divided pixel by pixel: a table of quotients would be fused into the look-up, and
    # its divisions of integers with it. The ½ keeps quotients off whole numbers.
    number = below.ravel().at[level].get(mode="promise_in_bounds") + step // 2
    equal = jnp.floor((number + 0.5) / jnp.maximum(step, 1))
    return jnp.where(step > 0, jnp.minimum(equal, 255.0) / 255, image)


def posterise(image: chex.Array, bits: chex.Numeric) -> chex.Array:
    """Keeps the highest bits of each level's eight: Pillow's `ImageOps.posterize`.

    Args:
      image: [H, W, C] float32 in [0, 1].
      bits: scalar, a whole number in [0, 8]; 0 is black.

    Returns:
      [H, W, C] float32 in [0, 1].
    """
    chex.assert_rank(image, 3)
    kept = jnp.left_shift(255, 8 - jnp.asarray(bits, jnp.int32))
    return (_level(image) & kept).astype(jnp.float32) / 255


def solarise_add(
    image: chex.Array, addition: chex.Numeric, *, threshold: float = 0.5
) -> chex.Array:
    """Lightens dark pixels: x < threshold becomes min(1, x + addition).

    Args:
      image: [H, W, C] float32 in [0, 1].
      addition: scalar >= 0; 0 is the identity.
      threshold: in [0, 1].

    Returns:
      [H, W, C] float32 in [0, 1].

    Raises:
      UsageError: threshold out of bounds.
    """
    ranges.within("solarise_add", 0, 1, threshold=threshold)
    return jnp.where(image < threshold, jnp.minimum(image + addition, 1.0), image)


def adjust_sharpness(image: chex.Array, factor: chex.Numeric) -> chex.Array:
    """clip(m + f (x − m)), m a mean around: Pillow's `ImageEnhance.Sharpness`.

    m is (4 x + the sum of the 3×3 pixels around x) / 13, and x itself on the border.

    Args:
      image: [H, W, C] float32 in [0, 1].
      factor: f >= 0; 0 smooths, 1 is the identity, above 1 sharpens.

    Returns:
      [H, W, C] float32 in [0, 1].
    """
    chex.assert_rank(image, 3)
    if min(image.shape[:2]) < 3:
        return image  # all of it is border
    rows = image[:-2] + image[1:-1] + image[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = image[1:-1, 1:-1]
    excess = jnp.pad(inner - (4 * inner + around) / 13, ((1, 1), (1, 1), (0, 0)))
    return jnp.clip(image + (factor - 1) * excess, 0.0, 1.0)
