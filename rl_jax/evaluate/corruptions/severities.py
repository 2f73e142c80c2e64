"""The published constants of each corruption, and their scaling with image size."""

from typing import NamedTuple

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)
"""Levels of corruption, mild to severe."""

LARGE = 64
"""Images of min(H, W) >= LARGE take ImageNet-C's constants, smaller ones CIFAR-10-C's.
"""


class Severities(NamedTuple):
    """A corruption's constants, one row per severity.

    Attributes:
      imagenet: those of ImageNet-C, made for 224 pixels.
      cifar: those of CIFAR-10-C, made for 32 pixels.
      lengths: the columns that are lengths in pixels, each with the least that the
        smallest positive one of its five may scale to.
    """

    imagenet: tuple[tuple[float, ...], ...]
    cifar: tuple[tuple[float, ...], ...]
    lengths: dict[int, float] = {}


def _one(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


PUBLISHED = {
    # standard deviation
    "gaussian_noise": Severities(
        _one(0.08, 0.12, 0.18, 0.26, 0.38), _one(0.04, 0.06, 0.08, 0.09, 0.10)
    ),
    # photons of a white pixel
    "shot_noise": Severities(_one(60, 25, 12, 5, 3), _one(500, 250, 100, 75, 50)),
    # share of values replaced
    "impulse_noise": Severities(
        _one(0.03, 0.06, 0.09, 0.17, 0.27), _one(0.01, 0.02, 0.03, 0.05, 0.07)
    ),
    # standard deviation at white
    "speckle_noise": Severities(
        _one(0.15, 0.2, 0.35, 0.45, 0.6), _one(0.06, 0.1, 0.12, 0.16, 0.2)
    ),
    # radius of the disc, σ of its antialiasing
    "defocus_blur": Severities(
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        {0: 1.0},
    ),
    # σ of the blur, largest shift, passes
    "glass_blur": Severities(
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        {0: 0.4, 1: 0.0},
    ),
    # radius, σ
    "motion_blur": Severities(
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        {0: 1.5, 1: 0.5},
    ),
    # end and step of the zoom factors, which begin at 1
    "zoom_blur": Severities(
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    ),
    # σ
    "gaussian_blur": Severities(
        _one(1, 2, 3, 4, 6), _one(0.4, 0.6, 0.7, 0.8, 1), {0: 0.4}
    ),
    # mean, standard deviation, zoom, threshold, radius, σ of the fall, share kept
    "snow": Severities(
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        {4: 1.0, 5: 0.5},
    ),
    # share of the image, of the frost
    "frost": Severities(
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    ),
    # thickness, decay per octave
    "fog": Severities(
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    ),
    # added to the value
    "brightness": Severities(
        _one(0.1, 0.2, 0.3, 0.4, 0.5), _one(0.05, 0.1, 0.15, 0.2, 0.3)
    ),
    # share of the contrast kept
    "contrast": Severities(
        _one(0.4, 0.3, 0.2, 0.1, 0.05), _one(0.75, 0.5, 0.4, 0.3, 0.15)
    ),
    # height of the waves, their σ, largest shift of a corner; 244 is in the original
    "elastic_transform": Severities(
        tuple(
            (244 * a, 244 * b, 244 * c)
            for a, b, c in (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),
        tuple(
            (32 * a, 32 * b, 32 * c)
            for a, b, c in (
                (0, 0, 0.08),
                (0.05, 0.2, 0.07),
                (0.08, 0.06, 0.06),
                (0.1, 0.04, 0.05),
                (0.1, 0.03, 0.03),
            )
        ),
        {0: 0.0, 1: 0.0, 2: 0.0},
    ),
    # share of the side kept
    "pixelate": Severities(
        _one(0.6, 0.5, 0.4, 0.3, 0.25), _one(0.95, 0.9, 0.85, 0.75, 0.65)
    ),
    # quality
    "jpeg_compression": Severities(_one(25, 18, 15, 10, 7), _one(80, 65, 58, 50, 40)),
    # mean, standard deviation, σ, threshold, strength of water, σ of mud
    "spatter": Severities(
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 0, 1.5),
            (0.67, 0.4, 1, 0.65, 0, 1.5),
        ),
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0, 0.6),
            (0.65, 0.1, 0.5, 0.68, 0, 0.6),
        ),
        {2: 0.5, 5: 0.5},
    ),
    # factor, offset of the saturation
    "saturate": Severities(
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    ),
}
"""Constants of Hendrycks & Dietterich's published programs, by corruption."""


def published(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """[5, P] float64, the constants as published for images [H, W, C] of this size."""
    severities = PUBLISHED[name]
    large = min(shape[:2]) >= LARGE
    return np.array(severities.imagenet if large else severities.cifar, np.float64)


def scaled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """[5, P] float64, the constants with their lengths scaled to the image.

    By min(H, W) / 224 or / 32, and no further down than to the least that shows on a
    grid of pixels, all five severities of a length by the same factor.
    """
    table = published(name, shape)
    size = min(shape[:2])
    scale = size / (224 if size >= LARGE else 32)
    for column, least in PUBLISHED[name].lengths.items():
        length = table[:, column]
        smallest = length[length > 0].min()
        table[:, column] = length * max(scale, min(1.0, least / smallest))
    return table
