"""Crops and resizing as two small matrix products, one per axis.

The box of a crop is a real number of pixels and differs from image to image, while
shapes must not: resampling a box is R · image · Cᵀ with two interpolation matrices
that depend on the box. Under `vmap` these are batched matrix products, without a
gather and without a loop. On an accelerator they run at jax's default precision:
TF32 moves a pixel by at most a quarter of an 8-bit level.
"""

import math
from typing import Literal

import chex
import jax
import jax.numpy as jnp

from rl_jax.augment import ranges
from rl_jax.errors import UsageError

Kernel = Literal["bilinear", "bicubic"]

_ATTEMPTS = 10


def _weight(distance: chex.Array, method: Kernel) -> chex.Array:
    if method == "bilinear":
        return jnp.maximum(0.0, 1.0 - distance)
    if method == "bicubic":  # Keys (1981), a = -1/2, as Pillow and TensorFlow
        near = (1.5 * distance - 2.5) * distance**2 + 1.0
        far = ((2.5 - 0.5 * distance) * distance - 4.0) * distance + 2.0
        return jnp.where(distance < 1, near, jnp.where(distance < 2, far, 0.0))
    raise UsageError(
        f"resample: method must be 'bilinear' or 'bicubic', got {method!r}"
    )


def interpolation_matrix(
    start: chex.Numeric,
    extent: chex.Numeric,
    *,
    source: int,
    target: int,
    method: Kernel = "bilinear",
) -> chex.Array:
    """Weights that resample the interval [start, start + extent) of one axis.

    w_ij ∝ k(|j + ½ − c_i| / max(s, 1)), c_i = start + (i + ½) s, s = extent / target:
    the kernel k is stretched when shrinking (antialiasing), as Pillow does, and each
    row sums to one over the pixels that exist.

    Args:
      start, extent: scalars in source pixels; the interval lies in [0, source].
      source, target: lengths of the axis before and after, in pixels.
      method: the kernel k, "bilinear" (triangle) or "bicubic" (Keys, a = −½).

    Returns:
      [target, source] float32.

    Raises:
      UsageError: unknown method.
    """
    step = jnp.asarray(extent, jnp.float32) / target
    centre = start + (jnp.arange(target, dtype=jnp.float32) + 0.5) * step
    pixel = jnp.arange(source, dtype=jnp.float32) + 0.5
    distance = jnp.abs(pixel[None, :] - centre[:, None]) / jnp.maximum(step, 1.0)
    weights = _weight(distance, method)
    return weights / weights.sum(axis=1, keepdims=True)


def resample(
    image: chex.Array,
    box: chex.Array,
    *,
    size: tuple[int, int],
    method: Kernel = "bilinear",
) -> chex.Array:
    """Resizes a box of an image with antialiasing: Pillow's `resize(size, box=box)`.

    That is Pillow's of floats (mode "F"). Of bytes it rounds and clips between its two
    passes, too: "bilinear" then differs by up to 1 of 255, "bicubic" by more where it
    overshoots, about 30 for noise of 0 and 255.

    Pixels just outside the box contribute to its border, as in Pillow; cropping first
    and resizing then, as torchvision does, differs there alone.

    Args:
      image: [H, W, C] float32 in [0, 1].
      box: [4] float32: top, left, height, width in pixels, inside the image.
      size: height and width of the result in pixels.
      method: "bilinear" or "bicubic"; the overshoot of the latter is clipped.

    Returns:
      [size[0], size[1], C] float32 in [0, 1].

    Raises:
      UsageError: size is not two whole numbers >= 1, or unknown method.
    """
    ranges.pairs("resample", size=size)
    ranges.whole("resample", 1, height=size[0], width=size[1])
    chex.assert_rank(image, 3)
    chex.assert_shape(box, (4,))
    height, width, _ = image.shape
    rows = interpolation_matrix(
        box[0], box[2], source=height, target=size[0], method=method
    )
    columns = interpolation_matrix(
        box[1], box[3], source=width, target=size[1], method=method
    )
    return jnp.clip(along_both(rows, image, columns), 0.0, 1.0)


def along_both(rows: chex.Array, image: chex.Array, columns: chex.Array) -> chex.Array:
    """R · image · Cᵀ of each channel; [P, H], [H, W, C] and [Q, W] make [P, Q, C].

    Each product contracts the last axis of the image and puts its own first, so that
    channels first becomes channels last and nothing is transposed in between.
    """
    planes = jnp.moveaxis(image, -1, 0)
    planes = jnp.einsum("qw,chw->qch", columns, planes)
    return jnp.einsum("ph,qch->pqc", rows, planes)


def crop_box(
    rng: chex.PRNGKey,
    *,
    height: int,
    width: int,
    scale: ranges.Range = (0.08, 1.0),
    ratio: ranges.Range = (3 / 4, 4 / 3),
) -> chex.Array:
    """Draws the box of a random resized crop (Szegedy et al. 2014, arXiv:1409.4842).

    area / (H W) ~ U(scale), log(width / height) ~ U(log ratio), position uniform. As in
    torchvision, the first of ten draws that fits into the image is taken, else the
    largest box of an allowed ratio, in the middle. Unlike there, boxes are not rounded
    to pixels.

    Args:
      rng: key.
      height, width: size of the image in pixels.
      scale: range of the share of the image's area, in (0, 1].
      ratio: range of width over height, > 0.

    Returns:
      [4] float32: top, left, height, width in pixels.

    Raises:
      UsageError: an empty range, or one out of bounds.
    """
    ranges.ordered("random_resized_crop", high=1.0, scale=scale)
    ranges.ordered("random_resized_crop", ratio=ratio)
    # One call for all draws: every call of a generator costs compile time.
    draws = jax.random.uniform(rng, (2 * _ATTEMPTS + 2,))
    share = scale[0] + (scale[1] - scale[0]) * draws[:_ATTEMPTS]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = jnp.exp(low + (high - low) * draws[_ATTEMPTS:-2])
    heights = jnp.sqrt(share * height * width / aspect)
    widths = jnp.sqrt(share * height * width * aspect)
    fits = (heights <= height) & (widths <= width)

    nearest = min(max(width / height, ratio[0]), ratio[1])
    largest = min(height, width / nearest), min(width, height * nearest)
    first, found = jnp.argmax(fits), fits.any()
    extent = jnp.where(
        found,
        jnp.stack([heights[first], widths[first]]),
        jnp.array(largest, jnp.float32),
    )
    room = jnp.array([height, width], jnp.float32) - extent
    place = jnp.where(found, draws[-2:], 0.5)
    return jnp.concatenate([place * room, extent])


def random_resized_crop(
    rng: chex.PRNGKey,
    image: chex.Array,
    *,
    size: int,
    scale: ranges.Range = (0.08, 1.0),
    ratio: ranges.Range = (3 / 4, 4 / 3),
    method: Kernel = "bicubic",
) -> chex.Array:
    """Crops a random box and resizes it to a square (arXiv:1409.4842).

    Args:
      rng: key.
      image: [H, W, C] float32 in [0, 1].
      size: side of the result in pixels, >= 1.
      scale, ratio: ranges of the box's share of the area and of width over height,
        see `crop_box`.
      method: "bicubic" as SimCLR and BYOL, or "bilinear" as torchvision's default.

    Returns:
      [size, size, C] float32 in [0, 1].

    Raises:
      UsageError: size, scale, ratio or method out of bounds.
    """
    ranges.whole("random_resized_crop", 1, size=size)
    chex.assert_rank(image, 3)
    height, width, _ = image.shape
    box = crop_box(rng, height=height, width=width, scale=scale, ratio=ratio)
    return resample(image, box, size=(size, size), method=method)


def centre_crop(
    image: chex.Array,
    *,
    size: int,
    fraction: float = 0.875,
    method: Kernel = "bicubic",
) -> chex.Array:
    """Cuts the central square and resizes it: what evaluation sees.

    The defaults are "resize the shorter side to 256, crop 224" in one resampling. An
    image whose shorter side is not above `size` keeps its whole central square.

    Args:
      image: [H, W, C] float32 in [0, 1].
      size: side of the result in pixels, >= 1.
      fraction: side of the square over the shorter side, in (0, 1].
      method: "bicubic" or "bilinear".

    Returns:
      [size, size, C] float32 in [0, 1].

    Raises:
      UsageError: size or fraction out of bounds, or unknown method.
    """
    ranges.whole("centre_crop", 1, size=size)
    ranges.shares("centre_crop", fraction=fraction)
    chex.assert_rank(image, 3)
    height, width, _ = image.shape
    if height == width == size:
        return image
    side = min(height, width)
    if side > size:
        side = side * fraction
    box = jnp.array([(height - side) / 2, (width - side) / 2, side, side], jnp.float32)
    return resample(image, box, size=(size, size), method=method)
