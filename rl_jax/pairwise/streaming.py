"""Reductions over pairs of rows, tile by tile: the XLA path on one device.

Two shapes of work, each with its sums and its gradients:

  self pairs  of x [N, D] without the diagonal. S = scale·x xᵀ is symmetric, so only
              tiles with I ≤ J are formed: each serves block I by its rows and block J
              by its columns.
  rectangles  rows of x [N, D] against rows of y [M, D]; one sweep serves both.

A tile of S is formed, reduced and forgotten; the gradient forms it again. `gather` and
`ring` fold the same functions over the tiles that a device has to see.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.pairwise import reductions, tiles
from rl_jax.pairwise.reductions import Reduction
from rl_jax.pairwise.tiles import Rows

Tile = Callable[..., chex.Array]
"""`(i, j) -> [T, U]`: the masked logits of block i of x against block j of y."""


class Operands(NamedTuple):
    """The arrays of one call; the logits are scale·⟨x_i, y_j⟩ + offset + bias_j.

    Attributes:
      x: [N, D].
      y: [M, D]; None: self pairs.
      scale: float32 scalar.
      offset: float32 scalar or None.
      shift: float or float32 scalar, of the reduction "exp"; else None.
      bias: float32 [M], −inf where a column does not count; None: all do.
      exclude: int32 [N], for each row the columns to leave out, −1 for none; or None.
      group: int32 [M], by what columns are left out; None: each by its own number.
    """

    x: chex.Array
    y: chex.Array | None
    scale: chex.Array
    offset: chex.Array | None
    shift: chex.Array | float | None
    bias: chex.Array | None
    exclude: chex.Array | None
    group: chex.Array | None


class Cotangents(NamedTuple):
    """What the gradient needs of rows: their sums and the cotangents of their results.

    Attributes:
      rows: `(sums, g)`, arrays float32 [N].
      columns: the same [M], where columns were reduced too; else None.
    """

    rows: tuple[reductions.Sums, chex.Array]
    columns: tuple[reductions.Sums, chex.Array] | None


class Gradients(NamedTuple):
    """Sums over the weights W of all pairs; the gradients by x and y are scale times.

    Attributes:
      x: float32 [N, D]: W y, or for self pairs (W + Wᵀ) x.
      y: float32 [M, D]: Wᵀ x, or None.
      total: the sum of W over ordered pairs, or None: the gradient by the offset.
      value: the sum of φ over ordered pairs, or None.
    """

    x: chex.Array
    y: chex.Array | None
    total: chex.Array | None
    value: chex.Array | None


class Plan(NamedTuple):
    """The static part of one call.

    Attributes:
      kind: of the reduction.
      rows, columns: of a tile.
      precision: of the products.
      both: reduce columns too.
      with_y, with_total: which gradients are wanted beside that by x.
      with_value: sum up the terms of all pairs too, while their logits are at hand;
        for reductions whose weights do not need the sums. Cotangents are then all 1.
      keep: hold the logits for the gradient; where they are a single tile that costs
        the memory of a tile and saves forming it again.
      kernels: leave what they support to the kernels for Hopper GPUs; None: where they
        run and are faster.
    """

    kind: reductions.Kind
    rows: int
    columns: int
    precision: tiles.Precision | None
    both: bool = False
    with_y: bool = False
    with_total: bool = False
    with_value: bool = False
    keep: bool = False
    kernels: bool | None = False


def sums(plan: Plan, given: Operands):
    """The sums of every row, arrays float32 [N]; with `plan.both` of columns too.

    Returns:
      `(rows, kept)` or `((rows, columns), kept)`; kept is None without `plan.keep`.
    """
    reduction = reductions.of(plan.kind, given.shift)
    x, y = cut_operands(plan, given)
    if y is None:
        tile, kept = _kept(plan, logits(given, x, x))
        carry = reduction.empty(x.parts[0].shape[:2])
        carry = sum_self(reduction, tile, x, carry)
        return unblock(reduction.sums(carry), len(given.x)), kept
    assert given.y is not None
    tile, kept = _kept(plan, logits(given, x, y, mask_rows=plan.both))
    rows = reduction.empty(x.parts[0].shape[:2])
    columns = reduction.empty(y.parts[0].shape[:2]) if plan.both else None
    pairs = tiles.grid(len(x.parts[0]), len(y.parts[0]))
    rows, columns = sum_rectangle(reduction, tile, pairs, rows, columns)
    rows = unblock(reduction.sums(rows), len(given.x))
    if columns is None:
        return rows, kept
    return (rows, unblock(reduction.sums(columns), len(given.y))), kept


def _kept(plan: Plan, tile: Tile) -> tuple[Tile, chex.Array | None]:
    """The tile function, and the only tile where it is to be kept."""
    if not plan.keep:
        return tile, None
    only = tile(0, 0)
    return (lambda i, j: only), only


def gradients(plan: Plan, given: Operands, bars: Cotangents, kept=None) -> Gradients:
    """The sums of `Gradients`, from the sums and the cotangents of rows."""
    reduction = reductions.of(plan.kind, given.shift)
    x, y = cut_operands(plan, given)
    side = cut_side(reduction, bars.rows, plan.rows)
    if y is None:
        out = no_gradients(plan, reduction, x, None)
        tile = logits(given, x, x, mask_rows=plan.with_total or plan.with_value)
        tile = tile if kept is None else lambda i, j: kept
        out = weigh_self(reduction, tile, x, side, out)
        return finish(out, len(given.x), None)
    assert given.y is not None
    tile = logits(given, x, y, mask_rows=plan.with_y or plan.with_total)
    tile = tile if kept is None else lambda i, j: kept
    other = bars.columns and cut_side(reduction, bars.columns, plan.columns)
    out = no_gradients(plan, reduction, x, y if plan.with_y else None)
    pairs = tiles.grid(len(x.parts[0]), len(y.parts[0]))
    out = weigh_rectangle(reduction, tile, pairs, (x, side), (y, other), out)
    return finish(out, len(given.x), len(given.y))


def cut_operands(plan: Plan, given: Operands, *, first=0) -> tuple[Rows, Rows | None]:
    """Blocks of x and of y, whose rows are counted from `first` on."""
    x = tiles.cut(given.x, plan.rows, precision=plan.precision)
    if given.y is None:
        return x, None
    number = None
    if given.exclude is not None:
        number = given.group
        if number is None:
            number = first + jnp.arange(len(given.y), dtype=jnp.int32)
    return x, tiles.cut(
        given.y, plan.columns, precision=plan.precision, bias=given.bias, number=number
    )


def cut_side(reduction: Reduction, bars, size: int) -> tuple:
    """The sides of rows in blocks, from their sums and cotangents."""
    sums, g = bars
    sums = tuple(tiles.blocks(v, size, fill=jnp.inf) for v in sums)
    return reduction.side(sums, tiles.blocks(g, size))


def unblock(sums: reductions.Sums, rows: int) -> reductions.Sums:
    """The sums of rows that were cut into blocks."""
    return tuple(tiles.unblock(v, rows) for v in sums)


def logits(given: Operands, x: Rows, y: Rows, *, mask_rows: bool = False) -> Tile:
    """The function that forms one tile.

    With `mask_rows` what fills up the last block of x counts as −inf too: it would
    reach the columns and the total.
    """
    out = None
    if given.exclude is not None:
        size = x.parts[0].shape[1]
        out = tiles.blocks(given.exclude, size, fill=-1)

    def tile(i, j):
        s = tiles.outer(tiles.at(x.parts, i), tiles.at(y.parts, j)) * given.scale
        if given.offset is not None:
            s += given.offset
        if y.bias is not None:
            s += y.bias[j][None]
        if mask_rows and x.bias is not None:
            s += x.bias[i][:, None]
        if out is not None:
            assert y.number is not None
            s = jnp.where(y.number[j][None] == out[i][:, None], -jnp.inf, s)
        return s

    return tile


def sum_self(reduction: Reduction, tile: Tile, x: Rows, carry):
    """Adds all pairs of distinct rows of x."""
    count, size = x.parts[0].shape[:2]
    eye = _eye(size)

    def on(carry, i, j):
        return reduction.add(carry, i, tile(i, j) + eye, 1)

    def off(carry, i, j):
        s = tile(i, j)
        return reduction.add(reduction.add(carry, i, s, 1), j, s, 0)

    carry = tiles.loop(on, carry, tiles.diagonal(count))
    return tiles.loop(off, carry, tiles.above(count)) if count > 1 else carry


def sum_rectangle(reduction: Reduction, tile: Tile, pairs: np.ndarray, rows, columns):
    """Adds the given tiles to rows, and to columns unless those are None."""

    def body(carry, i, j):
        rows, columns = carry
        s = tile(i, j)
        rows = reduction.add(rows, i, s, 1)
        return rows, None if columns is None else reduction.add(columns, j, s, 0)

    return tiles.loop(body, (rows, columns), pairs)


def weigh_self(reduction: Reduction, tile: Tile, x: Rows, side, out: Gradients):
    """Adds the gradients of all pairs of distinct rows of x."""
    count, size = x.parts[0].shape[:2]
    eye = _eye(size)

    def on(out, i, j):
        s = tile(i, j) + eye
        w = reduction.weigh(s, tiles.at(side, i), tiles.at(side, j))
        dx = out.x.at[i].add(tiles.weighted(w, tiles.at(x.parts, j)))
        value = _and(reduction, out.value, i, s, 1)
        return Gradients(dx, None, _plus(out.total, w), value)

    def off(out, i, j):
        s = tile(i, j)
        w = reduction.weigh(s, tiles.at(side, i), tiles.at(side, j))
        dx = out.x.at[i].add(tiles.weighted(w, tiles.at(x.parts, j)))
        dx = dx.at[j].add(tiles.weighted_columns(w, tiles.at(x.parts, i)))
        value = _and(reduction, _and(reduction, out.value, i, s, 1), j, s, 0)
        return Gradients(dx, None, _plus(_plus(out.total, w), w), value)

    out = tiles.loop(on, out, tiles.diagonal(count))
    return tiles.loop(off, out, tiles.above(count)) if count > 1 else out


def weigh_rectangle(
    reduction: Reduction,
    tile: Tile,
    pairs: np.ndarray,
    x,
    y,
    out: Gradients,
    *,
    place: Callable = lambda j: j,
) -> Gradients:
    """Adds the gradients of the given tiles.

    Args:
      reduction, tile: as in `sums`.
      pairs: the tiles.
      x, y: each `(Rows, side)`; the side of y is None where columns have no cotangent.
      out: what to add to; where `out.y` is None it is not formed.
      place: where in y the columns of tile j lie.
    """
    (x, x_side), (y, y_side) = x, y

    def body(out, i, j):
        column = None if y_side is None else tiles.at(y_side, place(j))
        s = tile(i, j)
        w = reduction.weigh(s, tiles.at(x_side, i), column)
        dx = out.x.at[i].add(tiles.weighted(w, tiles.at(y.parts, place(j))))
        dy = out.y
        if dy is not None:
            dy = dy.at[j].add(tiles.weighted_columns(w, tiles.at(x.parts, i)))
        value = _and(reduction, out.value, i, s, 1)
        return Gradients(dx, dy, _plus(out.total, w), value)

    return tiles.loop(body, out, pairs)


def no_gradients(
    plan: Plan, reduction: Reduction, x: Rows, y: Rows | None
) -> Gradients:
    """What to add to: of all that the plan wants, and of y where it is not None."""
    dx = jnp.zeros(x.parts[0].shape, jnp.float32)
    dy = None if y is None else jnp.zeros(y.parts[0].shape, jnp.float32)
    total = jnp.zeros([], jnp.float32) if plan.with_total else None
    value = reduction.empty(x.parts[0].shape[:2]) if plan.with_value else None
    return Gradients(dx, dy, total, value)


def finish(out: Gradients, rows: int, columns: int | None) -> Gradients:
    """The gradients in rows again; self pairs (no columns) were counted twice."""
    total = out.total
    if total is not None and columns is None:
        total = total / 2
    y = None if out.y is None else tiles.unblock(out.y, columns)
    value = None if out.value is None else tiles.unblock(out.value, rows).sum()
    return Gradients(tiles.unblock(out.x, rows), y, total, value)


def across(out: Gradients, axis: str) -> Gradients:
    """The same, with scalars of all devices of a mesh axis."""
    total, value = lax.psum((out.total, out.value), axis)
    return out._replace(total=total, value=value)


def _eye(size: int) -> chex.Array:
    return jnp.where(jnp.eye(size, dtype=bool), -jnp.inf, 0.0)


def _plus(total, w):
    return None if total is None else total + w.sum()


def _and(reduction: Reduction, value, i, s, axis: int):
    return None if value is None else reduction.add(value, i, s, axis)
