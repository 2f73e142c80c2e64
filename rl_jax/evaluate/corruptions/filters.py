"""Linear filters of an image: matrices made on the host, products on the device."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

Border = Literal["edge", "reflect", "symmetric"]
"""How an axis goes on, by NumPy's names: aaa|abcd|ddd, dcb|abcd|cba, cba|abcd|dcb."""


class Corruption(NamedTuple):
    """A corruption in three parts; chance is only in `draw`.

    Attributes:
      constants: (table [5, P], index, shape [H, W, C]) -> {name: array} of the severity
        at `index`, NumPy; the shapes are those of all severities.
      count: shape [H, W, C] -> how many random numbers an image takes.
      draw: (u [count], shape) -> {name: array}, the random fields of one image, from
        u = `uniform(rng, [count])`.
      apply: (image [H, W, C], fields, constants) -> image; may leave [0, 1].
    """

    constants: Callable
    count: Callable
    draw: Callable
    apply: Callable


def none_drawn(constants: Callable, apply: Callable) -> Corruption:
    """A deterministic corruption."""
    return Corruption(constants, lambda shape: 0, lambda u, shape: {}, apply)


def to_normal(u: chex.Array) -> chex.Array:
    """N(0, 1) from U[0, 1): what `jax.random.normal` makes of the same bits."""
    low = np.nextafter(np.float32(-1), np.float32(0))
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(low, 2 * u + low))


def filter_matrix(size: int, weights: np.ndarray, border: Border) -> np.ndarray:
    """[size, size] float32: row i sums weights[r + d] x[i + d] over |d| <= r."""
    radius = len(weights) // 2
    index = np.pad(np.arange(size), radius, mode=border)
    matrix = np.zeros((size, size))
    for offset, weight in enumerate(weights):
        np.add.at(matrix, (np.arange(size), index[offset : offset + size]), weight)
    return matrix.astype(np.float32)


def gaussian_weights(sigma: float, *, truncate: float = 4.0) -> np.ndarray:
    """exp(−d²/2σ²) for |d| <= ⌊truncate σ + ½⌋, of sum one (SciPy's kernel)."""
    radius = int(truncate * sigma + 0.5)
    d = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * np.square(d / max(sigma, 1e-9)))
    return weights / weights.sum()


def gaussian_matrices(
    shape: tuple[int, ...],
    sigma: float,
    *,
    border: Border = "edge",
    truncate: float = 4.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian blur of σ pixels as matrices for the rows [H, H] and columns [W, W]."""
    weights = gaussian_weights(sigma, truncate=truncate)
    return (
        filter_matrix(shape[0], weights, border),
        filter_matrix(shape[1], weights, border),
    )


def separable(image: chex.Array, rows: chex.Array, columns: chex.Array) -> chex.Array:
    """The product rows · image · columnsᵀ in each channel.

    Matrices, since XLA's convolutions are slow inside loops on CPU and a kernel of any
    width and border costs the same here.

    Args:
      image: [H, W, C].
      rows: [·, H].
      columns: [·, W].

    Returns:
      [·, ·, C].
    """
    height, width, channels = image.shape
    image = jnp.matmul(rows, image.reshape(height, -1), precision="highest")
    image = image.reshape(-1, width, channels)
    return jnp.einsum("hwc,vw->hvc", image, columns, precision="highest")


def zoom_places(size: int, factor: float) -> np.ndarray:
    """[size] float32: where each pixel of a magnified axis lies in the original.

    As published for size >= 32: the middle ⌈size/f⌉ pixels, stretched with the first
    and last in place to round(f ⌈size/f⌉), of which the middle `size` are kept. Whole
    pixels are too coarse for smaller images: there pixel i lies at m + (i − m)/f, with
    m = (size − 1)/2.
    """
    i = np.arange(size)
    if size >= 32:
        crop = int(np.ceil(size / factor))
        long = int(round(crop * factor))
        position = (i + (long - size) // 2) * (crop - 1) / max(long - 1, 1)
        position = np.clip(position, 0, crop - 1) + (size - crop) // 2
    else:
        middle = (size - 1) / 2
        position = middle + (i - middle) / factor
    return position.astype(np.float32)


def resampled(image: chex.Array, rows: chex.Array, columns: chex.Array) -> chex.Array:
    """The image at places rows × columns within it, interpolated linearly.

    Args:
      image: [H, W, C].
      rows: [h] float in [0, H − 1].
      columns: [w] float in [0, W − 1].

    Returns:
      [h, w, C].
    """
    for axis, places in ((0, rows), (1, columns)):
        low = jnp.floor(places)
        share = jnp.expand_dims(places - low, (1 - axis, 2))
        low = low.astype(jnp.int32)
        high = jnp.minimum(low + 1, image.shape[axis] - 1)
        near, far = jnp.take(image, low, axis), jnp.take(image, high, axis)
        image = (1 - share) * near + share * far
    return image


def motion_constants(
    radius: np.ndarray, sigma: np.ndarray, index: int
) -> dict[str, np.ndarray]:
    """Weights [T] of `motion`: exp(−t²/2σ²) for t < 2⌈radius⌉ + 1, of sum one.

    T is the width of the largest of the five radii.
    """
    widths = 2 * np.ceil(radius).astype(int) + 1
    t = np.arange(widths.max())
    weights = np.exp(-0.5 * np.square(t / sigma[index])) * (t < widths[index])
    return {"motion": (weights / weights.sum()).astype(np.float32)}


def motion(image: chex.Array, angle: chex.Numeric, weights: chex.Array) -> chex.Array:
    """ImageMagick's motion blur: a Gaussian tail to one side, at whole pixels.

    Σ_t w_t x[h + ⌈t sin a − ½⌉, w + ⌈t cos a − ½⌉], the border repeated. The values are
    not 8-bit, where ImageMagick's are.

    Args:
      image: [H, W, C].
      angle: a in degrees.
      weights: w [T].

    Returns:
      [H, W, C].
    """
    reach = len(weights) - 1
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    radians = jnp.deg2rad(angle)

    def add(t, total):
        down = jnp.ceil(t * jnp.sin(radians) - 0.5).astype(jnp.int32)
        right = jnp.ceil(t * jnp.cos(radians) - 0.5).astype(jnp.int32)
        start = (reach + down, reach + right, 0)
        return total + weights[t] * jax.lax.dynamic_slice(padded, start, image.shape)

    return jax.lax.fori_loop(0, len(weights), add, jnp.zeros_like(image))


def luma(image: chex.Array) -> chex.Array:
    """0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) [H, W, 1]; one channel is its own."""
    if image.shape[-1] == 1:
        return image
    weights = jnp.array([0.299, 0.587, 0.114])[None, None, :]
    return (image * weights).sum(-1, keepdims=True)
