"""RandAugment: some operations of a list, drawn for each image."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.augment import colour, levels, ranges
from rl_jax.augment.affine import affine
from rl_jax.errors import UsageError

COLOURS = (
    "auto_contrast",
    "equalise",
    "invert",
    "posterise",
    "solarise",
    "solarise_add",
    "colour",
    "contrast",
    "brightness",
    "sharpness",
)
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*COLOURS, *MOVES)
"""Each is as likely; timm calls them `_RAND_INCREASING_TRANSFORMS`."""

LARGEST = 10.0
"""The magnitude at which an operation does most."""


class Drawn(NamedTuple):
    """An operation on an image; arrays of one shape.

    Attributes:
      operation: int32, its place in `OPERATIONS` plus one; 0: none.
      magnitude: float32 in [0, 10].
      sign: float32, 1 or −1: one way or the other, where there are two.
    """

    operation: chex.Array
    magnitude: chex.Array
    sign: chex.Array


def rand_augment(
    rng: chex.PRNGKey,
    image: chex.Array,
    *,
    ops: int = 2,
    magnitude: float = 9.0,
    spread: float = 0.5,
    probability: float = 0.5,
    fill: float | Sequence[float] = 0.5,
) -> chex.Array:
    """Applies operations drawn from a list of fifteen (Cubuk et al. 2019, 1909.13719).

    By default timm's `rand-m9-mstd0.5-inc1`, by which DeiT, BEiT and MAE are trained:
    each of `ops` times one operation is drawn, with replacement; with a probability it
    is applied, with a magnitude m ~ N(magnitude, spread²) cut to [0, 10], and a random
    sign where it says ±:

        auto_contrast, equalise, invert: without m
        posterise: keeps 4 − ⌊0.4 m⌋ bits
        solarise: from level 256 − ⌊25.6 m⌋ of 256 on
        solarise_add: ⌊11 m⌋ levels to those below 128
        colour, contrast, brightness, sharpness: factor max(0.1, 1 ± 0.09 m)
        rotate: ± 3 m degrees about the centre
        shear_x, shear_y: ± 0.03 m, x to x + 0.03 m y from the corner
        translate_x, translate_y: ± 0.045 m of the width or height

    As there, in this order; but two moves in a row are one resampling, bilinear, so
    that what the first moves out of the image the second may move in again.

    Args:
      rng: key.
      image: [H, W, C] float32 in [0, 1], C = 1 or 3; with one channel colour is the
        identity.
      ops: how many operations are drawn, >= 1.
      magnitude: mean of m, in [0, 10].
      spread: standard deviation of m, >= 0.
      probability: that one drawn is applied, in [0, 1].
      fill: value beyond the border, in [0, 1], one or one per channel; images of one
        channel take the mean.

    Returns:
      [H, W, C] float32 in [0, 1].

    Raises:
      UsageError: an argument out of bounds, or C is neither 1 nor 3.
    """
    ranges.whole("rand_augment", 1, ops=ops)
    ranges.within("rand_augment", 0, LARGEST, magnitude=magnitude)
    ranges.within("rand_augment", 0, math.inf, spread=spread)
    ranges.within("rand_augment", 0, 1, probability=probability)
    for value in np.ravel(np.asarray(fill, object)):
        ranges.within("rand_augment", 0, 1, fill=value)
    chex.assert_rank(image, 3)
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise UsageError(
            f"rand_augment: image must have 1 or 3 channels, got shape {image.shape}"
        )
    if np.size(fill) not in (1, channels) and channels != 1:
        raise UsageError(
            f"rand_augment: fill must have one value or one per channel, got {fill}"
        )
    if channels == 1 or np.size(fill) == 1:
        fill = float(np.mean(fill))
    drawn = draw(rng, ops, magnitude=magnitude, spread=spread, probability=probability)
    # Two at a time: whatever they are, one warp between two changes of colour does.
    for k in range(0, ops, 2):
        first, *rest = (jax.tree.map(lambda x, n=n: x[n], drawn)
                        for n in range(k, min(k + 2, ops)))  # fmt: skip
        image = applied(image, first, *rest, fill=fill)
    return image


def draw(
    rng: chex.PRNGKey,
    ops: int,
    *,
    magnitude: float,
    spread: float,
    probability: float,
) -> Drawn:
    """What is done to one image: arrays [ops], see `rand_augment`."""
    rng_choice, rng_magnitude = jax.random.split(rng)
    which, whether, way = jax.random.uniform(rng_choice, (3, ops))
    number = 1 + jnp.floor(which * len(OPERATIONS)).astype(jnp.int32)
    m = magnitude + spread * jax.random.normal(rng_magnitude, (ops,))
    return Drawn(
        operation=jnp.where(whether < probability, number, 0),
        magnitude=jnp.clip(m, 0.0, LARGEST),
        sign=jnp.where(way < 0.5, -1.0, 1.0),
    )


def applied(
    image: chex.Array,
    first: Drawn,
    second: Drawn | None = None,
    *,
    fill: float | Sequence[float],
) -> chex.Array:
    """The image after one operation or two; see `rand_augment`."""
    height, width, _ = image.shape
    image = _coloured(image, first)
    matrix = _moved(first, height, width)
    if second is None:
        return affine(image, matrix[:2], fill=fill)
    matrix = jnp.matmul(matrix, _moved(second, height, width), precision="highest")
    return _coloured(affine(image, matrix[:2], fill=fill), second)


def _coloured(image: chex.Array, drawn: Drawn) -> chex.Array:
    """The operation on colours; the image itself where it is none of them."""
    m, three = drawn.magnitude, image.shape[-1] == 3
    factor = jnp.maximum(0.1, 1 + drawn.sign * 0.09 * m)
    threshold = 256 - jnp.floor(25.6 * m)
    results = {
        "auto_contrast": levels.auto_contrast(image),
        "equalise": levels.equalise(image),
        "invert": 1 - image,
        "posterise": levels.posterise(image, 4 - jnp.floor(0.4 * m)),
        # Between two levels, for a value on one may be rounded to either side of it.
        "solarise": jnp.where(image < (threshold - 0.5) / 255, image, 1 - image),
        "solarise_add": levels.solarise_add(image, jnp.floor(11 * m) / 255),
        "colour": colour.adjust_saturation(image, factor) if three else image,
        "contrast": colour.adjust_contrast(image, factor),
        "brightness": colour.adjust_brightness(image, factor),
        "sharpness": levels.adjust_sharpness(image, factor),
    }
    # Under vmap a switch would compute every branch too; a select fuses with them.
    number = jnp.where(drawn.operation <= len(COLOURS), drawn.operation, 0)
    return jax.lax.select_n(number, image, *(results[name] for name in COLOURS))


def _moved(drawn: Drawn, height: int, width: int) -> chex.Array:
    """[3, 3], from places in the result to those in the image; see `affine`."""
    signed = drawn.sign * drawn.magnitude
    angle, slope, share = jnp.radians(3 * signed), 0.03 * signed, 0.045 * signed

    def of(name, value, otherwise=0.0):
        chosen = drawn.operation == 1 + OPERATIONS.index(name)
        return jnp.where(chosen, value, otherwise)

    cos, sin = of("rotate", jnp.cos(angle), 1.0), of("rotate", jnp.sin(angle))
    shear_x, shear_y = of("shear_x", slope), of("shear_y", slope)
    # The corner stays, not the centre, which `affine` counts from.
    right = of("translate_x", share * width) + shear_x * height / 2
    down = of("translate_y", share * height) + shear_y * width / 2
    return jnp.stack(
        [
            jnp.stack([cos, shear_x - sin, right]),
            jnp.stack([shear_y + sin, cos, down]),
            jnp.array([0.0, 0.0, 1.0]),
        ]
    )
