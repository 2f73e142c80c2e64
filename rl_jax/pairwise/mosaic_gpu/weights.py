"""A tile of weights, written out, on a Hopper GPU: gradients that are not fused.

From D = 320 on the sums of 64 rows no longer fit into the registers of a warpgroup, and
other terms than exponentials leave no time. There the weights of a large tile,
W_ij = φ'(scale·⟨x_i, y_j⟩ − shift)(a_i + b_j), are made in one pass, 16-bit and so half
as large as logits would be, and cuBLAS multiplies.
"""

from typing import Any

import chex
import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
from jax import lax

from rl_jax.pairwise.mosaic_gpu import kernel, terms
from rl_jax.pairwise.mosaic_gpu.kernel import (
    BY_COLUMN,
    BY_ROW,
    ROWS,
    WARPGROUPS,
    Stream,
)

WIDTH = 64
"""Columns that a warpgroup owns."""

BLOCK = WIDTH * WARPGROUPS
TALL = 1024
"""Rows that stream past them."""


def buffers_for(tall: int, dim: int) -> int:
    """Chunks in flight: what shared memory has room for, up to six."""
    owned = BLOCK * dim * 2
    results = 2 * WARPGROUPS * ROWS * WIDTH * 2
    # Of each row its share, what it leaves out, and a sum for each warpgroup.
    numbers = (2 + WARPGROUPS) * tall + BLOCK
    room = kernel.SHARED_MEMORY - owned - results - 4 * numbers - 4096
    return min(room // (ROWS * kernel.chunk_of(dim) * 2), 6)


def weights(
    x: jax.Array,
    y: jax.Array,
    a: jax.Array,
    b: jax.Array,
    scale,
    shift,
    *,
    kind: terms.Kind = "exp",
    exclude: jax.Array | None = None,
    diagonal: bool = False,
    count: jax.Array | int | None = None,
):
    """W_ij = φ'(scale·⟨x_i, y_j⟩ − shift)·(a_i + b_j), rounded as x is.

    Args:
      x: [N, D] bfloat16, D a multiple of 64 up to 512, N of 64.
      y: [M, D] of the same dtype, M a multiple of 128.
      a: float32 [N].
      b: float32 [M].
      scale, shift: float32 scalars.
      kind: of φ, see `terms`.
      exclude: int32 [N], for each row a column to put 0 at; none where there is none of
        that number. None: none.
      diagonal: put 0 where i = j.
      count: leading columns over which rows are summed too; None: they are not.

    Returns:
      [N, M] of the dtype of x; with `count` `(W, sums)`, sums float32 [N] of what has
      not been rounded.
    """
    with_sums = count is not None
    (n, dim), m = x.shape, len(y)
    chex.assert_is_divisible(n, ROWS)
    chex.assert_is_divisible(m, BLOCK)
    tall = min(TALL, n)
    while n % tall:
        tall -= ROWS
    chunk = kernel.chunk_of(dim)
    shape = (ROWS, WIDTH)
    tiles = tall // ROWS
    slices = kernel.slices(tall)
    weight = terms.of(kind).weight

    def body(x_ref, y_ref, a_ref, b_ref, *refs):
        refs = list(refs)
        skipped_ref: Any = None if exclude is None else refs.pop(0)
        count_ref: Any = refs.pop(0) if with_sums else None
        constants_ref, out_ref = refs.pop(0), refs.pop(0)
        sums_ref: Any = refs.pop(0) if with_sums else None
        smem, full, free, own, share, shares, own_full, results, turn, *skipped = refs
        of_rows: Any = skipped.pop(0) if with_sums else None
        stream = Stream(smem, full, free, dim // chunk)
        turns = kernel.Turns(turn, taken=stream.chunks == 1)
        top = lax.axis_index("down") * tall
        side = lax.axis_index("across") * BLOCK

        def compute(me):
            factor, minus = constants_ref[0], constants_ref[1]
            plgpu.barrier_wait(own_full)
            if skipped:
                plgpu.barrier_wait(skipped[1])
            of_column = kernel.load(shares.at[me], BY_COLUMN)
            first = side + me * WIDTH
            turns.begin(me)

            @pl.loop(0, tiles)
            def _(t):
                s = stream.times(own.at[me], t, turns.change)
                of_row = kernel.load(share.at[pl.ds(t * ROWS, ROWS)], BY_ROW)
                w = weight(s * factor - minus) * (
                    kernel.spread(of_row, shape, BY_ROW)
                    + kernel.spread(of_column, shape, BY_COLUMN)
                )
                if diagonal:
                    i = kernel.index(shape, 0) + (top + t * ROWS)
                    j = kernel.index(shape, 1) + first
                    w = jnp.where(i == j, 0.0, w)
                if skipped:
                    rows = skipped[0].at[pl.ds(t * ROWS, ROWS)]
                    w = kernel.leave_out(w, kernel.load(rows, BY_ROW) - first)
                if of_rows is not None:
                    j = kernel.index(shape, 1) + first
                    counted = jnp.where(j < count_ref[0], w, 0.0)
                    of_rows[me, pl.ds(t * ROWS, ROWS)] = counted.sum(1)
                turns.change()
                out = results.at[me, lax.rem(t, jnp.int32(2))]
                kernel.wait_for_copies(1)
                out[...] = w.astype(x.dtype)
                plgpu.commit_smem()
                rows = pl.ds(top + t * ROWS, ROWS)
                plgpu.copy_smem_to_gmem(out, out_ref.at[rows, pl.ds(first, WIDTH)])

            turns.end(me)
            if sums_ref is not None:
                plgpu.commit_smem()
                here = sums_ref.at[lax.axis_index("across"), me, pl.ds(top, tall)]
                plgpu.copy_smem_to_gmem(of_rows.at[me], here)
            plgpu.wait_smem_to_gmem(0)

        def move():
            for w in range(WARPGROUPS):
                columns = pl.ds(side + w * WIDTH, WIDTH)
                plgpu.copy_gmem_to_smem(y_ref.at[columns], own.at[w], own_full)
                plgpu.copy_gmem_to_smem(b_ref.at[columns], shares.at[w], own_full)
            for k, size in slices:
                rows = pl.ds(top + k, size)
                here = pl.ds(k, size)
                plgpu.copy_gmem_to_smem(a_ref.at[rows], share.at[here], own_full)
                if skipped:
                    plgpu.copy_gmem_to_smem(
                        skipped_ref.at[rows], skipped[0].at[here], skipped[1]
                    )

            @pl.loop(0, tiles)
            def _(t):
                stream.send(x_ref, top + t * ROWS, t)

            stream.finish(tiles)

        kernel.roles(compute, move)

    across = m // BLOCK
    out = [jax.ShapeDtypeStruct((n, m), x.dtype)]
    if with_sums:
        out += [jax.ShapeDtypeStruct((across, WARPGROUPS, n), jnp.float32)]
    made = kernel.launch(
        body,
        out=out,
        scratch=(
            *Stream.scratch(buffers_for(tall, dim), chunk, x.dtype),
            kernel.tile_of((WARPGROUPS, WIDTH, dim), x.dtype),
            kernel.numbers(tall),
            kernel.numbers(WARPGROUPS, WIDTH),
            plgpu.Barrier(num_arrivals=2 * WARPGROUPS + len(slices)),
            kernel.tile_of((WARPGROUPS, 2, ROWS, WIDTH), x.dtype),
            kernel.Turns.scratch(),
            *([kernel.numbers(WARPGROUPS, tall)] if with_sums else []),
            *([] if exclude is None else kernel.skipped(tall)),
        ),
        grid={"down": n // tall, "across": across},
    )(
        *(x, y, a, b),
        *([] if exclude is None else [exclude]),
        *([jnp.full(1, count, jnp.int32)] if with_sums else []),
        kernel.constants(scale, shift),
    )
    return (made[0], made[1].sum((0, 1))) if with_sums else made[0]
