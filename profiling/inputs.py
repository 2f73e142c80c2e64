"""Seeded inputs, the same for every contender: unit rows with real positives.

Never zeros: products of zeros run faster than those of data.
"""

import numpy as np


def pairs(count: int, dim: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two float32 [count, dim] arrays of unit rows; of equal index, of cosine about ½.

    Both are the same random rows with independent noise of the same variance.
    """
    rng = np.random.default_rng(seed)
    centre, *noise = rng.standard_normal((3, count, dim), np.float32)
    a, b = (unit(centre + n) for n in noise)
    return a, b


def unit(x: np.ndarray) -> np.ndarray:
    """Rows divided by their length."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)
