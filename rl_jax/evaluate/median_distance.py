"""The median distance of pairs of rows: what kernel widths are measured in."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.errors import checked
from rl_jax.evaluate import arguments
from rl_jax.pairwise import tiles

_DIGITS = ((20, 11), (10, 10), (0, 10))
"""(shift, width) of the groups of bits of a float32 ≥ 0, the highest first."""


@checked
def median_distance(x: chex.Array, *, block_size: int | None = None) -> float:
    """Median of ‖x_i − x_j‖ over all pairs i < j; the lower one of an even number.

    Exact up to the rounding of distances in float32, without holding them: the bits of
    the median are found ten at a time, by three sweeps that count what the next ones
    are (radix selection).

    Args:
      x: [n, D], n ≥ 2, of any float dtype.
      block_size: rows of a tile; None: see `pairwise.block_size_for`.

    Returns:
      A number ≥ 0; 0 where most rows are equal.

    Raises:
      UsageError: for another shape, or NaN.
    """
    arguments.features("median_distance", least=2, x=x)
    rows, scale = unit_rows(x)
    return scale * unit_median(rows, block_size)


def unit_rows(x: chex.Array) -> tuple[np.ndarray, float]:
    """Rows around 0 in float32, the largest entry of size 1, and what that was."""
    rows = np.asarray(x).astype(np.float64)
    rows = rows - rows.mean(0, keepdims=True)
    scale = float(np.abs(rows).max())
    return (rows / (scale or 1.0)).astype(np.float32), scale


def unit_median(rows: chex.Array, block_size: int | None) -> float:
    """`median_distance` of what `unit_rows` gives."""
    size = tiles.block_size_for(len(rows), jax.default_backend())
    with jax.enable_x64(True):
        square = _select(jnp.asarray(rows), min(block_size or size, len(rows)))
        return float(np.sqrt(np.float64(square)))


_select = jax.jit(lambda rows, size: _radix(rows, size), static_argnums=1)


def _radix(rows: chex.Array, size: int) -> chex.Array:
    """The lower median of the squared distances."""
    n = len(rows)
    cut = tiles.blocks(rows, size)
    squares = tiles.blocks(jnp.sum(rows * rows, axis=1), size)
    number = tiles.blocks(jnp.arange(n, dtype=jnp.int32), size, fill=n)
    count = len(cut)
    pairs = np.concatenate([tiles.diagonal(count), tiles.above(count)])
    rank = jnp.asarray((n * (n - 1) // 2 + 1) // 2)
    known = jnp.zeros([], jnp.int32)
    for shift, width in _DIGITS:

        def counted(totals, i, j, known=known, shift=shift, width=width):
            inner = tiles.outer((cut[i],), (cut[j],))
            apart = squares[i][:, None] + squares[j][None] - 2 * inner
            # Bits of floats that are not negative are in the order of the floats.
            bits = lax.bitcast_convert_type(jnp.maximum(apart, 0.0), jnp.int32)
            pair = (number[i][:, None] < number[j][None]) & (number[j][None] < n)
            pair &= (bits >> (shift + width)) == (known >> (shift + width))
            digit = (bits >> shift) & (2**width - 1)
            digit = jnp.where(pair, digit, 2**width).ravel()
            new = jnp.bincount(digit, length=2**width + 1)
            return totals + new.astype(jnp.int64)

        totals = tiles.loop(counted, jnp.zeros(2**width + 1, jnp.int64), pairs)
        upto = jnp.cumsum(totals[:-1])
        digit = jnp.searchsorted(upto, rank)
        rank = rank - jnp.where(digit > 0, upto[digit - 1], 0)
        known = known | (digit.astype(jnp.int32) << shift)
    return lax.bitcast_convert_type(known, jnp.float32)
