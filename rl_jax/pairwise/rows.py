"""Rows against a table that every device holds, a block of rows at a time.

Where a pass needs whole rows of the matrix (their softmax), tiles are no use: a block
has all columns. The rows lie on the devices as they are; each device goes over its own,
and what it adds up meets that of the others once, at the end.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from rl_jax.pairwise import tiles
from rl_jax.pairwise.sharded import AXIS, devices

Tree = Any


def over_devices(
    local: Callable[[Tree, Tree, str | None], tuple[Tree, Tree]],
    rows: Tree,
    everywhere: Tree,
) -> tuple[Tree, Tree]:
    """`local` of the rows that a device has, on all devices of the context mesh.

    Args:
      local: `(rows, everywhere, axis)` to sums over all rows, which it brings together
        over that axis of the mesh, and arrays with a row for each of its own. The axis
        is None where rows are not shared out, or not evenly: then it is called once.
      rows: arrays [N, ...].
      everywhere: arrays that all devices need whole.
    """
    count = devices()
    if count == 1 or len(jax.tree.leaves(rows)[0]) % count:
        return local(rows, everywhere, None)
    row, whole = PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(
        lambda rows, everywhere: local(rows, everywhere, AXIS),
        in_specs=(row, whole),
        out_specs=(whole, row),
        axis_names={AXIS},
        check_vma=False,
    )(rows, everywhere)


def total(x: Tree, axis: str | None) -> Tree:
    """Sums over devices."""
    return x if axis is None else lax.psum(x, axis)


def total_logsumexp(x: chex.Array, axis: str | None) -> chex.Array:
    """The logarithm of Σ exp over devices; −∞ where it is that on all."""
    if axis is None:
        return x
    most = lax.pmax(x, axis)
    most = jnp.where(jnp.isneginf(most), 0.0, most)
    return most + jnp.log(lax.psum(jnp.exp(x - most), axis))


def fold(
    step: Callable[[Tree, Tree], tuple[Tree, Tree]],
    carry: Tree,
    rows: Tree,
    counts: chex.Array,
    size: int,
) -> tuple[Tree, Tree]:
    """Blocks of rows one after the other; those in which no row counts are left out.

    Rows that count come first, so that as few blocks as can be have any.

    Args:
      step: carry and a block of `rows` to the new carry and arrays of a row for each.
        Rows that do not count, and zeros that fill up the last block, change nothing.
      carry: arrays.
      rows: arrays [N, ...].
      counts: bool [N].
      size: rows of a block; N or more: all at once, in their order, and no loop.

    Returns:
      The last carry, and what `step` gave for each row; 0 where it was left out.
    """
    count = len(counts)
    blocks = -(-count // size)
    if blocks <= 1:
        return step(carry, rows)
    # Rounded down again: as many blocks, none of them nearly empty.
    size = -(-count // blocks)
    order = jnp.argsort(~counts, stable=True)

    def cut(x):
        fill = [(0, blocks * size - count), *((0, 0) for _ in x.shape[1:])]
        return jnp.pad(x[order], fill).reshape(blocks, size, *x.shape[1:])

    counts, rows, carry = tiles.varying((counts, rows, carry))
    cut_counts, cut_rows = jax.tree.map(cut, (counts, rows))

    def body(carry, block):
        any_counts, rows = block
        found = jax.eval_shape(step, carry, rows)[1]
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found)
        nothing = tiles.varying((nothing, carry))[0]
        return lax.cond(
            any_counts, step, lambda carry, rows: (carry, nothing), carry, rows
        )

    carry, out = lax.scan(body, carry, (cut_counts.any(1), cut_rows))
    back = jnp.argsort(order)
    return carry, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[back], out)
