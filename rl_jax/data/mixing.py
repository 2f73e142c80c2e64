"""A random map from sources to observations that can be undone."""

from collections.abc import Sequence

import numpy as np

from rl_jax.data.draws import orthogonal

SLOPE = 0.2
_FIRST_DRAW = 1000


def random_maps(seed: int, sizes: Sequence[int], *, gain: float = 1.0):
    """Matrices with orthonormal rows, the first times `gain`.

    Args:
      seed: in [0, 2^64).
      sizes: widths of the layers, none smaller than the one before.
      gain: of the first matrix, > 0.

    Returns:
      A tuple of [sizes[i], sizes[i + 1]] float64.
    """
    maps = [
        orthogonal(seed, _FIRST_DRAW + layer, columns)[:rows]
        for layer, (rows, columns) in enumerate(zip(sizes, sizes[1:], strict=False))
    ]
    return (maps[0] * gain, *maps[1:])


def mix(maps: Sequence[np.ndarray], sources: np.ndarray) -> np.ndarray:
    """Apply the maps with a leaky ReLU of slope 0.2 between: [n, d] to [n, D]."""
    x = sources @ maps[0]
    for matrix in maps[1:]:
        x = np.where(x > 0, x, SLOPE * x) @ matrix
    return x


def unmix(maps: Sequence[np.ndarray], observed: np.ndarray) -> np.ndarray:
    """The sources of observations: the inverse of `mix` on its range."""
    x = observed
    for matrix in maps[:0:-1]:
        x = x @ np.linalg.pinv(matrix)
        x = np.where(x > 0, x, x / SLOPE)
    return x @ np.linalg.pinv(maps[0])
