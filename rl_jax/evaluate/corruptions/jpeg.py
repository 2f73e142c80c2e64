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

# libjpeg's, in units of 2⁻¹⁶.
_TO_YCC = np.array(
    [[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]], np.int32
)
_TO_RGB = np.array(
    [[65536, 0, 91881], [65536, -22554, -46802], [65536, 116130, 0]], np.int32
)

# The DCT of libjpeg ("islow"): √8 times the orthonormal one in units of 2⁻¹³. Rounded
# constants are added up there, hence the odd last digits.
_HALF_DCT = np.array(
    [
        [8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260],
        [10703, 4433, -4433, -10703],
        [9633, -2259, -11362, -6436],
        [8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633],
        [4433, -10704, 10704, -4433],
        [2260, -6436, 9633, -11363],
    ],
    np.int32,
)
_SIGN = np.resize([[1], [-1]], (8, 1))
_DCT = np.concatenate([_HALF_DCT, _SIGN * _HALF_DCT[:, ::-1]], 1).astype(np.int32)


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
      "luma" and "chroma" int32 [8, 8].
    """
    del shape
    quality = int(table[index, 0])
    scale = 200 - 2 * quality if quality >= 50 else 5000 // quality
    return {
        name: np.clip((base * scale + 50) // 100, 1, 255).astype(np.int32)
        for name, base in (("luma", _LUMA), ("chroma", _CHROMA))
    }


def jpeg_compression(
    image: chex.Array, fields: dict[str, chex.Array], constants: dict[str, chex.Array]
) -> chex.Array:
    """JPEG at low quality, coded and decoded as libjpeg does by default.

    RGB to YCbCr; chroma halved both ways by means of 2 × 2; 8 × 8 DCT of values − 128,
    rounded to multiples of the quantisation table; inverse DCT; chroma enlarged by the
    triangle filter (3 : 1); back to RGB. All in libjpeg's integers, so the values are
    those Pillow reads back from its own file. One channel is all luma.

    Args:
      image: [H, W, C] in [0, 1].
      fields: none.
      constants: "luma" and "chroma" [8, 8], the quantisation tables.

    Returns:
      [H, W, C].
    """
    del fields
    height, width, channels = image.shape
    levels = jnp.round(255 * image).astype(jnp.int32)
    if channels == 1:
        return _coded(levels, constants["luma"]) / 255
    # Chroma is a unit short of halves up.
    offset = np.array([0, (128 << 16) - 1, (128 << 16) - 1])[None, None, :]
    ycc = _shifted(jnp.einsum("hwc,yc->hwy", levels, _TO_YCC) + offset, 16)
    luma = _coded(ycc[..., :1], constants["luma"])
    # libjpeg fills columns up before it halves them, rows after.
    chroma = _halved(_filled(ycc[..., 1:], 2, 16))
    chroma = _coded(chroma, constants["chroma"])[:, : -(-width // 2)]
    chroma = _doubled(chroma)[:height, :width] - 128
    ycc = jnp.concatenate([luma, chroma], -1)
    rgb = _shifted(jnp.einsum("hwy,cy->hwc", ycc, _TO_RGB), 16)
    return jnp.clip(rgb, 0, 255) / 255


def _filled(levels, rows, columns):
    height, width, _ = levels.shape
    fill = ((0, -height % rows), (0, -width % columns), (0, 0))
    return jnp.pad(levels, fill, mode="edge")


def _coded(levels, table):
    """The levels [H, W, C] after quantisation of the DCT of their blocks."""
    height, width, channels = levels.shape
    blocks = _filled(levels, 8, 8) - 128
    rows, columns = blocks.shape[0] // 8, blocks.shape[1] // 8
    blocks = blocks.reshape(rows, 8, columns, 8, channels)
    waves = _shifted(jnp.einsum("vj,aibjc->aibvc", _DCT, blocks), 11)
    waves = _shifted(jnp.einsum("ui,aibvc->aubvc", _DCT, waves), 15)
    # The waves are eightfold; halves are rounded away from zero.
    table = table[None, :, None, :, None]
    steps = jnp.sign(waves) * ((jnp.abs(waves) + 4 * table) // (8 * table))
    blocks = _shifted(jnp.einsum("ui,aubvc->aibvc", _DCT, steps * table), 11)
    blocks = _shifted(jnp.einsum("vj,aibvc->aibjc", _DCT, blocks), 18)
    blocks = blocks.reshape(8 * rows, 8 * columns, channels)[:height, :width]
    return jnp.clip(blocks + 128, 0, 255)


def _shifted(values, bits):
    return (values + (1 << (bits - 1))) >> bits


def _halved(levels):
    height, width, channels = levels.shape
    quads = levels.reshape(height // 2, 2, width // 2, 2, channels).sum((1, 3))
    # libjpeg rounds halves down and up in turn.
    bias = 1 + np.arange(width // 2) % 2
    return (quads + bias[None, :, None]) >> 2


def _doubled(levels):
    """Twice the size by the triangle filter, in sixteenths."""
    rows, columns = (_triangle(n) for n in levels.shape[:2])
    sixteenths = jnp.einsum("gh,hwc,vw->gvc", rows, levels, columns)
    bias = 8 - np.arange(len(columns)) % 2
    return (sixteenths + bias[None, :, None]) >> 4


def _triangle(size):
    """[2 size, size]: each half pixel is three parts its own, one part the nearer."""
    matrix = np.zeros((2 * size, size), np.int32)
    for i in range(2 * size):
        near = np.clip(i // 2 + (1 if i % 2 else -1), 0, size - 1)
        matrix[i, i // 2] += 3
        matrix[i, near] += 1
    return matrix
