"""Row-owner: a device gathers the others' rows once and reduces its own against them.

No sums of rows are exchanged. A device's own block is a triangle, the others' are a
rectangle; memory is the gathered rows and one tile.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.pairwise import reductions, streaming, tiles
from rl_jax.pairwise.streaming import Cotangents, Gradients, Operands, Plan
from rl_jax.pairwise.tiles import Rows


def sums(plan: Plan, given: Operands, *, axis: str, count: int, shared: bool):
    """As `streaming.sums`, for the rows of one device inside `shard_map`.

    Args:
      plan: of the call.
      given: rows of x, of y where it is shared out, and of `exclude` are the device's.
      axis: name of the mesh axis.
      count: of its devices.
      shared: whether y is shared out; where it is not, every device has all of it.
    """
    reduction = reductions.of(plan.kind, given.shift)
    if given.y is None:
        x, everyone, place = _own_and_everyone(plan, given, axis, count)
        tile = streaming.logits(given, x, everyone)

        def turned(i, j):
            return tile(i, place(j))

        carry = reduction.empty(x.parts[0].shape[:2])
        carry = streaming.sum_self(reduction, turned, x, carry)
        pairs = _others(len(x.parts[0]), count)
        carry, _ = streaming.sum_rectangle(reduction, turned, pairs, carry, None)
        return streaming.unblock(reduction.sums(carry), len(given.x))
    x, y = _rectangle(plan, given, axis, count, shared)
    tile = streaming.logits(given, x, y, mask_rows=plan.both)
    rows = reduction.empty(x.parts[0].shape[:2])
    columns = reduction.empty(y.parts[0].shape[:2]) if plan.both else None
    pairs = tiles.grid(len(x.parts[0]), len(y.parts[0]))
    rows, columns = streaming.sum_rectangle(reduction, tile, pairs, rows, columns)
    rows = streaming.unblock(reduction.sums(rows), len(given.x))
    if columns is None:
        return rows
    shares, size = count if shared else 1, len(given.y)
    columns = tuple(_unblock_all(v, shares, size) for v in reduction.sums(columns))
    return rows, reduction.across(columns, axis)


def gradients(
    plan: Plan,
    given: Operands,
    bars: Cotangents,
    *,
    axis: str,
    count: int,
    shared: bool,
) -> Gradients:
    """As `streaming.gradients`; the cotangents of columns are those of all of them."""
    reduction = reductions.of(plan.kind, given.shift)
    side = streaming.cut_side(reduction, bars.rows, plan.rows)
    if given.y is None:
        x, everyone, place = _own_and_everyone(plan, given, axis, count)
        tile = streaming.logits(given, x, everyone, mask_rows=plan.with_total)

        def turned(i, j):
            return tile(i, place(j))

        out = streaming.no_gradients(x, None, total=plan.with_total)
        out = streaming.weigh_self(reduction, turned, x, side, out)
        sides = tuple(lax.all_gather(v, axis, tiled=True) for v in side)
        pairs = _others(len(x.parts[0]), count)
        out = streaming.weigh_rectangle(
            reduction, turned, pairs, (x, side), (everyone, sides), out, place=place
        )
        out = streaming.finish(out, len(given.x), None)
    else:
        x, y = _rectangle(plan, given, axis, count, shared)
        mask = plan.with_y or plan.with_total
        tile = streaming.logits(given, x, y, mask_rows=mask)
        other = None
        if bars.columns is not None:
            shares, (found, g) = count if shared else 1, bars.columns
            found = tuple(_block_all(v, shares, plan.columns, jnp.inf) for v in found)
            other = reduction.side(found, _block_all(g, shares, plan.columns, 0))
        wanted = y if plan.with_y else None
        out = streaming.no_gradients(x, wanted, total=plan.with_total)
        pairs = tiles.grid(len(x.parts[0]), len(y.parts[0]))
        out = streaming.weigh_rectangle(
            reduction, tile, pairs, (x, side), (y, other), out
        )
        if out.y is not None:
            total = lax.psum_scatter if shared else lax.psum
            options = {"scatter_dimension": 0, "tiled": True} if shared else {}
            out = out._replace(y=total(out.y, axis, **options))
        out = streaming.finish(out, len(given.x), len(given.y))
    if out.total is None:
        return out
    return out._replace(total=lax.psum(out.total, axis))


def _own_and_everyone(plan: Plan, given: Operands, axis: str, count: int):
    """The device's blocks, everyone's, and where block j counted from its own lies."""
    x = tiles.cut(given.x, plan.rows, precision=plan.precision)
    bias = None
    if x.bias is not None:
        bias = jnp.tile(x.bias, (count, 1))
    everyone = Rows(_gathered(x, axis), bias, None)
    blocks = len(x.parts[0])
    first = lax.axis_index(axis) * blocks
    return x, everyone, lambda j: (j + first) % (blocks * count)


def _others(blocks: int, count: int) -> np.ndarray:
    """The tiles of a device's rows with all rows but its own, counted from its own."""
    pairs = tiles.grid(blocks, blocks * count)
    return pairs[pairs[:, 1] >= blocks]


def _rectangle(
    plan: Plan, given: Operands, axis: str, count: int, shared: bool
) -> tuple[Rows, Rows]:
    assert given.y is not None
    if not shared:
        x, y = streaming.cut_operands(plan, given)
        assert y is not None
        return x, y
    x = tiles.cut(given.x, plan.rows, precision=plan.precision)
    y = tiles.cut(given.y, plan.columns, precision=plan.precision)
    bias, number = given.bias, None
    columns = count * len(given.y)
    if bias is None and y.bias is not None:
        bias = jnp.zeros(columns, jnp.float32)
    if bias is not None:
        bias = _block_all(bias, count, plan.columns, -jnp.inf)
    if given.exclude is not None:
        number = given.group
        if number is None:
            number = jnp.arange(columns, dtype=jnp.int32)
        number = _block_all(number, count, plan.columns, -2)
    return x, Rows(_gathered(y, axis), bias, number)


def _gathered(rows: Rows, axis: str) -> tiles.Parts:
    return tuple(lax.all_gather(part, axis, tiled=True) for part in rows.parts)


def _block_all(x, count: int, size: int, fill):
    """[count·m] -> [count·blocks, size]: each device's share cut by itself."""
    shares = x.reshape(count, -1)
    return jnp.concatenate([tiles.blocks(share, size, fill=fill) for share in shares])


def _unblock_all(x, count: int, rows: int):
    """[count·blocks, size] -> [count·rows], the inverse."""
    return x.reshape(count, -1)[:, :rows].reshape(-1)
