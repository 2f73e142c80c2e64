"""Nearest neighbours within one set, for looking at."""

import chex
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.directions import unit_rows
from rl_jax.pairwise.top_k import top_k


@checked
def nearest(features: chex.Array, queries_index: chex.Array, *, k: int) -> np.ndarray:
    """The k nearest rows by cosine similarity, without the row itself.

    Args:
      features: [n, D]; normalised here, in float32.
      queries_index: int [Q], the rows to find neighbours of, in [0, n).
      k: in [1, n − 1].

    Returns:
      int32 [Q, k], row indices, nearest first; of equals the lower one first. A row of
        zeros has cosine 0 with every other.

    Raises:
      UsageError: for another shape, NaN, or k or an index out of range.
    """
    index, rows = np.asarray(queries_index), jnp.asarray(features)
    n = arguments.features("nearest", least=2, features=rows)
    arguments.counts("nearest", k=k)
    if k >= n:
        raise UsageError(f"nearest: k must be in [1, {n - 1}], the other rows, got {k}")
    whole = np.issubdtype(index.dtype, np.integer)
    inside = whole and index.size and index.min() >= 0 and index.max() < n
    if index.ndim != 1 or not inside:
        raise UsageError(
            f"nearest: queries_index must be int [Q], rows in [0, {n}), got "
            f"{index.tolist()}"
        )
    rows = unit_rows(rows)
    exclude = jnp.asarray(index, jnp.int32)
    return np.asarray(top_k(rows[exclude], rows, k=k, exclude=exclude)[1])
