"""Row-owner: a device gathers the others' rows once and reduces its own against them.

No sums of rows are exchanged. A device's own block is a triangle, the others' are a
rectangle; memory is the gathered rows and one tile.
"""

import jax
import numpy as np
from jax import lax

from rl_jax.pairwise import reductions, streaming, tiles
from rl_jax.pairwise.reductions import Reduction
from rl_jax.pairwise.streaming import Cotangents, Gradients, Operands, Plan


def sums(plan: Plan, given: Operands, *, axis: str, count: int, shared: bool):
    """As `streaming.sums`, for the rows of one device inside `shard_map`.

    Args:
      plan: of the call.
      given: rows of x are the device's, and those of y where it is shared out.
      axis: name of the mesh axis.
      count: of its devices.
      shared: whether y is shared out; where it is not, every device has all of it.
    """
    reduction = reductions.of(plan.kind, given.shift)
    x, y = _cut(plan, given, axis, shared)
    rows = reduction.empty(x.parts[0].shape[:2])
    if y is None:
        place = _place(x, axis, count)
        tile = _turned(streaming.logits(given, x, _gathered(x, axis)), place)
        rows = streaming.sum_self(reduction, tile, x, rows)
        pairs = _others(len(x.parts[0]), count)
        rows, _ = streaming.sum_rectangle(reduction, tile, pairs, rows, None)
        return streaming.unblock(reduction.sums(rows), len(given.x))
    assert given.y is not None
    everyone = _gathered(y, axis) if shared else y
    tile = streaming.logits(given, x, everyone, mask_rows=plan.both)
    columns = reduction.empty(everyone.parts[0].shape[:2]) if plan.both else None
    pairs = tiles.grid(len(x.parts[0]), len(everyone.parts[0]))
    rows, columns = streaming.sum_rectangle(reduction, tile, pairs, rows, columns)
    rows = streaming.unblock(reduction.sums(rows), len(given.x))
    if columns is None:
        return rows
    columns = reduction.across(reduction.sums(columns), axis)
    if shared:
        first, mine = lax.axis_index(axis) * len(y.parts[0]), len(y.parts[0])
        columns = tuple(lax.dynamic_slice_in_dim(v, first, mine) for v in columns)
    return rows, streaming.unblock(columns, len(given.y))


def gradients(
    plan: Plan,
    given: Operands,
    bars: Cotangents,
    *,
    axis: str,
    count: int,
    shared: bool,
) -> Gradients:
    """As `streaming.gradients`; cotangents of columns are shared out where y is."""
    reduction = reductions.of(plan.kind, given.shift)
    x, y = _cut(plan, given, axis, shared)
    side = streaming.cut_side(reduction, bars.rows, plan.rows)
    if y is None:
        out = _gradients_of_self(plan, given, reduction, x, side, axis, count)
        out = streaming.finish(out, len(given.x), None)
    else:
        assert given.y is not None
        other = bars.columns and streaming.cut_side(
            reduction, bars.columns, plan.columns
        )
        everyone = _gathered((y, other), axis) if shared else (y, other)
        mask = plan.with_y or plan.with_total
        tile = streaming.logits(given, x, everyone[0], mask_rows=mask)
        out = streaming.no_gradients(
            plan, reduction, x, everyone[0] if plan.with_y else None
        )
        pairs = tiles.grid(len(x.parts[0]), len(everyone[0].parts[0]))
        out = streaming.weigh_rectangle(
            reduction, tile, pairs, (x, side), everyone, out
        )
        if out.y is not None:
            total = _summed_share if shared else lax.psum
            out = out._replace(y=total(out.y, axis))
        out = streaming.finish(out, len(given.x), len(given.y))
    return streaming.across(out, axis)


def _gradients_of_self(
    plan: Plan, given: Operands, reduction: Reduction, x, side, axis: str, count: int
) -> Gradients:
    everyone, place = _gathered((x, side), axis), _place(x, axis, count)
    mask = plan.with_total or plan.with_value
    tile = _turned(streaming.logits(given, x, everyone[0], mask_rows=mask), place)
    out = streaming.no_gradients(plan, reduction, x, None)
    out = streaming.weigh_self(reduction, tile, x, side, out)
    pairs = _others(len(x.parts[0]), count)
    return streaming.weigh_rectangle(
        reduction, tile, pairs, (x, side), everyone, out, place=place
    )


def _cut(plan: Plan, given: Operands, axis: str, shared: bool):
    """The device's blocks; rows of y are counted over all devices."""
    first = 0
    if shared and given.y is not None:
        first = lax.axis_index(axis) * len(given.y)
    return streaming.cut_operands(plan, given, first=first)


def _gathered(tree, axis: str):
    """Everyone's blocks, device after device."""
    return jax.tree.map(lambda v: lax.all_gather(v, axis, tiled=True), tree)


def _summed_share(x, axis: str):
    return lax.psum_scatter(x, axis, scatter_dimension=0, tiled=True)


def _place(x, axis: str, count: int):
    """Where among everyone's blocks block j counted from the device's own lies."""
    mine = len(x.parts[0])
    first = lax.axis_index(axis) * mine
    return lambda j: (j + first) % (mine * count)


def _turned(tile, place):
    """The tiles of everyone's blocks, counted from the device's own."""
    return lambda i, j: tile(i, place(j))


def _others(blocks: int, count: int) -> np.ndarray:
    """The tiles of a device's rows with all rows but its own, counted from its own."""
    pairs = tiles.grid(blocks, blocks * count)
    return pairs[pairs[:, 1] >= blocks]
