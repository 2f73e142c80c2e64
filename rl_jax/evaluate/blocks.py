"""Rows a block at a time: in float64 on the host, in a computation on the device."""

from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

HOST_BYTES = 64 << 20
"""Of rows in float64: all of 1.3 million rows of 2,048 numbers would take 21 GB."""
DEVICE_BYTES = {"cpu": 2**20, "gpu": 2**28}
"""Of logits in float32: what a cache holds, and what makes large products."""
_LEAST_ROWS = 256


def slices(x: np.ndarray) -> Iterator[slice]:
    """Slices of the rows of [n, D] that one after another make up all of them."""
    size = max(1, HOST_BYTES // (8 * x.shape[1]))
    return (slice(at, at + size) for at in range(0, len(x), size))


def standardised(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Float32 (x − mean)·scale, in which float64 rows are made a block at a time."""
    out = np.empty(x.shape, np.float32)
    for rows in slices(x):
        out[rows] = (x[rows] - mean) * scale
    return out


def device_rows(numbers: int) -> int:
    """Rows in a block, each with so many numbers in float32."""
    limit = DEVICE_BYTES.get(jax.default_backend(), 2**28)
    return max(_LEAST_ROWS, limit // (4 * numbers))


def sum_over_rows(
    of: Callable[[Callable[..., chex.Array], chex.Array], Any], n: int, rows: int
) -> Any:
    """Σ over blocks of n rows of `of(cut, new)`, arrays or a tree of them.

    The last block ends at n and begins within the one before: so nothing is copied to
    be padded.

    Args:
      of: from `cut(array, axis=0)`, the rows of the block, and bool [rows], which of
        them no block before has had: only these may count.
      n: rows, ≥ 1.
      rows: in a block, ≥ 1.
    """
    rows = min(rows, n)

    def block(start):
        first = jnp.minimum(start, n - rows)

        def cut(x, *, axis=0):
            return jax.lax.dynamic_slice_in_dim(x, first, rows, axis)

        return of(cut, first + jnp.arange(rows) >= start)

    if rows == n:
        return of(lambda x, *, axis=0: x, jnp.ones(n, bool))

    def add(sums, start):
        return jax.tree.map(jnp.add, sums, block(start)), None

    return jax.lax.scan(add, block(0), jnp.arange(rows, n, rows))[0]
