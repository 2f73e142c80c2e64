"""Random numbers for made data, the same with every version of NumPy."""

import math

import numpy as np

from rl_jax.errors import UsageError


def uniform(seed: int, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers from the top 53 bits of raw Philox-4x64 output.

    NumPy keeps the raw stream fixed between versions, which it does not promise for
    what `Generator` makes of it.

    Args:
      seed: in [0, 2^64).
      draw: another number, another stream of the same seed.
      shape: of the result.

    Returns:
      float64 of that shape, in [0, 1).

    Raises:
      UsageError: seed out of range.
    """
    if not 0 <= seed < 2**64:
        raise UsageError(f"seed must be in [0, 2^64), got {seed}")
    key = np.array([seed, draw], np.uint64)
    bits = np.random.Philox(key=key).random_raw(math.prod(shape))
    return ((bits >> np.uint64(11)) * 2.0**-53).reshape(shape)


def normal(seed: int, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers by the transform of Box & Muller (1958)."""
    one, two = uniform(seed, draw, (2, *shape))
    return np.sqrt(-2 * np.log1p(-one)) * np.cos(2 * np.pi * two)


def orthogonal(seed: int, draw: int, size: int) -> np.ndarray:
    """A random rotation or reflection [size, size], uniform: QR of a normal matrix."""
    q, r = np.linalg.qr(normal(seed, draw, (size, size)))
    return q * np.sign(np.diag(r))


def on_sphere(points: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def snapped(values: np.ndarray) -> np.ndarray:
    """Values rounded to multiples of 2^-16, as float32.

    The last bits of linear algebra differ between machines, and must not change the
    digest of the data.
    """
    return (np.rint(values * 2.0**16) / 2.0**16).astype(np.float32)
