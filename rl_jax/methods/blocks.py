"""Blocks of patches to predict, and a block around them to predict from."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError

DRAWS = 32
"""Scales and aspects each, at the middles of as many equal parts of their ranges."""


class Masks(NamedTuple):
    """Which patches are seen and which are told, by their number, row by row.

    Attributes:
      context: int32 [B, K], those that the encoder sees.
      targets: int32 [B, M, S], those of each block to predict, 0 where it has fewer.
      counts: bool [B, M, S], which of these there are and the encoder does not see.
    """

    context: chex.Array
    targets: chex.Array
    counts: chex.Array


def sizes(
    rows: int,
    columns: int,
    *,
    scale: tuple[float, float],
    aspect: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Heights and widths of blocks, each as likely as the others: int [N, 2].

    Of k = int(s·L) patches, h = √(k·a) and w = √(k/a) rounded, as I-JEPA's authors have
    it, but for all pairs of `DRAWS` scales s and aspects a; theirs grow together. The
    aspect is relative to that of the image, so that a block of all patches is the
    image.

    Args:
      rows, columns: of the grid of patches; L is their product.
      scale: least and largest share of the patches in a block.
      aspect: least and largest h/w over rows/columns.
    """
    parts = (np.arange(DRAWS) + 0.5) / DRAWS
    found = []
    for s in scale[0] + parts * (scale[1] - scale[0]):
        count = int(rows * columns * s)
        for a in (aspect[0] + parts * (aspect[1] - aspect[0])) * rows / columns:
            h, w = round(math.sqrt(count * a)), round(math.sqrt(count / a))
            found.append((min(max(h, 1), rows), min(max(w, 1), columns)))
    return np.asarray(found, np.int32)


def draw(
    rng: chex.PRNGKey,
    index: chex.Array,
    grid: tuple[int, int],
    *,
    kept: int,
    targets: int,
    target_scale: tuple[float, float],
    target_aspect: tuple[float, float],
    context_scale: tuple[float, float],
) -> Masks:
    """Masks for each example, from `rng` and its index.

    One size of target blocks and one of context blocks for all examples, as the authors
    draw them; the places are each example's own, any in which the block fits. Of the
    patches in the context block and no target `kept` are drawn; where there are fewer,
    others that are no target, and where there are still too few, targets, which then do
    not count.

    Args:
      rng: key of the step.
      index: int32 [B].
      grid: rows and columns of patches.
      kept: K, patches that the encoder sees.
      targets: M.
      target_scale, target_aspect, context_scale: as in `sizes`.
    """
    rows, columns = grid
    of_targets = sizes(rows, columns, scale=target_scale, aspect=target_aspect)
    of_contexts = sizes(rows, columns, scale=context_scale)
    rng_target, rng_context, rng_places = jax.random.split(rng, 3)
    target = jax.random.choice(rng_target, jnp.asarray(of_targets))
    context = jax.random.choice(rng_context, jnp.asarray(of_contexts))
    slot = jnp.arange(int(np.max(np.prod(of_targets, axis=1))), dtype=jnp.int32)
    place = jnp.arange(rows * columns, dtype=jnp.int32)

    def corners(rng, size, count):
        room = jnp.asarray(grid, jnp.int32) - size + 1
        return jax.random.randint(rng, (count, 2), 0, room[None])

    def inside(corner, size):
        row, column = place // columns - corner[0], place % columns - corner[1]
        return (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])

    def one(i):
        rng_corners, rng_context, rng_order = jax.random.split(
            jax.random.fold_in(rng_places, i), 3
        )
        corner = corners(rng_corners, target, targets)
        row = corner[:, 0, None] + (slot // target[1])[None]
        column = corner[:, 1, None] + (slot % target[1])[None]
        there = jnp.broadcast_to(
            (slot < target[0] * target[1])[None], (targets, slot.size)
        )
        told = jnp.where(there, row * columns + column, 0)

        hidden = jnp.any(jax.vmap(lambda c: inside(c, target))(corner), axis=0)
        around = inside(corners(rng_context, context, 1)[0], context)
        last = jnp.where(hidden, 2.0, jnp.where(around, 0.0, 1.0))
        order = jnp.argsort(last + jax.random.uniform(rng_order, place.shape))
        seen = jnp.zeros(place.shape, bool).at[order[:kept]].set(True)
        return Masks(order[:kept].astype(jnp.int32), told, there & ~seen[told])

    return jax.vmap(one)(index)


def check(factory: str, **ranges: tuple[float, float]) -> None:
    """Refuses ranges that are not two numbers > 0, the smaller one first.

    A `..._scale` is at most 1, too.

    Raises:
      UsageError: for the first of them.
    """
    for name, value in ranges.items():
        most = 1.0 if name.endswith("_scale") else math.inf
        expected = "least and largest, > 0" + (" and at most 1" if most == 1 else "")
        two = isinstance(value, tuple | list) and len(value) == 2
        two = two and all(isinstance(x, int | float) for x in value)
        if not (two and 0 < value[0] <= value[1] <= most and value[1] < math.inf):
            raise UsageError(f"{factory}: {name} must be {expected}, got {value}")
