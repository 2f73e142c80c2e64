"""The operations of RandAugment by Pillow on bytes, and where moves take pixels from.

Ranges as timm's `rand-m9-mstd0.5-inc1` has them.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

FILL = (10, 128, 250)


def enhanced(enhancer):
    def operation(image, magnitude, sign):
        return enhancer(image).enhance(max(0.1, 1 + sign * magnitude / 10 * 0.9))

    return operation


def lightened(image, magnitude, sign):
    added = int(magnitude / 10 * 110)
    table = [min(255, k + added) if k < 128 else k for k in range(256)]
    return image.point(table * len(image.getbands()))


def posterised(image, magnitude, sign):
    bits = 4 - int(magnitude / 10 * 4)
    # Pillow's own refuses 0 since version 13, and was black before.
    return (
        ImageOps.posterize(image, bits)
        if bits
        else ImageEnhance.Brightness(image).enhance(0)
    )


COLOURS = {
    "auto_contrast": lambda image, magnitude, sign: ImageOps.autocontrast(image),
    "equalise": lambda image, magnitude, sign: ImageOps.equalize(image),
    "invert": lambda image, magnitude, sign: ImageOps.invert(image),
    "posterise": posterised,
    "solarise": lambda image, magnitude, sign: ImageOps.solarize(
        image, 256 - int(magnitude / 10 * 256)
    ),
    "solarise_add": lightened,
    "colour": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}


def moved(image, coefficients):
    fill = FILL if image.mode == "RGB" else FILL[1]
    return image.transform(
        image.size, Image.AFFINE, coefficients, Image.BILINEAR, fillcolor=fill
    )


def rotated(image, magnitude, sign):
    fill = FILL if image.mode == "RGB" else FILL[1]
    return image.rotate(sign * magnitude * 3, Image.BILINEAR, fillcolor=fill)


MOVES = {
    "rotate": rotated,
    "shear_x": lambda image, m, sign: moved(image, (1, sign * m * 0.03, 0, 0, 1, 0)),
    "shear_y": lambda image, m, sign: moved(image, (1, 0, 0, sign * m * 0.03, 1, 0)),
    "translate_x": lambda image, m, sign: moved(
        image, (1, 0, sign * m / 10 * 0.45 * image.width, 0, 1, 0)
    ),
    "translate_y": lambda image, m, sign: moved(
        image, (1, 0, 0, 0, 1, sign * m / 10 * 0.45 * image.height)
    ),
}


def by_pillow(name, pixels, magnitude, sign=1):
    """What becomes of uint8 [H, W, C], C = 1 or 3."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    result = np.asarray((COLOURS | MOVES)[name](image, magnitude, sign))
    return result.reshape(pixels.shape)


def source(name, height, width, magnitude, sign=1):
    """float64 [3, 3]: from (x, y, 1), counted from the corner, to where it is from."""
    amount = sign * magnitude / 10
    matrix = np.eye(3)
    if name == "rotate":
        angle = math.radians(30 * amount)
        cos, sin = math.cos(angle), math.sin(angle)
        there = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
        matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        return there @ matrix @ np.linalg.inv(there)
    place, value = {
        "shear_x": ((0, 1), 0.3 * amount),
        "shear_y": ((1, 0), 0.3 * amount),
        "translate_x": ((0, 2), 0.45 * amount * width),
        "translate_y": ((1, 2), 0.45 * amount * height),
    }[name]
    matrix[place] = value
    return matrix


def sampled(image, matrix, fill):
    """float64 [H, W, C]: bilinear between pixels, which `fill` surrounds."""
    height, width, channels = image.shape
    ring = np.empty((height + 2, width + 2, channels))
    ring[:] = fill
    ring[1:-1, 1:-1] = image
    result = np.empty(image.shape)
    for i in range(height):
        for j in range(width):
            x, y, _ = matrix @ (j + 0.5, i + 0.5, 1.0)
            x, y = np.clip((x + 0.5, y + 0.5), 0, (width + 1, height + 1))
            left, top = min(int(x), width), min(int(y), height)
            a, b = x - left, y - top
            above = (1 - a) * ring[top, left] + a * ring[top, left + 1]
            below = (1 - a) * ring[top + 1, left] + a * ring[top + 1, left + 1]
            result[i, j] = (1 - b) * above + b * below
    return result
