"""Row-owner by calls of a one-device reduction, such as the kernels for Hopper GPUs.

As `gather`, a device takes the others' rows once and reduces its own against them; but
where that one folds tiles, here a device's share is one or two whole calls: its own
pairs, and a rectangle of its rows with the others'.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from rl_jax.pairwise import reductions, streaming, tiles
from rl_jax.pairwise.streaming import Cotangents, Gradients, Operands, Plan


def sums(local: Callable, plan: Plan, given: Operands, *, axis: str, shared: bool):
    """As `streaming.sums`, for the rows of one device inside `shard_map`.

    Args:
      local: the same of one device, `(plan, operands) -> (sums, kept)`.
      plan: of the call.
      given: rows of x are the device's, and those of y where it is shared out; without
        `group`, so columns go by their number among all.
      axis: name of the mesh axis.
      shared: whether y is shared out; where it is not, every device has all of it.

    Returns:
      `rows` or `(rows, columns)`; those of columns are shared out where y is.
    """
    reduction = reductions.of(plan.kind, given.shift)
    given = _rounded(plan, given)
    if given.y is None:
        own, _ = local(plan, given)
        rest, _ = local(plan, given._replace(y=_others(given.x, axis)))
        return reduction.join(own, rest)
    found, _ = local(plan, given._replace(y=_everyone(given.y, axis, shared)))
    if not plan.both:
        return found
    rows, columns = found
    columns = reduction.across(columns, axis)
    if shared:
        first = lax.axis_index(axis) * len(given.y)
        columns = tuple(
            lax.dynamic_slice_in_dim(v, first, len(given.y)) for v in columns
        )
    return rows, columns


def gradients(
    local: Callable,
    plan: Plan,
    given: Operands,
    bars: Cotangents,
    *,
    axis: str,
    shared: bool,
) -> Gradients:
    """As `streaming.gradients`; cotangents of columns are shared out where y is."""
    given = _rounded(plan, given)
    if given.y is None:
        # Of a pair both rows have a weight: that of the other one as of a column.
        others = jax.tree.map(lambda v: _others(v, axis), bars.rows)
        own = local(plan, given, bars)
        beside = given._replace(y=_others(given.x, axis))
        rest = local(plan, beside, Cotangents(bars.rows, others))
        return Gradients(own.x + rest.x, None, None, None)
    everyone = given._replace(y=_everyone(given.y, axis, shared))
    columns = bars.columns and jax.tree.map(
        lambda v: _everyone(v, axis, shared), bars.columns
    )
    out = local(plan, everyone, Cotangents(bars.rows, columns))
    dy = out.y
    if dy is not None and shared:
        dy = lax.psum_scatter(dy, axis, scatter_dimension=0, tiled=True)
    elif dy is not None:
        dy = lax.psum(dy, axis)
    return streaming.across(out._replace(y=dy), axis)


def _rounded(plan: Plan, given: Operands) -> Operands:
    """Rows of 16 bits before they travel, where that is what is multiplied."""
    if plan.precision != "bf16":
        return given
    (x,) = tiles.split(given.x, "bf16")
    y = None if given.y is None else tiles.split(given.y, "bf16")[0]
    return given._replace(x=x, y=y)


def _everyone(x: jax.Array, axis: str, shared: bool) -> jax.Array:
    return lax.all_gather(x, axis, tiled=True) if shared else x


def _others(x: jax.Array, axis: str) -> jax.Array:
    """The rows of all other devices, from the next one on."""
    everyone = lax.all_gather(x, axis, tiled=True)
    return jnp.roll(everyone, -lax.axis_index(axis) * len(x), axis=0)[len(x) :]
