"""Blur: defocus, glass, motion, zoom and Gaussian."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.evaluate.corruptions.filters import (
    Corruption,
    gaussian_matrices,
    motion,
    motion_constants,
    none_drawn,
    resampled,
    separable,
    zoom_places,
)


def _gaussian(table, index, shape):
    rows, columns = gaussian_matrices(shape, table[index, 0])
    return {"rows": rows, "columns": columns}


def gaussian_blur(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Σ_d k(d) x, k ∝ exp(−d²/2σ²) for |d| <= ⌊4σ + ½⌋, the border repeated.

    SciPy's `gaussian_filter(mode="nearest", truncate=4)` in each channel.

    Args:
      image: [H, W, C].
      fields: none.
      constants: "rows" [H, H] and "columns" [W, W], the filter as matrices.

    Returns:
      [H, W, C].
    """
    del fields
    return separable(image, constants["rows"], constants["columns"])


def _disc(table, index, shape):
    del shape
    most = _grid(table[:, 0].max())
    radius, sigma = table[index]
    reach = _grid(radius)
    d = np.arange(-reach, reach + 1)
    squared = np.square(d[:, None]) + np.square(d[None, :])
    disc = (squared <= radius**2).astype(np.float64)
    disc /= disc.sum()
    half = 1 if radius <= 8 else 2
    d = np.arange(-half, half + 1)
    weights = np.exp(-0.5 * np.square(d / sigma))
    weights /= weights.sum()
    for axis in (0, 1):
        wide = np.pad(disc, [(half, half) if a == axis else (0, 0) for a in (0, 1)],
                      mode="reflect")  # fmt: skip
        shifts = [
            w * np.take(wide, np.arange(len(disc)) + k, axis)
            for k, w in enumerate(weights)
        ]
        disc = np.sum(shifts, axis=0)
    return {"kernel": np.pad(disc, most - reach).astype(np.float32)}


def _grid(radius: float) -> int:
    return 8 if radius <= 8 else math.ceil(radius)


def defocus_blur(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Mean over an antialiased disc, the border mirrored without its edge.

    The disc holds the pixels at distance <= r; its edge is softened by a Gaussian of σ
    pixels over 3 × 3, or 5 × 5 where r > 8. As published, that happens on a grid of
    max(8, ⌈r⌉) pixels to each side, mirrored at its border: from r = 8 on the kernel
    sums to about 1.01, and the image becomes as much brighter.

    Args:
      image: [H, W, C].
      fields: none.
      constants: "kernel" [k, k], k odd and symmetric.

    Returns:
      [H, W, C].
    """
    del fields
    kernel = constants["kernel"]
    reach = kernel.shape[0] // 2
    height, width = image.shape[:2]
    # Channels as a batch: the kernel is that of all.
    image = jnp.moveaxis(image, -1, 0)
    image = image[:, np.pad(np.arange(height), reach, mode="reflect")]
    image = image[:, :, np.pad(np.arange(width), reach, mode="reflect")]
    image = jax.lax.conv(image[:, None], kernel[None, None], (1, 1), "VALID")
    return jnp.moveaxis(image[:, 0], 0, -1)


def _glass(table, index, shape):
    sigma, delta, passes = table[index]
    rows, columns = gaussian_matrices(shape, sigma)
    return {
        "rows": rows,
        "columns": columns,
        "delta": np.int32(max(1, round(delta))),
        "passes": np.int32(passes),
    }


def _shift_count(shape):
    return 6 * shape[0] * shape[1]


def _shifts(u, shape):
    return {"shifts": u.reshape(3, *shape[:2], 2)}


def glass_blur(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Blur, take pixels from nearby, blur: a pane of frosted glass.

    In each pass, pixel after pixel from the lower right to the upper left, row by row,
    x[h, w] becomes x[h + ⌊2δ u_0⌋ − δ, w + ⌊2δ u_1⌋ − δ] as it is by then, for
    δ < h <= H − δ and the same of w. The published loop means to swap the two but
    copies (its right-hand side is two views of one array), and so does this. Which of
    the two comes first is known beforehand, so the chains of copies are followed by
    doubling, in parallel. Unlike the published program, nothing is cut to 8 bits
    between the steps.

    Args:
      image: [H, W, C].
      fields: "shifts" u ~ U[0, 1) [3, H, W, 2], drawn as `uniform(rng, [3, H, W, 2])`:
        of pass t, pixel (h, w), down and right. Passes past the severity's go unused.
      constants: "rows" [H, H] and "columns" [W, W], the blur; "delta" δ; "passes".

    Returns:
      [H, W, C].
    """
    height, width, channels = image.shape
    delta, count = constants["delta"], height * width
    image = separable(image, constants["rows"], constants["columns"])
    h = jnp.arange(height)[:, None] + jnp.zeros((1, width), jnp.int32)
    w = jnp.arange(width)[None, :] + jnp.zeros((height, 1), jnp.int32)
    inside = (h > delta) & (h <= height - delta) & (w > delta) & (w <= width - delta)
    here = h * width + w

    def turn(t, source):
        shift = jnp.floor(2 * delta * fields["shifts"][t]).astype(jnp.int32) - delta
        there = jnp.where(inside, here + shift[..., 0] * width + shift[..., 1], here)
        # Below `count`: as it is after the pass; above: as it was before.
        visited = inside.reshape(-1)[there.reshape(-1)].reshape(height, width)
        link = jnp.where(inside & visited & (there > here), there, there + count)
        link = jnp.concatenate([link.reshape(-1), count + here.reshape(-1)])
        link = jax.lax.while_loop(
            lambda link: (link < count).any(), lambda link: link[link], link
        )
        moved = source[link[:count] - count]
        return jnp.where(t < constants["passes"], moved, source)

    source = jax.lax.fori_loop(0, 3, turn, here.reshape(-1))
    image = image.reshape(count, channels)[source].reshape(image.shape)
    return separable(image, constants["rows"], constants["columns"])


def _motion(table, index, shape):
    del shape
    return motion_constants(table[:, 0], table[:, 1], index)


def _tilt(u, shape):
    del shape
    return {"angle": 90 * u[0] - 45}


def motion_blur(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """ImageMagick's motion blur along a random direction; see `filters.motion`.

    Args:
      image: [H, W, C].
      fields: "angle" in [−45, 45) degrees, 90 u − 45 of u = `uniform(rng, [1])`.
      constants: "motion" [T], weights along the way.

    Returns:
      [H, W, C].
    """
    return motion(image, fields["angle"], constants["motion"])


def _zoom(table, index, shape):
    factors = [np.arange(1, end, step) for end, step in table]
    most = max(len(f) for f in factors)
    own = factors[index]
    padded = np.concatenate([own, np.ones(most - len(own))])
    return {
        "rows": np.stack([zoom_places(shape[0], f) for f in padded]),
        "columns": np.stack([zoom_places(shape[1], f) for f in padded]),
        "count": np.int32(len(own)),
    }


def zoom_blur(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """(x + Σ_f zoom_f(x)) / (F + 1): a lens that zooms during the exposure.

    zoom_f magnifies the middle by linear interpolation; see `filters.zoom_places`.

    Args:
      image: x [H, W, C].
      fields: none.
      constants: "rows" [F', H] and "columns" [F', W], the places of the zooms, of
        which the first "count" F are used.

    Returns:
      [H, W, C].
    """
    del fields
    rows, columns = constants["rows"], constants["columns"]

    def add(f, total):
        return total + resampled(image, rows[f], columns[f])

    total = jax.lax.fori_loop(0, constants["count"], add, image)
    return total / (constants["count"] + 1)


BLUR = {
    "defocus_blur": none_drawn(_disc, defocus_blur),
    "glass_blur": Corruption(_glass, _shift_count, _shifts, glass_blur),
    "motion_blur": Corruption(_motion, lambda shape: 1, _tilt, motion_blur),
    "zoom_blur": none_drawn(_zoom, zoom_blur),
    "gaussian_blur": none_drawn(_gaussian, gaussian_blur),
}
"""The corruptions of this file, by name."""
