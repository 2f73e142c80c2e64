"""JPEG without the entropy code, which loses nothing."""

import chex
import jax.numpy as jnp
import numpy as np

_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA = np.full((8, 8), 99)
_CHROMA[:4, :4] = [
    [17, 18, 24, 47],
    [18, 21, 26, 66],
    [24, 26, 56, 99],
    [47, 66, 99, 99],
]

# In 65536ths, libjpeg's fixed point: values often lie halfway between two levels.
_TO_YCC = np.array(
    [[19595, 38470, 7471], [-11058, -21710, 32768], [32768, -27439, -5329]], np.int32
)
_TO_RGB = np.array(
    [[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]], np.float32
)

_frequency, _place = np.arange(8)[:, None], np.arange(8)[None, :]
_DCT = np.cos(np.pi * _frequency * (2 * _place + 1) / 16) / 2
_DCT[0] /= np.sqrt(2)
_DCT = _DCT.astype(np.float32)


def quantisation(
    table: np.ndarray, index: int, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Tables of Annex K of the standard at libjpeg's quality q, baseline.

    clip(⌊(s t + 50) / 100⌋, 1, 255), s = 200 − 2q, or ⌊5000 / q⌋ below 50.

    Args:
      table: [5, 1] qualities.
      index: the severity's.
      shape: unused.

    Returns:
      "luma" and "chroma" [8, 8].
    """
    del shape
    quality = int(table[index, 0])
    scale = 200 - 2 * quality if quality >= 50 else 5000 // quality
    return {
        name: np.clip((base * scale + 50) // 100, 1, 255).astype(np.float32)
        for name, base in (("luma", _LUMA), ("chroma", _CHROMA))
    }


def jpeg_compression(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """JPEG at low quality, coded and decoded as libjpeg does by default.

    RGB to YCbCr; chroma halved both ways by means of 2 × 2; 8 × 8 DCT of values − 128,
    rounded to multiples of the quantisation table; inverse DCT; chroma enlarged by
    the triangle filter (3 : 1); back to RGB. Each step is rounded to integers as
    libjpeg's, the DCT to eighths. Blocks are filled up by repeating the border:
    columns before chroma is halved, rows after. The DCT is that of real numbers,
    libjpeg's of integers: values may differ by a level or two, and in a block by
    more where a coefficient lies halfway between two steps. One channel is all luma.

    Args:
      image: [H, W, C] in [0, 1].
      fields: none.
      constants: "luma" and "chroma" [8, 8], the quantisation tables.

    Returns:
      [H, W, C].
    """
    del fields
    height, width, channels = image.shape
    levels = jnp.round(255 * image)
    if channels == 1:
        return _coded(levels, constants["luma"]) / 255
    # Half a level on top of the offset of chroma, less one 65536th.
    offset = np.array([1 << 15, (257 << 15) - 1, (257 << 15) - 1], np.int32)
    fixed = levels.astype(jnp.int32) @ _TO_YCC.T + offset[None, None, :]
    ycc = (fixed >> 16).astype(jnp.float32)
    luma = _coded(ycc[..., :1], constants["luma"])
    chroma = _coded(_halved(_filled(ycc[..., 1:], 2, 16)), constants["chroma"])
    chroma = _doubled(chroma[:, : -(-width // 2)])[:height, :width] - 128
    rgb = jnp.concatenate([luma, chroma], -1) @ _TO_RGB.T
    return jnp.clip(jnp.floor(rgb + 0.5), 0.0, 255.0) / 255


def _filled(levels, rows, columns):
    height, width, _ = levels.shape
    fill = ((0, -height % rows), (0, -width % columns), (0, 0))
    return jnp.pad(levels, fill, mode="edge")


def _coded(levels, table):
    """The levels [H, W, C] after quantisation of the DCT of their blocks."""
    height, width, channels = levels.shape
    blocks = _filled(levels, 8, 8)
    rows, columns = blocks.shape[0] // 8, blocks.shape[1] // 8
    blocks = blocks.reshape(rows, 8, columns, 8, channels) - 128
    waves = jnp.einsum("ui,aibjc,vj->aubvc", _DCT, blocks, _DCT)
    table = table[None, :, None, :, None]
    # In eighths, so that halves are exact; they go away from zero.
    eighths = jnp.round(8 * waves)
    steps = jnp.sign(waves) * jnp.floor((jnp.abs(eighths) + 4 * table) / (8 * table))
    blocks = jnp.einsum("ui,aubvc,vj->aibjc", _DCT, steps * table, _DCT)
    blocks = jnp.clip(jnp.floor(blocks + 128.5), 0.0, 255.0)
    return blocks.reshape(8 * rows, 8 * columns, channels)[:height, :width]


def _halved(levels):
    height, width, channels = levels.shape
    quads = levels.reshape(height // 2, 2, width // 2, 2, channels).sum((1, 3))
    # libjpeg rounds halves down and up in turn.
    bias = 1 + np.arange(width // 2) % 2
    return jnp.floor((quads + bias[None, :, None].astype(np.float32)) / 4)


def _doubled(levels):
    """Twice the size by the triangle filter, in sixteenths."""
    rows, columns = (_triangle(n) for n in levels.shape[:2])
    sixteenths = jnp.einsum("gh,hwc,vw->gvc", rows, levels, columns)
    bias = 8 - np.arange(len(columns)) % 2
    return jnp.floor((sixteenths + bias[None, :, None].astype(np.float32)) / 16)


def _triangle(size):
    """[2 size, size]: each half pixel is three parts its own, one part the nearer."""
    matrix = np.zeros((2 * size, size), np.float32)
    for i in range(2 * size):
        near = np.clip(i // 2 + (1 if i % 2 else -1), 0, size - 1)
        matrix[i, i // 2] += 3
        matrix[i, near] += 1
    return matrix
