"""Rows weighted by exponentials and summed, on a Hopper GPU: gradients up to D = 256.

A block of threads owns 128 rows, 64 for each warpgroup, and keeps their D sums in
registers. All columns stream past: a tile's products become weights in registers, which
multiply the same tile again. The two warpgroups take turns (FlashAttention-3, Shah et
al. 2024, arXiv:2407.08608, does so): while one multiplies, the other exponentiates. The
weights of exponentials with a constant shift need no maximum and no rescaling.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
from jax import lax

from rl_jax.pairwise.mosaic_gpu import kernel
from rl_jax.pairwise.mosaic_gpu.kernel import BY_COLUMN, BY_ROW, ROWS, WARPGROUPS

OWNED = ROWS * WARPGROUPS
"""Rows of a block of threads; and columns of a tile, so that the pairs of a row with
itself lie in one tile of each block."""


class Cut(NamedTuple):
    """How the matrix is cut.

    Attributes:
      buffers: tiles of columns in flight.
      parts: blocks of threads that share the columns of the same rows out.
    """

    buffers: int
    parts: int


def cut_for(rows: int, columns: int, dim: int) -> Cut:
    """As many buffers as fit, up to three, and parts that leave few processors idle."""
    room = kernel.SHARED_MEMORY - OWNED * dim * 2 - 4096
    buffers = min(room // (OWNED * dim * 2 + 4 * OWNED), 3)
    blocks = -(-rows // OWNED)
    most = max(1, min(4, -(-columns // OWNED) // 8))

    def idle(parts):
        rounds = blocks * parts / kernel.PROCESSORS
        return math.ceil(rounds) / rounds

    # Each part writes sums of its own: only for a gain of more than a tenth.
    parts = min(range(1, most + 1), key=lambda p: idle(p) * (1 if p == 1 else 1.1))
    return Cut(buffers, parts)


def weighted(
    x: jax.Array,
    y: jax.Array | None,
    a: jax.Array,
    b: jax.Array | None,
    scale,
    shift,
    *,
    cut: Cut | None = None,
) -> jax.Array:
    """Σ_j exp(scale·⟨x_i, y_j⟩ − shift)·(a_i + b_j)·y_j for every i.

    The weights are rounded as x is before they multiply; sums are float32.

    Args:
      x: [N, D] bfloat16, D a multiple of 64 up to 256.
      y: [M, D] of the same dtype; None: the rows of x, each without itself.
      a: float32 [N].
      b: float32 [M]; for y None it is a.
      scale, shift: float32 scalars.
      cut: None: `cut_for`.

    Returns:
      float32 [N, D].
    """
    chex.assert_rank([x, a], [2, 1])
    itself = y is None
    y, b = (x, a) if y is None else (y, b)
    n, dim = x.shape
    cut = cut or cut_for(n, len(y), dim)
    unit = OWNED * cut.parts
    x_padded, y_padded = kernel.padded(x, OWNED), kernel.padded(y, unit)
    steps = len(y_padded) // unit
    buffers = min(cut.buffers, steps)
    shape = (ROWS, OWNED)

    def body(x_ref, y_ref, a_ref, b_ref, constants_ref, out_ref, *scratch):
        own, tiles, share, shares, own_full, full, free, turn = scratch
        turns = kernel.Turns(turn, taken=True)
        block, part = lax.axis_index("block"), lax.axis_index("part")
        first, start, inside = part * steps, jnp.int32(0), False
        if itself:
            # Begins at the diagonal, where alone something is left out, and goes round.
            inside = (block >= first) & (block < first + steps)
            start = jnp.where(inside, block - first, 0)

        def place(t):
            """Which tile of columns comes at step t."""
            return first + lax.rem(start + t, jnp.int32(steps))

        def slot(t):
            return lax.rem(t, jnp.int32(buffers))

        def compute(me):
            factor, minus = constants_ref[0], constants_ref[1]
            row = block * OWNED + me * ROWS
            mine = pl.ds(row, ROWS)
            plgpu.copy_gmem_to_smem(x_ref.at[mine], own.at[me], own_full.at[me])
            plgpu.copy_gmem_to_smem(a_ref.at[mine], share.at[me], own_full.at[me])
            plgpu.barrier_wait(own_full.at[me])
            of_row = kernel.load(share.at[me], BY_ROW)

            def weights(mask, t, s):
                of_column = kernel.load(shares.at[slot(t)], BY_COLUMN)
                e = jnp.exp2(s * factor - minus)
                w = e * (
                    kernel.spread(of_row, shape, BY_ROW)
                    + kernel.spread(of_column, shape, BY_COLUMN)
                )
                if mask:
                    i = kernel.index(shape, 0) + row
                    j = kernel.index(shape, 1) + place(t) * OWNED
                    w = jnp.where(i == j, 0.0, w)
                return w.astype(x.dtype)

            def one_tile(mask, t, total):
                tile = tiles.at[slot(t)]
                if kernel.interpret is not None:
                    plgpu.barrier_wait(full.at[slot(t)])
                    s = jnp.dot(
                        own[me], tile[...].T, preferred_element_type=jnp.float32
                    )
                    turns.change()
                    w = weights(mask, t, s)
                    turns.change()
                    total += jnp.dot(w, tile[...], preferred_element_type=jnp.float32)
                    plgpu.barrier_arrive(free.at[slot(t)])
                    return total

                def products(out):
                    plgpu.wgmma(out, own.at[me], kernel.transposed(tile))
                    turns.change()
                    return out[...]

                s = pl.run_scoped(
                    products, plgpu.WGMMAAccumulatorRef(shape, jnp.float32)
                )
                total, w = lax.optimization_barrier((total, weights(mask, t, s)))
                turns.change()

                def add(out):
                    plgpu.wgmma(out, w, tile)

                    @pl.when(t + 1 < steps)
                    def _():
                        plgpu.barrier_wait(full.at[slot(t + 1)])

                total = pl.run_state(add)(plgpu.WGMMAAccumulatorRef.init(total))
                plgpu.barrier_arrive(free.at[slot(t)])
                return total

            if kernel.interpret is None:
                plgpu.barrier_wait(full.at[0])
            turns.begin(me)
            bound = jnp.where(inside, 1, 0)
            total = kernel.zeros((ROWS, dim))
            total = lax.fori_loop(0, bound, functools.partial(one_tile, True), total)
            total = lax.fori_loop(
                bound, steps, functools.partial(one_tile, False), total
            )
            turns.end(me)
            out_ref[part, mine] = total

        def move():
            @pl.loop(0, steps)
            def _(t):
                @pl.when(t >= buffers)
                def _():
                    plgpu.barrier_wait(free.at[slot(t)])

                columns = pl.ds(place(t) * OWNED, OWNED)
                ready = full.at[slot(t)]
                plgpu.copy_gmem_to_smem(y_ref.at[columns], tiles.at[slot(t)], ready)
                plgpu.copy_gmem_to_smem(b_ref.at[columns], shares.at[slot(t)], ready)

            kernel.drain(free, steps, buffers)

        kernel.roles(compute, move)

    out = kernel.launch(
        body,
        out=jax.ShapeDtypeStruct((cut.parts, len(x_padded), dim), jnp.float32),
        scratch=(
            kernel.tile_of((WARPGROUPS, ROWS, dim), x.dtype),
            kernel.tile_of((buffers, OWNED, dim), x.dtype),
            kernel.numbers(WARPGROUPS, ROWS),
            kernel.numbers(buffers, OWNED),
            plgpu.Barrier(num_barriers=WARPGROUPS, num_arrivals=2),
            plgpu.Barrier(num_barriers=buffers, num_arrivals=2),
            plgpu.Barrier(num_barriers=buffers, num_arrivals=WARPGROUPS),
            kernel.Turns.scratch(),
        ),
        grid={"block": len(x_padded) // OWNED, "part": cut.parts},
    )(
        x_padded,
        y_padded,
        kernel.padded(a, OWNED),
        kernel.padded(b, unit),
        kernel.constants(scale, shift),
    )
    return out.sum(0)[:n] if cut.parts > 1 else out[0, :n]
