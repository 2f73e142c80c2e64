"""Digital: contrast, saturation, elastic deformation and coarse pixels."""

import chex
import jax.numpy as jnp
import numpy as np

from rl_jax.evaluate.corruptions.filters import (
    Corruption,
    gaussian_matrices,
    none_drawn,
    separable,
)
from rl_jax.evaluate.corruptions.jpeg import jpeg_compression, quantisation


def _kept(table, index, shape):
    del shape
    return {"kept": np.float32(table[index, 0])}


def contrast(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Contrast: m + c (x − m), m the mean of the image in each channel.

    Args:
      image: x [H, W, C].
      fields: none.
      constants: "kept" c.

    Returns:
      [H, W, C].
    """
    del fields
    mean = image.mean((0, 1), keepdims=True)
    return mean + constants["kept"] * (image - mean)


def _saturation(table, index, shape):
    del shape
    factor, offset = table[index]
    return {"factor": np.float32(factor), "offset": np.float32(offset)}


def saturate(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """HSV with the saturation clip(a s + b, 0, 1); hue and value stay.

    Grey pixels count as red of saturation zero, as usual in HSV, so b > 0 tints them.
    One channel has no saturation and stays as it is, at every severity.

    Args:
      image: [H, W, C] in [0, 1].
      fields: none.
      constants: "factor" a, "offset" b.

    Returns:
      [H, W, C].
    """
    del fields
    if image.shape[-1] == 1:
        return image
    red, green, blue = (image[..., c : c + 1] for c in range(3))
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    saturation = chroma / jnp.where(value > 0, value, 1.0)
    wanted = constants["factor"] * saturation + constants["offset"]
    wanted = jnp.clip(wanted, 0.0, 1.0)
    # How far each channel is below the value, as a share of the chroma.
    pure_red = jnp.array([0.0, 1.0, 1.0])[None, None, :]
    below = (value - image) / jnp.where(chroma > 0, chroma, 1.0)
    below = jnp.where(chroma > 0, below, pure_red)
    return value * (1 - wanted * below)


def _pixelate(table, index, shape):
    shares = table[:, 0]
    constants = {}
    for name, size in (("rows", shape[0]), ("columns", shape[1])):
        most = int(size * shares.max())
        small = int(size * shares[index])
        down, up = np.zeros((most, size)), np.zeros((size, most))
        down[:small] = _box(size, small)
        up[:, :small] = _box(small, size)
        constants[f"{name}_down"] = down.astype(np.float32)
        constants[f"{name}_up"] = up.astype(np.float32)
    return constants


def _box(size, new):
    """[new, size]: Pillow's box filter, the mean of the pixels centred in reach."""
    scale = size / new
    support = 0.5 * max(scale, 1.0)
    centre = (np.arange(new)[:, None] + 0.5) * scale
    offset = (np.arange(size)[None, :] + 0.5 - centre) / max(scale, 1.0)
    first = np.maximum((centre - support + 0.5).astype(int), 0)
    last = np.minimum((centre + support + 0.5).astype(int), size)
    index = np.arange(size)[None, :]
    weights = (offset > -0.5) & (offset <= 0.5) & (index >= first) & (index < last)
    return weights / weights.sum(1, keepdims=True)


def pixelate(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Resized to ⌊c H⌋ × ⌊c W⌋ and back, both by Pillow's box filter.

    Columns first, then rows, both ways, each time rounded to 8 bits, halves up, as
    Pillow has it.

    Args:
      image: [H, W, C] in [0, 1].
      fields: none.
      constants: "rows_down" [h, H], "rows_up" [H, h] and the same of columns, with the
        h of the mildest severity, zero past that of the severity.

    Returns:
      [H, W, C].
    """
    del fields
    levels = 255 * image
    for way in ("down", "up"):
        columns, rows = constants[f"columns_{way}"], constants[f"rows_{way}"]
        levels = _half_up(
            jnp.einsum("hwc,vw->hvc", levels, columns, precision="highest")
        )
        levels = _half_up(jnp.einsum("hwc,gh->gwc", levels, rows, precision="highest"))
    return levels / 255


def _half_up(levels):
    # Sums of halves and thirds in float32 fall short of the half.
    return jnp.floor(levels + 0.5 + 1e-4)


def _elastic(table, index, shape):
    height, sigma, reach = table[index]
    rows, columns = gaussian_matrices(shape, sigma, border="symmetric", truncate=3)
    return {
        "height": np.float32(height),
        "reach": np.float32(reach),
        "rows": rows,
        "columns": columns,
    }


def _wave_count(shape):
    return 6 + 2 * shape[0] * shape[1]


def _waves(u, shape):
    right, down = u[6:].reshape(2, *shape[:2])
    return {"corners": u[:6].reshape(3, 2), "right": right, "down": down}


def elastic_transform(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """A random affine map, then random waves (Simard et al. 2003).

    Affine: with (a, b) = (⌊W/2⌋, ⌊H/2⌋) and q = ⌊min(H, W)/3⌋, the points (x, y)
    (a + q, b + q), (a + q, b − q), (a − q, b − q) move by r (2u − 1); pixel p takes the
    value at the point that moves to p, interpolated linearly, the border mirrored
    without its edge. Waves: pixel (x, y) takes the value at (x + d_x, y + d_y),
    likewise, the border mirrored with its edge; d = α G_σ(2u − 1), G the Gaussian blur
    with that border, truncated at 3σ.

    Args:
      image: [H, W, C].
      fields: of one `uniform(rng, [6 + 2 H W])` in this order: "corners" u [3, 2], of
        the points above, x then y; "right" and "down" u [H, W], of d_x and d_y.
      constants: "reach" r, "height" α in pixels; "rows" [H, H], "columns" [W, W], G.

    Returns:
      [H, W, C].
    """
    height, width, _ = image.shape
    y = jnp.arange(height)[:, None] + jnp.zeros((1, width))
    x = jnp.arange(width)[None, :] + jnp.zeros((height, 1))

    middle, arm = np.array([width // 2, height // 2]), min(height, width) // 3
    points = middle[None, :] + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    points = points.astype(np.float32)
    moved = points + constants["reach"] * (2 * fields["corners"] - 1)
    # Differences of the points, which the linear part maps to those of the moved ones:
    # source = points[1] + S (p − moved[1]), S = (differences) (moved differences)⁻¹.
    start = points[[0, 2]] - points[[1, 1]]
    (a, b), (c, d) = moved[0] - moved[1], moved[2] - moved[1]
    inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    slope = inverse @ start
    left, top = x - moved[1, 0], y - moved[1, 1]
    source_x = points[1, 0] + left * slope[0, 0] + top * slope[1, 0]
    source_y = points[1, 1] + left * slope[0, 1] + top * slope[1, 1]
    image = _bilinear(image, source_y, source_x, "reflect")

    waves = jnp.stack([fields["right"], fields["down"]], -1)
    waves = separable(2 * waves - 1, constants["rows"], constants["columns"])
    waves = constants["height"] * waves
    return _bilinear(image, y + waves[..., 1], x + waves[..., 0], "symmetric")


def _bilinear(image, y, x, border):
    """The image at points [H, W], in pixels, between the four around each."""
    height, width, channels = image.shape
    pixels = image.reshape(-1, channels)
    low_y, low_x = jnp.floor(y), jnp.floor(x)
    total = jnp.zeros(image.shape)
    for step_y, step_x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row = _folded(low_y + step_y, height, border)
        column = _folded(low_x + step_x, width, border)
        weight = 1 - jnp.abs(y - low_y - step_y)
        weight *= 1 - jnp.abs(x - low_x - step_x)
        total += weight[..., None] * jnp.take(
            pixels, row * width + column, 0, mode="clip"
        )
    return total


def _folded(position, size, border):
    """The place within the axis; rounding compiles faster than integer remainders."""
    edge = 0.5 if border == "symmetric" else 0.0
    period = 2 * size - 2 + 4 * edge
    position += edge
    position = jnp.abs(position - period * jnp.round(position / period))
    return (position - edge).astype(jnp.int32)


DIGITAL = {
    "contrast": none_drawn(_kept, contrast),
    "elastic_transform": Corruption(_elastic, _wave_count, _waves, elastic_transform),
    "pixelate": none_drawn(_pixelate, pixelate),
    "jpeg_compression": none_drawn(quantisation, jpeg_compression),
    "saturate": none_drawn(_saturation, saturate),
}
"""The corruptions of this file and of `jpeg`, by name."""
