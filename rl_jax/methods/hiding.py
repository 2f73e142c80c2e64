"""Patches that are hidden in the views of an image: blocks, in some of the views."""

import math
import numbers

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError

TRIES = 32
"""Blocks drawn for a view. 99 of 100 views need fewer on grids of 4×4 and of 14×14."""
GIVEN_UP = 10
"""Blocks that do not fit, one after the other, after which no other is drawn."""
NARROWEST = 0.3
"""Least height of a block over its width, and the other way round."""


def draw(
    rng: chex.PRNGKey,
    index: chex.Array,
    grid: tuple[int, int],
    *,
    views: int,
    probability: float,
    ratio: tuple[float, float],
    least: int,
) -> chex.Array:
    """Which patches are hidden, from `rng` and the index of each example.

    As BEiT (Bao et al. 2022, arXiv:2106.08254) and iBOT draw them: blocks of a random
    area, aspect and place, until the share wanted is reached; a block that would bring
    more than is wanted is no block.

    Args:
      rng: key of the step.
      index: int32 [B].
      grid: rows and columns of patches.
      views: V of each example, each by itself.
      probability: that anything is hidden in a view.
      ratio: least and largest share of the patches wanted, each as likely.
      least: smallest area of a block; where less is left to hide, the largest.

    Returns:
      bool [B, V, L], at most the largest share of the L patches of a view.
    """
    rows, columns = grid
    place = jnp.arange(rows * columns, dtype=jnp.int32)
    row, column = place // columns, place % columns

    def one(rng):
        rng_whether, rng_ratio, rng_blocks = jax.random.split(rng, 3)
        share = jax.random.uniform(rng_ratio, minval=ratio[0], maxval=ratio[1])
        any_hidden = jax.random.uniform(rng_whether) < probability
        wanted = jnp.where(any_hidden, share, 0.0) * (rows * columns)

        def add(state, drawn):
            hidden, failed = state
            left = wanted - jnp.sum(hidden)
            area = least + drawn[0] * (left - least)
            aspect = NARROWEST ** (2 * drawn[1] - 1)
            height = jnp.round(jnp.sqrt(area * aspect))
            width = jnp.round(jnp.sqrt(area / aspect))
            top = jnp.floor(drawn[2] * (rows - height + 1))
            start = jnp.floor(drawn[3] * (columns - width + 1))
            block = (row >= top) & (row < top + height)
            block &= (column >= start) & (column < start + width)
            new = jnp.sum(block & ~hidden)
            fits = (height < rows) & (width < columns) & (new > 0) & (new <= left)
            fits &= failed < GIVEN_UP
            return (hidden | (block & fits), jnp.where(fits, 0, failed + 1)), None

        start = jnp.zeros(place.shape, bool), jnp.zeros([], jnp.int32)
        drawn = jax.random.uniform(rng_blocks, (TRIES, 4))
        return jax.lax.scan(add, start, drawn)[0][0]

    def of_example(i):
        return jax.vmap(one)(jax.random.split(jax.random.fold_in(rng, i), views))

    return jax.vmap(of_example)(index)


def places(hidden: chex.Array, most: int) -> tuple[chex.Array, chex.Array]:
    """Numbers of the hidden patches, as many for each view as any may have.

    Args:
      hidden: bool [N, L].
      most: M, at least the largest number of hidden patches.

    Returns:
      int32 [N, M], the hidden ones first, and bool [N, M], which these are.
    """
    order = jnp.argsort(~hidden, axis=1, stable=True)[:, :most].astype(jnp.int32)
    return order, jnp.take_along_axis(hidden, order, axis=1)


def most_hidden(
    factory: str, grid: tuple[int, int], mask_ratio: tuple[float, float], least: int = 1
) -> int:
    """⌈L·r⌉ for the largest share r.

    Args:
      factory: of the method, for its errors.
      grid: rows and columns of patches, L in all.
      mask_ratio: least and largest share.
      least: smallest area of a block.

    Raises:
      UsageError: where the share is less than a patch, or no block of that area leaves
        a row and a column of the grid.
    """
    rows, columns = grid
    if rows * columns * mask_ratio[1] < 1:
        raise UsageError(
            f"{factory}: mask_ratio={mask_ratio} hides none of {rows}×{columns} "
            "patches; use smaller patches or a larger share"
        )
    if (rows - 1) * (columns - 1) < least:
        raise UsageError(
            f"{factory}: {rows}×{columns} patches are too few to hide a block of "
            f"{least} and leave a row and a column; use smaller patches"
        )
    return math.ceil(rows * columns * mask_ratio[1])


def check(factory: str, mask_ratio: tuple[float, float]) -> None:
    """Refuses shares that are not two numbers in (0, 1), the smaller one first.

    Raises:
      UsageError: naming the factory.
    """
    two = isinstance(mask_ratio, tuple | list | np.ndarray) and len(mask_ratio) == 2
    two = two and all(isinstance(x, numbers.Real) for x in mask_ratio)
    if not (two and 0 < mask_ratio[0] <= mask_ratio[1] < 1):
        raise UsageError(
            f"{factory}: mask_ratio must be least and largest, in (0, 1), got "
            f"{mask_ratio}"
        )
