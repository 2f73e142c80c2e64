"""Sums over the entries of two kernel matrices, which are never held."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError, checked, known
from rl_jax.pairwise import tiles
from rl_jax.pairwise.reduce import Implementation, check_rows


class Moments(NamedTuple):
    """Sums over the off-diagonal entries of kernel matrices K and L of the same n rows.

    Attributes:
      xx, xy, yy: float32 scalars Σ_{i≠j} K_ij², K_ij L_ij and L_ij².
      x_rows, y_rows: float32 [n], Σ_{j≠i} K_ij and L_ij.
    """

    xx: chex.Array
    xy: chex.Array
    yy: chex.Array
    x_rows: chex.Array
    y_rows: chex.Array


@checked
def moments(
    x: chex.Array,
    y: chex.Array,
    *,
    gamma_x: chex.Numeric | None = None,
    gamma_y: chex.Numeric | None = None,
    shift_x: chex.Numeric = 0.0,
    shift_y: chex.Numeric = 0.0,
    block_size: int | None = None,
    implementation: Implementation | None = None,
) -> Moments:
    """First and second moments of two kernels over all pairs of distinct rows.

    K_ij = ⟨x_i, x_j⟩, or exp(−γ‖x_i − x_j‖²) − s where γ is given; L_ij likewise of y.
    With the diagonals, which are known, they hold every estimate of HSIC and so of CKA
    (Gretton et al. 2005; Kornblith et al. 2019, arXiv:1905.00414), the unbiased one
    (Song et al. 2012) included. Only tiles on and above the diagonal are formed.

    Args:
      x, y: [n, D] and [n, E] features of the same n rows, float32 or bfloat16; products
        are formed in full float32.
      gamma_x, gamma_y: γ > 0 of the Gaussian kernel, float or scalar array; None: the
        linear kernel.
      shift_x, shift_y: s of the Gaussian kernel. HSIC does not see it; with a typical
        entry for s, what tells nearly equal entries apart is not lost in their sums.
      block_size: rows of a tile; None: see `block_size_for`.
      implementation: "xla" streams, "dense" forms both matrices; None chooses "xla".
        Neither is cut over devices.

    Returns:
      `Moments`. Values only: it is not meant to be differentiated.

    Raises:
      UsageError: for shapes, dtypes or options that do not fit together.
    """
    name = "pairwise.moments"
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise UsageError(
            f"{name}: expected [n, D] and [n, E] of the same rows, got {x.shape} and "
            f"{y.shape}"
        )
    check_rows(name, x, None, block_size=block_size, implementation=implementation)
    check_rows(name, y, None)
    for what, gamma in (("gamma_x", gamma_x), ("gamma_y", gamma_y)):
        number = None if gamma is None else known(gamma)
        if number is not None and not (number.ndim == 0 and 0 < number < jnp.inf):
            raise UsageError(f"{name}: {what} must be > 0, got {gamma}")
    if implementation not in (None, "xla", "dense"):
        raise UsageError(
            f"{name}: implementation must be None, 'xla' or 'dense', got "
            f"{implementation!r}"
        )
    size = tiles.block_size_for(len(x), jax.default_backend())
    size = len(x) if implementation == "dense" else min(block_size or size, len(x))
    return _fold(
        _kernel(x, size, gamma_x, shift_x),
        _kernel(y, size, gamma_y, shift_y),
        len(x),
        size,
    )


def _kernel(x: chex.Array, size: int, gamma: chex.Numeric | None, shift):
    """The function `(i, j) -> [T, T]` that forms one tile of a kernel matrix."""
    x = jnp.asarray(x, jnp.float32)
    if gamma is not None:
        # Distances do not see the mean; without it less is lost in their difference.
        x = x - x.mean(0, keepdims=True)
    rows = tiles.cut(x, size, precision="highest")
    counts = tiles.blocks(jnp.ones(len(x), jnp.float32), size)
    square = tiles.blocks(jnp.sum(x * x, axis=1), size)

    def tile(i, j):
        inner = tiles.outer(tiles.at(rows.parts, i), tiles.at(rows.parts, j))
        if gamma is None:
            return inner
        apart = square[i][:, None] + square[j][None] - 2 * inner
        kernel = jnp.exp(-gamma * jnp.maximum(apart, 0.0)) - shift
        return kernel * (counts[i][:, None] * counts[j][None])

    return tile


def _fold(k_tile, l_tile, n: int, size: int) -> Moments:
    count = -(-n // size)
    # Products are summed for each block of rows by itself: fewer terms in a sum.
    carry = Moments(
        *[jnp.zeros(count, jnp.float32)] * 3,
        *[jnp.zeros((count, size), jnp.float32)] * 2,
    )
    apart = 1.0 - jnp.eye(size, dtype=jnp.float32)

    def products(carry, i, first, second, times):
        pairs = (first, first), (first, second), (second, second)
        return [
            total.at[i].add(times * jnp.sum(a * b))
            for total, (a, b) in zip(carry[:3], pairs, strict=True)
        ]

    def on(carry, i, j):
        k, q = k_tile(i, j) * apart, l_tile(i, j) * apart
        rows = carry.x_rows.at[i].add(k.sum(1)), carry.y_rows.at[i].add(q.sum(1))
        return Moments(*products(carry, i, k, q, 1.0), *rows)

    def off(carry, i, j):
        k, q = k_tile(i, j), l_tile(i, j)
        x_rows = carry.x_rows.at[i].add(k.sum(1)).at[j].add(k.sum(0))
        y_rows = carry.y_rows.at[i].add(q.sum(1)).at[j].add(q.sum(0))
        return Moments(*products(carry, i, k, q, 2.0), x_rows, y_rows)

    carry = tiles.loop(on, carry, tiles.diagonal(count))
    if count > 1:
        carry = tiles.loop(off, carry, tiles.above(count))
    rows = [tiles.unblock(v, n) for v in carry[3:]]
    return Moments(*(total.sum() for total in carry[:3]), *rows)
