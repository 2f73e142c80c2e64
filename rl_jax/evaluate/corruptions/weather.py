"""Weather: snow, frost, fog and brightness."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.evaluate.corruptions.filters import (
    Corruption,
    luma,
    motion,
    motion_constants,
    none_drawn,
    resampled,
    separable,
    to_normal,
    zoom_places,
)

_FROST = np.array([0.57, 0.66, 0.70], np.float32)
"""Mean colour of the published photographs of frost, and below their spread."""
_FROST_SD = 0.11


def _snow(table, index, shape):
    mean, sd, zoom, threshold, _, _, kept = table[index]
    return {
        "mean": np.float32(mean),
        "sd": np.float32(sd),
        "rows": zoom_places(shape[0], zoom),
        "columns": zoom_places(shape[1], zoom),
        "threshold": np.float32(threshold),
        "kept": np.float32(kept),
        **motion_constants(table[:, 4], table[:, 5], index),
    }


def _flake_count(shape):
    return shape[0] * shape[1] + 1


def _flakes(u, shape):
    layer = to_normal(u[:-1]).reshape(shape[:2])
    return {"normal": layer, "angle": 90 * u[-1] - 135}


def snow(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Falling flakes over a whitened image.

    The layer s is noise m + sd z, its middle magnified (`filters.zoom_places`), 0 below
    the threshold, clipped to [0, 1] and blurred by motion (`filters.motion`). Result:
    k x + (1 − k) max(x, 1.5 y + ½) + s + s turned by 180°, with y the luma of x. Unlike
    the published program, the layer is not cut to 8 bits on the way.

    Args:
      image: x [H, W, C].
      fields: "normal" z ~ N(0, 1) [H, W], drawn as `normal(rng, [H W + 1])` without its
        last; "angle" in [−135, −45) degrees, 90 u − 135 of u, the last of
        `uniform(rng, [H W + 1])`.
      constants: "mean" m, "sd", "threshold", "kept" k; "rows" [H] and "columns"
        [W], the places of the zoom; "motion" [T], the weights of the blur.

    Returns:
      [H, W, C] >= 0.
    """
    layer = constants["mean"] + constants["sd"] * fields["normal"][:, :, None]
    layer = resampled(layer, constants["rows"], constants["columns"])
    layer = jnp.where(layer < constants["threshold"], 0.0, jnp.clip(layer, 0.0, 1.0))
    layer = motion(layer, fields["angle"], constants["motion"])
    kept = constants["kept"]
    white = jnp.maximum(image, 1.5 * luma(image) + 0.5)
    return kept * image + (1 - kept) * white + layer + layer[::-1, ::-1]


def _frost(table, index, shape):
    del shape
    image, frost = table[index]
    return {"image": np.float32(image), "frost": np.float32(frost)}


def _lattice_shape(shape):
    octaves = min(7, int(np.log2(min(shape[:2]))))
    return octaves, 2**octaves + 1, 2**octaves + 1


def _lattice_count(shape):
    return math.prod(_lattice_shape(shape))


def _lattice(u, shape):
    return {"lattice": u.reshape(_lattice_shape(shape))}


def frost(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Ice f on the lens: a x + b f.

    f is procedural, where the published program crops one of five photographs: ridged
    noise of O = min(7, ⌊log2 min(H, W)⌋) octaves, t = Σ_o 0.8^o (1 − |2 v_o − 1|), with
    v_o the [n + 1, n + 1] upper left corner of lattice o, n = 2^(o+1), o = 0 …,
    stretched over the image, corners on corners, and interpolated linearly. Then
    f = clip(colour + 0.11 (t − mean t) / sd t), the photographs' mean colour
    (0.57, 0.66, 0.70), its luma for one channel, and their spread; 0.8 is between what
    their steps from pixel to pixel ask for at 224 and at 32 pixels.

    Args:
      image: x [H, W, C].
      fields: "lattice" ~ U[0, 1) [O, 2^O + 1, 2^O + 1], drawn as `uniform(rng, ·)`.
      constants: "image" a, "frost" b.

    Returns:
      [H, W, C] >= 0.
    """
    height, width, channels = image.shape
    texture = jnp.zeros((height, width, 1))
    for octave in range(len(fields["lattice"])):
        cells = 2 ** (octave + 1)
        lattice = fields["lattice"][octave, : cells + 1, : cells + 1, None]
        value = separable(lattice, _stretch(height, cells), _stretch(width, cells))
        texture += 0.8**octave * (1 - jnp.abs(2 * value - 1))
    texture = (texture - texture.mean()) / jnp.maximum(texture.std(), 1e-6)
    colour = jnp.asarray(_FROST)[None, None, :]
    colour = luma(colour) if channels == 1 else colour
    ice = jnp.clip(colour + _FROST_SD * texture, 0.0, 1.0)
    return constants["image"] * image + constants["frost"] * ice


def _stretch(size, cells):
    """[size, cells + 1]: linear interpolation, corners on corners."""
    position = np.linspace(0, cells, size)
    distance = np.abs(position[:, None] - np.arange(cells + 1)[None, :])
    return np.maximum(1 - distance, 0).astype(np.float32)


def _side(shape):
    return 2 ** int(np.ceil(np.log2(max(shape[:2]))))


def _fog(table, index, shape):
    thickness, decay = table[index]
    octaves = np.arange(int(np.log2(_side(shape))))
    return {
        "thickness": np.float32(thickness),
        "heights": (decay ** (-2.0 * octaves)).astype(np.float32),
    }


def _relief_count(shape):
    return _side(shape) ** 2


def _relief(u, shape):
    return {"uniform": u.reshape(_side(shape), -1)}


def fog(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """Fog, thicker here and thinner there: (x + b p) · m / (m + b), m = max x.

    The plasma fractal p is the upper left of a square of side S, the power of two at or
    above max(H, W), made by diamond-square on a torus: from one zero, the centre of
    each square becomes the mean of its corners plus d^−2o (2u − 1), then that of each
    diamond likewise, at octave o = 0 …, and last (p − min) / (max − min) over the
    square. Each point has its own u; that of the first, the corner, goes unused.

    Args:
      image: x [H, W, C].
      fields: "uniform" u ~ U[0, 1) [S, S], drawn as `uniform(rng, [S, S])`.
      constants: "thickness" b; "heights" [log2 S], d^−2o.

    Returns:
      [H, W, C] >= 0.
    """
    height, width, _ = image.shape
    noise, heights = 2 * fields["uniform"] - 1, constants["heights"]
    side = len(noise)
    row, column = np.arange(side)[:, None], np.arange(side)[None, :]

    # The whole square at every octave: one small program, where slices would be many.
    def octave(o, plasma):
        step = side >> o
        half = step // 2

        down, up = jnp.roll(plasma, -half, 0), jnp.roll(plasma, half, 0)
        corners = jnp.roll(down, -half, 1) + jnp.roll(down, half, 1)
        corners += jnp.roll(up, -half, 1) + jnp.roll(up, half, 1)
        height = heights[o] * noise
        is_row, is_column = row % step == half, column % step == half
        plasma = jnp.where(is_row & is_column, corners / 4 + height, plasma)
        beside = jnp.roll(plasma, -half, 0) + jnp.roll(plasma, half, 0)
        beside += jnp.roll(plasma, -half, 1) + jnp.roll(plasma, half, 1)
        is_diamond = (row % half == 0) & (column % half == 0) & (is_row ^ is_column)
        return jnp.where(is_diamond, beside / 4 + height, plasma)

    plasma = jax.lax.fori_loop(0, len(heights), octave, jnp.zeros((side, side)))
    plasma -= plasma.min()
    plasma = (plasma / plasma.max())[:height, :width, None]
    most, thickness = image.max(), constants["thickness"]
    return (image + thickness * plasma) * most / (most + thickness)


def _lift(table, index, shape):
    del shape
    return {"lift": np.float32(table[index, 0])}


def brightness(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """HSV with the value v raised to min(v + c, 1); hue and saturation stay.

    One channel is its own value: x + c.

    Args:
      image: [H, W, C] in [0, 1].
      fields: none.
      constants: "lift" c.

    Returns:
      [H, W, C].
    """
    del fields
    value = image.max(-1, keepdims=True)
    lifted = jnp.minimum(value + constants["lift"], 1.0)
    # Black has no hue: grey of that value.
    scale = lifted / jnp.where(value > 0, value, 1.0)
    return jnp.where(value > 0, image * scale, lifted)


WEATHER = {
    "snow": Corruption(_snow, _flake_count, _flakes, snow),
    "frost": Corruption(_frost, _lattice_count, _lattice, frost),
    "fog": Corruption(_fog, _relief_count, _relief, fog),
    "brightness": none_drawn(_lift, brightness),
}
"""The corruptions of this file, by name."""
