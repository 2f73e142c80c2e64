"""Rows that go around the devices of a mesh axis, so that none has to hold them all.

Self pairs need half a ring: a block visits the next P/2 devices, and its own sums (or
its gradient) travel with it and come home in one hop, because S is symmetric. With an
even P the last hop meets from both sides; there each device keeps its rows only. A
rectangle goes all the way around.

The hops are a `scan`, so that the tiles of one hop are gone before the next; the next
block is sent on before the present one is reduced, so that the two can overlap.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from rl_jax.pairwise import reductions, streaming, tiles
from rl_jax.pairwise.streaming import Cotangents, Gradients, Operands, Plan


def sums(plan: Plan, given: Operands, *, axis: str, count: int):
    """As `streaming.sums`, for the rows of one device inside `shard_map`.

    Args:
      plan: of the call.
      given: all rows are the device's.
      axis: name of the mesh axis.
      count: P, its devices.
    """
    reduction = reductions.of(plan.kind, given.shift)
    send = functools.partial(_send, axis=axis, count=count)
    x, y = _cut(plan, given, axis)
    rows = reduction.empty(x.parts[0].shape[:2])
    if y is None:
        rows = streaming.sum_self(reduction, streaming.logits(given, x, x), x, rows)
        seen, hops = send(x, 1), (count - 1) // 2
        columns = reduction.empty(x.parts[0].shape[:2])
        both = True
    else:
        seen, hops = y, count
        columns = reduction.empty(y.parts[0].shape[:2]) if plan.both else None
        both = plan.both

    def meet(rows, seen, columns):
        tile = streaming.logits(given, x, seen, mask_rows=both)
        pairs = tiles.grid(len(x.parts[0]), len(seen.parts[0]))
        return streaming.sum_rectangle(reduction, tile, pairs, rows, columns)

    def hop(carry, _):
        rows, seen, columns = carry
        following = send(seen, 1)
        rows, columns = meet(rows, seen, columns)
        return (rows, following, send(columns, 1)), None

    (rows, seen, columns), _ = lax.scan(hop, (rows, seen, columns), None, length=hops)
    if y is None:
        if count % 2 == 0:
            rows, _ = meet(rows, seen, None)
        home = reduction.sums(send(columns, -hops - 1))
        return streaming.unblock(
            reduction.join(reduction.sums(rows), home), len(given.x)
        )
    rows = streaming.unblock(reduction.sums(rows), len(given.x))
    if columns is None:
        return rows
    return rows, streaming.unblock(reduction.sums(columns), len(given.y))


def gradients(
    plan: Plan, given: Operands, bars: Cotangents, *, axis: str, count: int
) -> Gradients:
    """As `streaming.gradients`; all cotangents are the device's."""
    reduction = reductions.of(plan.kind, given.shift)
    send = functools.partial(_send, axis=axis, count=count)
    x, y = _cut(plan, given, axis)
    side = streaming.cut_side(reduction, bars.rows, plan.rows)
    out = own = streaming.no_gradients(plan, reduction, x, None)
    if y is None:
        mask = plan.with_total or plan.with_value
        tile = streaming.logits(given, x, x, mask_rows=mask)
        own = streaming.weigh_self(reduction, tile, x, side, out)
        out = out._replace(x=own.x)
        seen, hops, visitor = send((x, side), 1), (count - 1) // 2, x
    else:
        other = bars.columns and streaming.cut_side(
            reduction, bars.columns, plan.columns
        )
        seen, hops, visitor = (y, other), count, y if plan.with_y else None
    mask = visitor is not None or plan.with_total

    def meet(out, seen):
        tile = streaming.logits(given, x, seen[0], mask_rows=mask)
        pairs = tiles.grid(len(x.parts[0]), len(seen[0].parts[0]))
        return streaming.weigh_rectangle(reduction, tile, pairs, (x, side), seen, out)

    def hop(carry, _):
        out, seen = carry
        following = send(seen, 1)
        out = meet(out, seen)
        return (out._replace(y=send(out.y, 1)), following), None

    if visitor is not None:
        out = out._replace(y=jnp.zeros(visitor.parts[0].shape, jnp.float32))
    (out, seen), _ = lax.scan(hop, (out, seen), None, length=hops)
    if y is None:
        guests, visited = out.y, (out.total, out.value)
        out = Gradients(out.x, None, own.total, own.value)
        if count % 2 == 0:
            out = meet(out, seen)
        # A visit stands for both orders of its pairs.
        total, value = jax.tree.map(
            lambda v, w: v + 2 * w, (out.total, out.value), visited
        )
        out = Gradients(out.x + send(guests, -hops - 1), None, total, value)
    out = streaming.finish(out, len(given.x), None if y is None else len(given.y))
    return streaming.across(out, axis)


def _cut(plan: Plan, given: Operands, axis: str):
    mine = 0 if given.y is None else lax.axis_index(axis) * len(given.y)
    return streaming.cut_operands(plan, given, first=mine)


def _send(tree, hops: int, *, axis: str, count: int):
    """What this device holds, to the device `hops` further on."""
    to = [(i, (i + hops) % count) for i in range(count)]
    return jax.tree.map(lambda v: lax.ppermute(v, axis, to), tree)
