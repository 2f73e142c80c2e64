"""Sums over rows and over columns of all pairs, in one sweep on a Hopper GPU.

A block of threads has a job: `rows` × `columns` of the matrix. Columns come in blocks
that its warpgroups own; all rows of the job stream past them in tiles of 64. The
products end in registers, become terms there, and are added up two ways: over columns
into a value for each row, kept in shared memory for the length of the job, and element
by element into one tile, whose rows are summed when the block of columns changes. So no
atomic is needed, and the sums do not depend on who was first.

For self pairs only i < j is formed; each element serves both of its rows.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.pairwise.mosaic_gpu import kernel, terms
from rl_jax.pairwise.mosaic_gpu.kernel import BY_ROW, ROWS, WARPGROUPS, Stream


class Cut(NamedTuple):
    """How the matrix is cut.

    Attributes:
      rows, columns: of a job.
      width: columns that a warpgroup owns at a time.
      buffers: chunks of rows in flight.
    """

    rows: int
    columns: int
    width: int
    buffers: int


def cut_for(rows: int, columns: int, dim: int, *, itself: bool) -> Cut:
    """Jobs as large as leaves every multiprocessor three of them.

    What a job starts and ends with is lost time; what the last ones leave idle too.
    """
    width = 128 if dim <= 256 else 64
    block = width * WARPGROUPS
    side = 2048
    while side > 256 and _jobs(rows, columns, side, itself) < 3 * kernel.PROCESSORS:
        side //= 2
    tall, wide = side, side
    if not itself:
        tall = min(side, -(-rows // ROWS) * ROWS)
        wide = min(side, -(-columns // block) * block)
    owned = WARPGROUPS * width * dim * 2
    room = kernel.SHARED_MEMORY - owned - 4 * WARPGROUPS * (tall + width) - 4096
    room -= 4 * tall  # the columns that rows leave out
    buffers = min(room // (ROWS * kernel.chunk_of(dim) * 2), 4)
    return Cut(tall, wide, width, buffers)


def _jobs(rows: int, columns: int, side: int, itself: bool) -> int:
    count = -(-rows // side)
    return count * (count + 1) // 2 if itself else count * -(-columns // side)


def sums(
    x: jax.Array,
    y: jax.Array | None,
    scale,
    shift,
    *,
    kind: terms.Kind = "exp",
    exclude: jax.Array | None = None,
    counts=None,
    cut: Cut | None = None,
):
    """Σ_j φ(scale·⟨x_i, y_j⟩ − shift) for every i, and over i for every j.

    Args:
      x: [N, D] bfloat16, D a multiple of 64 up to 512.
      y: [M, D] bfloat16; None: the rows of x, each without itself.
      scale, shift: float32 scalars.
      kind: of φ: exp, or softplus, log(1 + e^s).
      exclude: int32 [N], for each row the column to leave out, −1 for none; None: none.
      counts: the leading rows of x and of y that count, two integers; None: all.
      cut: None: `cut_for`.

    Returns:
      float32 [N] and [M]; for y None, [N] alone. Partial sums take 1.5 N/`cut.rows`
      times as much.
    """
    chex.assert_rank(x, 2)
    itself = y is None
    y = x if y is None else y
    (n, dim), m = x.shape, len(y)
    cut = cut or cut_for(n, m, dim, itself=itself)
    down, across = -(-n // cut.rows), -(-m // cut.columns)
    jobs = _order(down, across, itself)
    block = cut.width * WARPGROUPS
    tiles, blocks = cut.rows // ROWS, cut.columns // block
    counts = (n, m) if counts is None else counts
    shape = (ROWS, cut.width)
    value = terms.of(kind).value

    def body(x_ref, y_ref, *refs):
        refs = list(refs)
        skipped_ref: Any = None if exclude is None else refs.pop(0)
        jobs_ref, counts_ref, constants_ref, rows_ref, columns_ref, *scratch = refs
        smem, full, free, own, own_full, own_free, of_rows, of_columns, *rest = scratch
        stream = Stream(smem, full, free, dim // smem.shape[2])
        turn, may_sum, *skipped = rest
        turns = kernel.Turns(turn, taken=stream.chunks == 1)
        job = lax.axis_index("job")
        down_at, across_at = jobs_ref[job, 0], jobs_ref[job, 1]
        count_rows, count_columns = counts_ref[0], counts_ref[1]
        diagonal = down_at == across_at

        def count(b):
            """Tiles of rows that meet block b: on the diagonal none from below it."""
            if not itself:
                return jnp.int32(tiles)
            above = jnp.minimum((b + 1) * (block // ROWS), tiles)
            return jnp.where(diagonal, above, tiles)

        def masked(steps):
            """Leading steps whose tiles hold pairs that do not count."""
            out = jnp.int32(0)
            if itself:
                out = jnp.where(diagonal, jnp.minimum(block // ROWS, steps), out)
            beyond = (down_at + 1) * cut.rows > count_rows
            beyond |= (across_at + 1) * cut.columns > count_columns
            return jnp.where(beyond, steps, out)

        def compute(me):
            factor, minus = constants_ref[0], constants_ref[1]
            if skipped:
                plgpu.barrier_wait(skipped[1])

            @pl.loop(0, tiles)
            def _(t):
                of_rows[me, pl.ds(t * ROWS, ROWS)] = kernel.zero_rows()

            def one_block(b, sent):
                first = across_at * cut.columns + b * block + me * cut.width
                steps = count(b)
                plgpu.barrier_wait(own_full)

                def place(t):
                    return (steps - 1 - t) * ROWS  # from the diagonal upwards

                def keep(found, t):
                    rows = of_rows.at[me, pl.ds(place(t), ROWS)]
                    rows[...] = kernel.load(rows, BY_ROW) + found

                def one_tile(mask, t, carry):
                    total, found = carry

                    def between():
                        # The rows of the tile before, while this one is multiplied.
                        keep(found, jnp.maximum(t - 1, 0))
                        turns.change()

                    s = stream.times(own.at[me], sent + t, between)
                    e = value(s * factor - minus)
                    if mask:
                        i = kernel.index(shape, 0) + (down_at * cut.rows + place(t))
                        j = kernel.index(shape, 1) + first
                        counted = (j < count_columns) & (
                            i < (j if itself else count_rows)
                        )
                        e = jnp.where(counted, e, 0.0)
                    if skipped:
                        rows = skipped[0].at[pl.ds(place(t), ROWS)]
                        e = kernel.leave_out(e, kernel.load(rows, BY_ROW) - first, 0.0)
                    carry = kernel.ordered((total + e, e.sum(1)))
                    turns.change()
                    return carry

                turns.begin(me)
                carry, bound = (kernel.zeros(shape), kernel.zero_rows()), masked(steps)
                carry = lax.fori_loop(
                    0, bound, functools.partial(one_tile, True), carry
                )
                total, found = lax.fori_loop(
                    bound, steps, functools.partial(one_tile, False), carry
                )
                keep(found, steps - 1)
                turns.end(me)
                plgpu.barrier_arrive(own_free)
                kernel.wait_for_copies()

                # A sum over rows goes through one scratch of the whole block.
                @pl.when((me > 0) | (b > 0))
                def _():
                    plgpu.barrier_wait(may_sum.at[me])

                of_columns[me] = total.sum(0)
                plgpu.barrier_arrive(may_sum.at[1 - me])
                plgpu.commit_smem()
                plgpu.copy_smem_to_gmem(
                    of_columns.at[me], columns_ref.at[down_at, pl.ds(first, cut.width)]
                )
                return sent + steps

            lax.fori_loop(0, blocks, one_block, jnp.int32(0))
            pl.when(me == 0)(lambda: plgpu.barrier_wait(may_sum.at[0]))
            plgpu.commit_smem()
            rows = pl.ds(down_at * cut.rows, cut.rows)
            plgpu.copy_smem_to_gmem(of_rows.at[me], rows_ref.at[across_at, me, rows])
            plgpu.wait_smem_to_gmem(0)

        def move():
            if skipped:
                for k, size in kernel.slices(cut.rows):
                    rows = pl.ds(down_at * cut.rows + k, size)
                    plgpu.copy_gmem_to_smem(
                        skipped_ref.at[rows], skipped[0].at[pl.ds(k, size)], skipped[1]
                    )

            def one_block(b, sent):
                pl.when(b > 0)(lambda: plgpu.barrier_wait(own_free))
                for w in range(WARPGROUPS):
                    first = across_at * cut.columns + b * block + w * cut.width
                    plgpu.copy_gmem_to_smem(
                        y_ref.at[pl.ds(first, cut.width)], own.at[w], own_full
                    )
                steps = count(b)

                @pl.loop(0, steps)
                def _(t):
                    row = down_at * cut.rows + (steps - 1 - t) * ROWS
                    stream.send(x_ref, row, sent + t)

                return sent + steps

            sent = lax.fori_loop(0, blocks, one_block, jnp.int32(0))
            stream.finish(sent)
            plgpu.barrier_wait(own_free)

        kernel.roles(compute, move)

    rows, columns = kernel.launch(
        body,
        out=[
            jax.ShapeDtypeStruct((across, WARPGROUPS, down * cut.rows), jnp.float32),
            jax.ShapeDtypeStruct((down, across * cut.columns), jnp.float32),
        ],
        scratch=(
            *Stream.scratch(cut.buffers, kernel.chunk_of(dim), x.dtype),
            kernel.tile_of((WARPGROUPS, cut.width, dim), x.dtype),
            plgpu.Barrier(num_arrivals=WARPGROUPS),
            plgpu.Barrier(num_arrivals=WARPGROUPS),
            kernel.numbers(WARPGROUPS, cut.rows),
            kernel.numbers(WARPGROUPS, cut.width),
            kernel.Turns.scratch(),
            plgpu.Barrier(num_barriers=WARPGROUPS),
            *([] if exclude is None else kernel.skipped(cut.rows)),
        ),
        grid={"job": len(jobs)},
    )(
        kernel.padded(x, cut.rows),
        kernel.padded(y, cut.columns),
        *([] if exclude is None else [kernel.padded(exclude, cut.rows)]),
        jnp.asarray(jobs),
        jnp.stack([jnp.int32(count) for count in counts]),
        kernel.constants(scale, shift),
    )
    if not itself:
        return rows.sum((0, 1))[:n], columns.sum(0)[:m]
    # What lies below the diagonal was written by nobody.
    done = np.triu(np.ones((down, across), bool))
    rows = rows.reshape(across, WARPGROUPS, down, cut.rows)
    rows = jnp.where(done.T[:, None, :, None], rows, 0.0).sum((0, 1))
    columns = columns.reshape(down, across, cut.columns)
    columns = jnp.where(done[:, :, None], columns, 0.0).sum(0)
    return (rows + columns).reshape(-1)[:n]


def _order(down: int, across: int, itself: bool) -> np.ndarray:
    """Jobs [J, 2] as (down, across); the short ones, on the diagonal, come last."""
    if not itself:
        pairs = np.stack(np.indices((down, across)), -1).reshape(-1, 2)
        return pairs.astype(np.int32)
    i, j = np.triu_indices(down)
    return np.stack([i, j], 1)[np.argsort(i == j, kind="stable")].astype(np.int32)
