"""Baseline JPEG (ITU T.81, JFIF, 4:2:0) written out in NumPy, libjpeg's roundings."""

import numpy as np

LIGHT = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
COLOUR = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99""" + " 99" * 32  # fmt: skip

# Light, blue and red less light in 65536ths, and the middle of the two: JFIF with the
# roundings of libjpeg.
TONES = [
    [round(65536 * v) for v in row]
    for row in [
        (0.299, 0.587, 0.114),
        (-0.299 / 1.772, -0.587 / 1.772, 0.5),
        (0.5, -0.587 / 1.402, -0.114 / 1.402),
    ]
]
BIAS = 128.5 - 1 / 65536


def coded(plane, table, quality):
    """A plane, sides multiples of 8, through DCT, quantisation and back (T.81 A.3)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = np.array(table.split(), np.int64).reshape(8, 8)
    steps = np.clip((steps * scale + 50) // 100, 1, 255)
    k = np.arange(8)
    basis = np.cos(np.pi * k[:, None] * (2 * k + 1) / 16) / 2
    basis[0] /= np.sqrt(2)
    h, w = plane.shape
    blocks = plane.reshape(h // 8, 8, w // 8, 8).swapaxes(1, 2) - 128
    eighths = np.rint(8 * (basis @ blocks @ basis.T))  # what libjpeg's integers hold
    levels = np.sign(eighths) * ((np.abs(eighths) + 4 * steps) // (8 * steps))
    blocks = basis.T @ (levels * steps) @ basis + 128
    return np.clip(np.floor(blocks + 0.5), 0, 255).swapaxes(1, 2).reshape(h, w)


def padded(plane, rows, columns):
    """The last row and column repeated up to a multiple."""
    h, w = plane.shape
    return np.pad(plane, [(0, -h % rows), (0, -w % columns)], mode="edge")


def doubled(plane, axis):
    """Triangle filter: 3/4 of the nearer and 1/4 of the farther neighbour."""
    plane = np.moveaxis(plane, axis, 0)
    before = np.concatenate([plane[:1], plane[:-1]])
    after = np.concatenate([plane[1:], plane[-1:]])
    pairs = np.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], 1)
    return np.moveaxis(pairs.reshape(-1, plane.shape[1]), 0, axis)


def jpeg(x, quality):
    """One image [H, W, C] in [0, 1], there and back."""
    h, w, c = x.shape
    x = np.rint(255 * x)
    if c == 1:
        return coded(padded(x[:, :, 0], 8, 8), LIGHT, quality)[:h, :w, None] / 255
    light, blue, red = np.floor(
        (np.array(TONES) @ x[..., None])[..., 0] / 65536 + [0.5, BIAS, BIAS]
    ).transpose(2, 0, 1)
    planes = [coded(padded(light, 8, 8), LIGHT, quality)[:h, :w]]
    for plane in (blue, red):
        # libjpeg lengthens rows before it halves them and columns after; halves are
        # rounded down and up in turn.
        plane = padded(plane, 2, 16)
        sums = plane.reshape(len(plane) // 2, 2, -1, 2).sum((1, 3))
        halves = (sums + 1 + np.arange(sums.shape[1]) % 2) // 4
        halves = coded(padded(halves, 8, 8), COLOUR, quality)
        halves = halves[: -(-h // 2), : -(-w // 2)]
        whole = 16 * doubled(doubled(halves, 0), 1)
        whole = (whole + 8 - np.arange(whole.shape[1]) % 2) // 16
        planes.append(whole[:h, :w] - 128)
    light, cb, cr = planes
    r, b = light + 1.402 * cr, light + 1.772 * cb
    g = (light - 0.299 * r - 0.114 * b) / 0.587
    return np.clip(np.rint(np.stack([r, g, b], -1)), 0, 255) / 255
