"""Jigsaw: in which order were the tiles of the image put?"""

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.methods.permutations import permutation_set
from rl_jax.methods.pretext import Task, cut, pretext
from rl_jax.types import Method, Network


def jigsaw(
    encoder: Network,
    head: Network,
    *,
    permutations: int = 24,
    grid: int = 3,
    gap: int | None = None,
    normalize_tiles: bool = True,
) -> Method:
    """Solves jigsaw puzzles (Noroozi & Favaro 2016, arXiv:1603.09246).

    An image is cut into n = grid² tiles, which are put in the order π drawn from a
    fixed set of K permutations (`permutation_set`): −log softmax(Wᵀ g(f(x_π(1)), …,
    f(x_π(n))) + b)_π. Each tile is cropped at random within its cell, so that the edges
    of neighbours need not continue each other.

    Args:
      encoder: f, tiles [N, h, w, C] to features [N, D]; the same for every tile.
      head: g, the n features side by side, [B, n·D] to [B, H]; discarded afterwards.
      permutations: K in [2, n!].
      grid: tiles along each side, >= 2.
      gap: pixels by which a tile is smaller than its cell, along both sides; None: a
        seventh of the cell's shorter side, at least 1 (the authors cut 64 from 75).
      normalize_tiles: each tile has mean 0 and variance 1, as the authors do against
        shortcuts by brightness and contrast.

    Returns:
      A method with `encode` name `h`, the mean of the features of the n tiles, and
      metric `accuracy` of the K-way answers (chance 1/K).

    Raises:
      UsageError: for values out of range; in use, for images that the grid does not
        divide, or cells no larger than the gap.
    """
    if grid < 2:
        raise UsageError(f"jigsaw: grid must be at least 2, got {grid}")
    if gap is not None and gap < 0:
        raise UsageError(f"jigsaw: gap must be at least 0, got {gap}")
    return pretext(encoder, head, task(permutations, grid, gap, normalize_tiles))


def task(permutations: int, grid: int, gap: int | None, normalize_tiles: bool) -> Task:
    """Which of the permutations; what is seen of a whole image are its tiles."""
    orders = permutation_set(permutations, grid**2).rows

    def tiles(image: chex.Array, offset: chex.Array, margin: int):
        """Of one image, at offsets int [n, 2] within their cells."""
        high, wide = (side // grid for side in image.shape[:2])
        row, column = jnp.divmod(jnp.arange(grid**2), grid)
        row, column = row * high + offset[:, 0], column * wide + offset[:, 1]
        x = cut(image, row, column, high - margin, wide - margin)
        return standardise(x) if normalize_tiles else x

    def ask(rngs, image):
        margin = checked_gap(image, grid, gap)

        def puzzle(rng, image):
            rng_order, rng_offset = jax.random.split(rng)
            answer = jax.random.randint(rng_order, (), 0, permutations)
            offset = jax.random.randint(rng_offset, (grid**2, 2), 0, margin + 1)
            shown = tiles(image, offset, margin)
            return shown[jnp.asarray(orders)[answer]], answer

        parts, answer = jax.vmap(puzzle)(rngs, image)
        return parts[:, None], answer[:, None]

    def look(image):
        margin = checked_gap(image, grid, gap)
        middle = jnp.full((grid**2, 2), margin // 2)
        return jax.vmap(lambda x: tiles(x, middle, margin))(image)

    return Task("jigsaw", permutations, ask, look)


def standardise(tile: chex.Array) -> chex.Array:
    """Mean 0 and variance 1 over the values of each tile [n, h, w, C]."""
    axes = (1, 2, 3)
    mean = tile.mean(axes, keepdims=True)
    # A blank tile must not become noise of variance 1: its rounding to 8 bits.
    return (tile - mean) * jax.lax.rsqrt(tile.var(axes, keepdims=True) + 1e-5)


def checked_gap(image: chex.Array, grid: int, gap: int | None) -> int:
    """The gap in pixels, where images [B, H, W, C] have room for it.

    Raises:
      UsageError: naming the sides.
    """
    height, width = image.shape[1:3]
    if height % grid or width % grid:
        raise UsageError(
            f"jigsaw: a grid of {grid} x {grid} does not divide images of {height} x "
            f"{width}; resize them to a multiple of {grid}"
        )
    cell = min(height, width) // grid
    gap = max(1, round(cell / 7)) if gap is None else gap
    if gap >= cell:
        raise UsageError(
            f"jigsaw: gap must be smaller than the cell of {height // grid} x "
            f"{width // grid}, got {gap}; use larger images than {height} x {width}"
        )
    return gap
