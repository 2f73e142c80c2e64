"""What is too large for one call of a kernel, in parts.

Sums go strip by strip, gradients that are not fused tile by tile. The loop over them is
the device's; a part that fills up the last ones is told not to count.
"""

import functools

import jax.numpy as jnp

from rl_jax.pairwise import tiles
from rl_jax.pairwise.mosaic_gpu import forward, terms, weights
from rl_jax.pairwise.streaming import Gradients, Plan

TILE = 8192
"""Rows and columns of a tile of weights: 128 MiB. Of larger ones a larger part of the
tiles on the diagonal of self pairs would be in vain."""

LARGE_TILE = 16384
"""Those of a side of a rectangle that would have more than four of the others: up to
512 MiB, and of 65,536 rows 6 to 8 % less time."""

STRIP = 2**17
"""Rows and columns of one call for sums, whose partial sums then take 100 MiB."""


def sums(kind: terms.Kind, x, y, exclude, scale, shift):
    """As `forward.sums`, strip by strip, for partial sums grow with both sides."""
    make = functools.partial(forward.sums, kind=kind)
    if max(len(x), 0 if y is None else len(y)) <= STRIP:
        return make(x, y, scale, shift, exclude=exclude)
    rows, count = _strips(x)
    if y is None:

        def on(total, i, j):
            counts = (count(i), count(i))
            return total.at[i].add(make(rows[i], None, scale, shift, counts=counts))

        def off(total, i, j):
            counts = (count(i), count(j))
            one, two = make(rows[i], rows[j], scale, shift, counts=counts)
            return total.at[i].add(one).at[j].add(two)

        total = jnp.zeros(rows.shape[:2], jnp.float32)
        total = tiles.loop(on, total, tiles.diagonal(len(rows)))
        if len(rows) > 1:
            total = tiles.loop(off, total, tiles.above(len(rows)))
        return tiles.unblock(total, len(x))
    columns, column_count = _strips(y)
    of_tile = _renumbered(exclude, rows.shape[1], columns.shape[1])

    def body(totals, i, j):
        one, two = make(
            *(rows[i], columns[j], scale, shift),
            exclude=of_tile(i, j),
            counts=(count(i), column_count(j)),
        )
        return totals[0].at[i].add(one), totals[1].at[j].add(two)

    totals = (
        jnp.zeros(rows.shape[:2], jnp.float32),
        jnp.zeros(columns.shape[:2], jnp.float32),
    )
    totals = tiles.loop(body, totals, tiles.grid(len(rows), len(columns)))
    return tiles.unblock(totals[0], len(x)), tiles.unblock(totals[1], len(y))


def _renumbered(exclude, rows: int, columns: int):
    """For tile (i, j), its own number of the column that each row leaves out."""
    if exclude is None:
        return lambda i, j: None
    blocks = tiles.blocks(exclude, rows, fill=-1)
    # Numbers below 0 meet no column of a tile, nor do those beyond it.
    return lambda i, j: jnp.where(blocks[i] < 0, -1, blocks[i] - j * columns)


def _strips(x):
    """Rows cut into strips of one size, and how many of strip i are rows of x."""
    count = -(-len(x) // STRIP)
    size = -(-len(x) // count)
    return tiles.blocks(x, size), lambda i: jnp.minimum(len(x) - i * size, size)


def multiplied_self(x, a, scale, shift):
    """Large tiles of weights on and above the diagonal; each serves both its sides."""
    size = rows_of_tile(len(x), TILE)
    rows, share = tiles.blocks(x, size), tiles.blocks(a, size)

    def on(dx, i, j):
        (w,) = weights.weights(
            rows[i], rows[j], share[i], share[j], scale, shift, diagonal=True
        )
        return dx.at[i].add(tiles.product((w,), (rows[j],)))

    def off(dx, i, j):
        (w,) = weights.weights(rows[i], rows[j], share[i], share[j], scale, shift)
        dx = dx.at[i].add(tiles.product((w,), (rows[j],)))
        return dx.at[j].add(tiles.product((w.T,), (rows[i],)))

    dx = tiles.loop(on, jnp.zeros(rows.shape, jnp.float32), tiles.diagonal(len(rows)))
    if len(rows) > 1:
        dx = tiles.loop(off, dx, tiles.above(len(rows)))
    return tiles.unblock(dx, len(x))


def multiplied(plan: Plan, x, y, a, b, exclude, scale, shift) -> Gradients:
    """W y, and what else the plan wants, from large tiles of weights W."""
    sizes = rows_of_tile(len(x), LARGE_TILE), rows_of_tile(len(y), LARGE_TILE)
    x_rows, y_rows = tiles.blocks(x, sizes[0]), tiles.blocks(y, sizes[1])
    # Without shares all pairs weigh alike.
    shared = a is not None
    a_rows, b_rows = (
        (tiles.blocks(a, sizes[0]), tiles.blocks(b, sizes[1])) if shared else ([], [])
    )
    of_tile = _renumbered(exclude, *sizes)
    asked: dict[weights.Sum, bool] = {
        "weight": plan.with_total, "value": plan.with_value,
    }  # fmt: skip
    wanted = tuple(name for name in asked if asked[name])
    # What fills up the last tiles has weights, which nothing but these sums would see.
    ragged = bool(wanted and (len(x) % sizes[0] or len(y) % sizes[1]))

    def body(out, i, j):
        dx, dy, totals = out
        w, *found = weights.weights(
            *(x_rows[i], y_rows[j]),
            *((a_rows[i], b_rows[j]) if shared else (None, None)),
            *(scale, shift),
            kind=plan.kind,
            exclude=of_tile(i, j),
            counts=(len(x) - i * sizes[0], len(y) - j * sizes[1]) if ragged else None,
            sums=wanted,
        )
        dx = dx.at[i].add(tiles.product((w,), (y_rows[j],)))
        if dy is not None:
            dy = dy.at[j].add(tiles.product((w.T,), (x_rows[i],)))
        return dx, dy, [t.at[i].add(f) for t, f in zip(totals, found, strict=True)]

    start = (
        jnp.zeros(x_rows.shape, jnp.float32),
        jnp.zeros(y_rows.shape, jnp.float32) if plan.with_y else None,
        [jnp.zeros(len(x_rows), jnp.float32) for _ in wanted],
    )
    dx, dy, totals = tiles.loop(body, start, tiles.grid(len(x_rows), len(y_rows)))
    total_of = {n: t.sum() for n, t in zip(wanted, totals, strict=True)}
    dy = None if dy is None else tiles.unblock(dy, len(y))
    return Gradients(
        tiles.unblock(dx, len(x)), dy, total_of.get("weight"), total_of.get("value")
    )


def rows_of_tile(rows: int, most: int) -> int:
    """Rows of a tile: all alike, and a multiple of what the kernel cuts them to."""
    count = max(-(-rows // most), min(-(-rows // TILE), 4))
    step = 512 if rows > 512 else 128
    return -(-rows // (count * step)) * step
