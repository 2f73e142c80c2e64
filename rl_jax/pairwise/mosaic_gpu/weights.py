"""A tile of weights, written out, on a Hopper GPU: gradients that are not fused.

From D = 320 on the sums of 64 rows no longer fit into the registers of a warpgroup, and
other terms than exponentials leave no time. There the weights of a large tile,
W_ij = φ'(scale·⟨x_i, y_j⟩ − shift)(a_i + b_j), are made in one pass, 16-bit and so half
as large as logits would be, and cuBLAS multiplies. Where all pairs weigh alike, a and b
are not there, and the terms φ themselves can be summed in the same pass.
"""

from typing import Any, Literal, NamedTuple

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
TALL = 2048
"""Rows that stream past them, at most."""

Sum = Literal["weight", "value"]


class Cut(NamedTuple):
    """How the tile is cut.

    Attributes:
      tall: rows of a block.
      results: tiles of weights that wait to be copied out, of each warpgroup.
      buffers: chunks of rows in flight.
    """

    tall: int
    results: int
    buffers: int


def cut_for(rows: int, columns: int, dim: int, lists: int = 1) -> Cut:
    """Blocks as high as keeps every multiprocessor busy, and all memory for rows.

    A block begins by waiting for its columns. Its warpgroups read the same rows, so one
    is ahead of the other by no more than is in flight: with a whole tile of them, for
    which there is room beside one list, one can multiply while the other makes weights.

    Args:
      rows, columns, dim: of the tile.
      lists: of numbers for each row: shares, columns to leave out.
    """

    def waves(tall):
        return -(-(rows // tall) * (columns // BLOCK) // kernel.PROCESSORS)

    heights = [t for t in range(ROWS, TALL + 1, ROWS) if rows % t == 0]
    tall = min(heights, key=lambda t: waves(t) * (t + ROWS))
    # Tiles of few columns are multiplied faster than one is copied out.
    results = 2 if dim <= 256 else 1
    waiting = results * WARPGROUPS * ROWS * WIDTH * 2
    # Those lists, the shares of columns, sums.
    numbers = lists * tall + BLOCK + 2 * WARPGROUPS * ROWS
    room = kernel.SHARED_MEMORY - BLOCK * dim * 2 - waiting - 4 * numbers - 4096
    return Cut(tall, results, min(room // (ROWS * kernel.chunk_of(dim) * 2), 8))


def weights(
    x: jax.Array,
    y: jax.Array,
    a: jax.Array | None,
    b: jax.Array | None,
    scale,
    shift,
    *,
    kind: terms.Kind = "exp",
    exclude: jax.Array | None = None,
    diagonal: bool = False,
    counts: tuple | None = None,
    sums: tuple[Sum, ...] = (),
    cut: Cut | None = None,
) -> list[jax.Array]:
    """W_ij = φ'(scale·⟨x_i, y_j⟩ − shift)·(a_i + b_j), rounded as x is.

    Args:
      x: [N, D] bfloat16, D a multiple of 64 up to 512, N of 64.
      y: [M, D] of the same dtype, M a multiple of 128.
      a: float32 [N]; None: W_ij is φ' alone.
      b: float32 [M]; None where a is.
      scale, shift: float32 scalars.
      kind: of φ, see `terms`.
      exclude: int32 [N], for each row a column to put 0 at; none where there is none of
        that number. None: none.
      diagonal: put 0 where i = j.
      counts: leading rows and columns that count, two integers; at others put 0. None:
        all of them.
      sums: what to add up over all pairs: W before it is rounded, and φ.
      cut: None: `cut_for`.

    Returns:
      [N, M] of the dtype of x, and for each of `sums` a float32 scalar.
    """
    (n, dim), m = x.shape, len(y)
    chex.assert_is_divisible(n, ROWS)
    chex.assert_is_divisible(m, BLOCK)
    shared = a is not None
    cut = cut or cut_for(n, m, dim, shared + (exclude is not None))
    tall = cut.tall
    chunk = kernel.chunk_of(dim)
    shape = (ROWS, WIDTH)
    tiles = tall // ROWS
    slices = kernel.slices(tall)
    term = terms.of(kind)

    def body(x_ref, y_ref, *refs):
        refs = list(refs)
        a_ref: Any = refs.pop(0) if shared else None
        b_ref: Any = refs.pop(0) if shared else None
        skipped_ref: Any = None if exclude is None else refs.pop(0)
        counts_ref: Any = None if counts is None else refs.pop(0)
        constants_ref, out_ref = refs.pop(0), refs.pop(0)
        sums_ref: Any = refs.pop(0) if sums else None
        smem, full, free, own, own_full, results, turn, *refs = refs
        of_tiles: Any = refs.pop(0) if sums else None
        share: Any = refs.pop(0) if shared else None
        shares: Any = refs.pop(0) if shared else None
        skipped = refs
        stream = Stream(smem, full, free, dim // chunk)
        turns = kernel.Turns(turn, taken=stream.chunks == 1)
        top = lax.axis_index("down") * tall
        side = lax.axis_index("across") * BLOCK

        def compute(me):
            factor, minus = constants_ref[0], constants_ref[1]
            plgpu.barrier_wait(own_full)
            if skipped:
                plgpu.barrier_wait(skipped[1])
            of_column = kernel.load(shares.at[me], BY_COLUMN) if shared else None
            first = side + me * WIDTH
            turns.begin(me)

            def one_tile(t, totals):
                here = pl.ds(t * ROWS, ROWS)
                s = stream.times(own.at[me], t, turns.change) * factor - minus
                # Of −inf both the term and its weight are 0.
                if diagonal or counts_ref is not None:
                    i = kernel.index(shape, 0) + (top + t * ROWS)
                    j = kernel.index(shape, 1) + first
                    if diagonal:
                        s = jnp.where(i == j, -jnp.inf, s)
                    if counts_ref is not None:
                        counted = (i < counts_ref[0]) & (j < counts_ref[1])
                        s = jnp.where(counted, s, -jnp.inf)
                if skipped:
                    column = kernel.load(skipped[0].at[here], BY_ROW) - first
                    s = kernel.leave_out(s, column, -jnp.inf)
                w = term.weight(s)
                if shared:
                    w *= kernel.spread(
                        kernel.load(share.at[here], BY_ROW), shape, BY_ROW
                    ) + kernel.spread(of_column, shape, BY_COLUMN)
                tables = [w if name == "weight" else term.value(s) for name in sums]
                totals = tuple(
                    total + table.sum(1)
                    for total, table in zip(totals, tables, strict=True)
                )
                turns.change()
                out = results.at[me, lax.rem(t, jnp.int32(cut.results))]
                kernel.wait_for_copies(cut.results - 1)
                out[...] = w.astype(x.dtype)
                plgpu.commit_smem()
                rows = pl.ds(top + t * ROWS, ROWS)
                plgpu.copy_smem_to_gmem(out, out_ref.at[rows, pl.ds(first, WIDTH)])
                return totals

            nothing = tuple(kernel.zero_rows() for _ in sums)
            totals = lax.fori_loop(0, tiles, one_tile, nothing)
            turns.end(me)
            for k, total in enumerate(totals):
                of_tiles[me, k] = total
            plgpu.commit_smem()
            for k in range(len(sums)):
                at = lax.axis_index("down"), lax.axis_index("across"), me, k
                plgpu.copy_smem_to_gmem(of_tiles.at[me, k], sums_ref.at[at])
            plgpu.wait_smem_to_gmem(0)

        def move():
            for w in range(WARPGROUPS):
                columns = pl.ds(side + w * WIDTH, WIDTH)
                plgpu.copy_gmem_to_smem(y_ref.at[columns], own.at[w], own_full)
                if shared:
                    plgpu.copy_gmem_to_smem(b_ref.at[columns], shares.at[w], own_full)
            for k, size in slices:
                rows = pl.ds(top + k, size)
                here = pl.ds(k, size)
                if shared:
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
    if sums:
        of_blocks = (n // tall, across, WARPGROUPS, len(sums), ROWS)
        out += [jax.ShapeDtypeStruct(of_blocks, jnp.float32)]
    # Of shares, one copy for each warpgroup, and some for the rows.
    copies = WARPGROUPS + (WARPGROUPS + len(slices) if shared else 0)
    w, *totals = kernel.launch(
        body,
        out=out,
        scratch=(
            *Stream.scratch(cut.buffers, chunk, x.dtype),
            kernel.tile_of((WARPGROUPS, WIDTH, dim), x.dtype),
            plgpu.Barrier(num_arrivals=copies),
            kernel.tile_of((WARPGROUPS, cut.results, ROWS, WIDTH), x.dtype),
            kernel.Turns.scratch(),
            *([kernel.numbers(WARPGROUPS, len(sums), ROWS)] if sums else []),
            *([kernel.numbers(tall), kernel.numbers(WARPGROUPS, WIDTH)] * shared),
            *([] if exclude is None else kernel.skipped(tall)),
        ),
        grid={"down": n // tall, "across": across},
    )(
        *(x, y),
        *([a, b] if shared else []),
        *([] if exclude is None else [exclude]),
        *([] if counts is None else [jnp.stack([jnp.int32(c) for c in counts])]),
        kernel.constants(scale, shift),
    )
    return [w, *(totals[0].sum((0, 1, 2, 4)) if sums else [])]
