"""Spatter: drops of water or splashes of mud on the lens."""

import chex
import jax.numpy as jnp
import numpy as np

from rl_jax.evaluate.corruptions.filters import (
    Corruption,
    filter_matrix,
    gaussian_matrices,
    luma,
    separable,
    to_normal,
)
from rl_jax.evaluate.corruptions.severities import published

_WATER = np.array([175, 238, 238], np.float32) / 255
_MUD = np.array([63, 42, 20], np.float32) / 255
_FAR = 20
"""Distance in pixels from the rim of a drop, from which on its relief is flat."""
_LIGHT = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
"""Relief lit from the lower right."""


def _spatter(table, index, shape):
    mean, sd, sigma, threshold, strength, mud = table[index]
    rows, columns = gaussian_matrices(shape, sigma)
    mud_rows, mud_columns = gaussian_matrices(shape, mud)
    # The spread of blurred noise goes with 1/σ: as much is covered at every size.
    sd *= sigma / published("spatter", shape)[index, 2]
    return {
        "mean": np.float32(mean),
        "sd": np.float32(sd),
        "rows": rows,
        "columns": columns,
        "threshold": np.float32(threshold),
        "strength": np.float32(strength),
        "is_mud": np.bool_(mud > 0),
        "mud_rows": mud_rows,
        "mud_columns": mud_columns,
    }


def _layer_count(shape):
    return shape[0] * shape[1]


def _layer(u, shape):
    return {"normal": to_normal(u).reshape(shape[:2])}


def spatter(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Water (severities 1 to 3) or mud (4 and 5) where a smooth random layer is high.

    The layer l is the Gaussian blur of m + sd z (the border repeated, truncated at 4σ),
    0 below the threshold t. Where images are smaller or larger than the published ones,
    σ scales and sd with it, which keeps the share of the image that is covered.

    Mud: g is the blur by σ_m of the mask l > t, 0 below 0.8; x (1 − g) + g · brown.

    Water: x + w · turquoise, with w the product of the 8-bit l with a relief, over its
    largest, times the strength. The relief: distance of each pixel to the nearest rim,
    up to 20; mean of 3 × 3, cut to an integer; histogram equalised to 0 … 255; lit from
    the lower right by [[−2, −1, 0], [−1, 1, 1], [0, 1, 2]], clipped to 0 … 255; mean of
    3 × 3, rounded (all of these mirror the border without its edge). Rims are the
    covered pixels with one of their four neighbours in the image uncovered, and
    distances are exact; the published program has the edges of Canny's detector and
    distances in chamfers of 5 × 5. The colours' lumas for one channel.

    Args:
      image: x [H, W, C].
      fields: "normal" z ~ N(0, 1) [H, W], drawn as `normal(rng, [H, W])`.
      constants: "mean" m, "sd", "threshold" t, "strength", "is_mud"; "rows", "mud_rows"
        [H, H], "columns", "mud_columns" [W, W], the blurs.

    Returns:
      [H, W, C] >= 0; the image itself where nothing is covered.
    """
    layer = constants["mean"] + constants["sd"] * fields["normal"][:, :, None]
    layer = separable(layer, constants["rows"], constants["columns"])
    threshold = constants["threshold"]
    layer = jnp.where(layer < threshold, 0.0, layer)

    mud = (layer > threshold).astype(jnp.float32)
    mud = separable(mud, constants["mud_rows"], constants["mud_columns"])
    mud = jnp.where(mud < 0.8, 0.0, mud)

    drops = jnp.floor(255 * jnp.clip(layer, 0.0, 1.0))
    water = drops * _relief(drops[..., 0] > 0)[..., None]
    most = water.max()
    water = constants["strength"] * water / jnp.where(most > 0, most, 1.0)

    return jnp.where(
        constants["is_mud"],
        image * (1 - mud) + mud * _colour(_MUD, image),
        image + water * _colour(_WATER, image),
    )


def _colour(colour, image):
    colour = jnp.asarray(colour)[None, None, :]
    return luma(colour) if image.shape[-1] == 1 else colour


def _relief(covered):
    """[H, W], the lit relief of drops."""
    height, width = covered.shape
    around = jnp.pad(covered, 1, constant_values=True)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    distance = jnp.minimum(_distance(covered & ~inner), _FAR)
    # Distances are not exact, and nor is a mean of equal ones.
    level = jnp.floor(_mean(distance) + 1e-4)
    at_most = (level[None] <= jnp.arange(_FAR + 1)[:, None, None]).sum((1, 2))
    below = at_most[level.astype(jnp.int32)]
    # The lowest level that occurs becomes 0, the highest 255.
    first = at_most[level.min().astype(jnp.int32)]
    spread = height * width - first
    level = jnp.round(255 * (below - first) / jnp.maximum(spread, 1))
    lit = jnp.clip(_correlate(level, _LIGHT), 0.0, 255.0)
    return jnp.round(_mean(lit))


def _distance(rim):
    """[H, W], Euclidean distance to the nearest True: by rows, then by columns."""
    height, width = rim.shape
    squared = jnp.where(rim, 0.0, jnp.float32(1e6))
    for axis, size in ((1, width), (0, height)):
        i = np.arange(size)
        gap = jnp.asarray(np.square(i[:, None] - i[None, :]), jnp.float32)
        gap = gap[None] if axis else gap[:, :, None]
        own = squared[:, None, :] if axis else squared[None]
        squared = (gap + own).min(2 if axis else 1)
    return jnp.sqrt(squared)


def _mean(image):
    return _correlate(image, np.ones((3, 3))) / 9


def _correlate(image, kernel):
    """Σ k[i, j] x[h + i − 1, w + j − 1], the border mirrored without its edge."""
    height, width = image.shape
    total = jnp.zeros((height, width, 1))
    for weights, shift in zip(kernel, np.eye(3), strict=True):
        rows = filter_matrix(height, shift, "reflect")
        columns = filter_matrix(width, weights, "reflect")
        total += separable(image[..., None], rows, columns)
    return total[..., 0]


SPATTER = {"spatter": Corruption(_spatter, _layer_count, _layer, spatter)}
"""The corruption of this file, by name."""
