"""Sums over rows and over columns of all pairs, in one sweep on a Hopper GPU.

A block of threads has a job: `rows` × `columns` of the matrix. Columns come in blocks
that its warpgroups own; all rows of the job stream past them in tiles of 64. The
products end in registers, become terms there, and are added up two ways: over columns
into a value for each row, kept in shared memory for the length of the job, and element
by element into one tile, whose rows are summed when the block of columns changes. So no
atomic is needed, and the sums do not depend on who was first.

Up to D = 256 each warpgroup has 128 columns of its own, and both read the same rows. Of
longer rows there is room for 128 columns only: both read them, each for every second
tile. Products of 64 columns at a time would wait for shared memory.

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
      buffers: chunks of rows in flight.
    """

    rows: int
    columns: int
    buffers: int


WIDTH = 128
"""Columns that a warpgroup multiplies with at a time."""

START = 3
"""Tiles that could be multiplied while a block waits for its columns."""

LARGEST = 2048
"""Rows and columns of a job, at most."""


def shares_columns(dim: int) -> bool:
    """Whether both warpgroups read the same columns, each for rows of its own."""
    return dim > 256


def block_of(dim: int) -> int:
    """Columns of a block."""
    return WIDTH if shares_columns(dim) else WIDTH * WARPGROUPS


def chunk_of(dim: int) -> int:
    """Columns of a chunk of rows."""
    return 64 if shares_columns(dim) else dim


def cut_for(rows: int, columns: int, dim: int, *, itself: bool) -> Cut:
    """Large jobs, but enough of them for every multiprocessor.

    What a job starts and ends with is lost time; what the last ones leave idle too. Of
    self pairs jobs are squares. Of others those are taken that take least time: a block
    of columns has to wait for them, and is done in as many steps as there are tiles.
    """
    block = block_of(dim)
    if itself:
        tall = LARGEST
        while tall > 256 and _self_jobs(rows, tall) < 3 * kernel.PROCESSORS:
            tall //= 2
        wide = tall
    else:
        step = ROWS * WARPGROUPS
        down, across = -(-rows // step) * step, -(-columns // block) * block
        sizes = [2**k for k in range(11, 7, -1)]
        choices = [(min(r, down), min(c, across)) for r in sizes for c in sizes]
        # The larger ones, which come first, have fewer partial sums.
        tall, wide = choices[0]
        for r, c in choices[1:]:
            if _time(rows, columns, r, c, block) < 0.95 * _time(
                rows, columns, tall, wide, block
            ):
                tall, wide = r, c
    owned = block * dim * 2
    room = kernel.SHARED_MEMORY - owned - 4 * WARPGROUPS * (tall + WIDTH) - 4096
    room -= 4 * tall  # the columns that rows leave out
    most = 8 if shares_columns(dim) else 4
    return Cut(tall, wide, min(room // (ROWS * chunk_of(dim) * 2), most))


def _self_jobs(rows: int, side: int) -> int:
    count = -(-rows // side)
    return count * (count + 1) // 2


def _time(rows: int, columns: int, tall: int, wide: int, block: int) -> int:
    """In steps of one tile by one block."""
    jobs = -(-rows // tall) * -(-columns // wide)
    waves = -(-jobs // kernel.PROCESSORS)
    return waves * -(-wide // block) * (tall // ROWS + START)


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
    block, chunk, sharing = block_of(dim), chunk_of(dim), shares_columns(dim)
    tiles, blocks = cut.rows // ROWS, cut.columns // block
    # Of the tiles of a job a warpgroup takes every one, or those that are its own.
    stride = WARPGROUPS if sharing else 1
    counts = (n, m) if counts is None else counts
    shape = (ROWS, WIDTH)
    value = terms.of(kind).value

    def body(x_ref, y_ref, *refs):
        refs = list(refs)
        skipped_ref: Any = None if exclude is None else refs.pop(0)
        jobs_ref, counts_ref, constants_ref, rows_ref, columns_ref, *scratch = refs
        smem, full, free, own, own_full, own_free, of_rows, of_columns, *rest = scratch
        stream = Stream(smem, full, free, dim // chunk, sharing)
        turn, may_sum, *skipped = rest
        turns = kernel.Turns(turn)
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

            mine = me if sharing else jnp.int32(0)

            def one_block(b, sent):
                first = across_at * cut.columns + b * block
                first += 0 if sharing else me * WIDTH
                steps = count(b)
                plgpu.barrier_wait(own_full)

                def place(t):
                    # From the diagonal upwards.
                    return (steps - 1 - t * stride - mine) * ROWS

                def keep(found, t):
                    rows = of_rows.at[me, pl.ds(place(t), ROWS)]
                    rows[...] = kernel.load(rows, BY_ROW) + found

                def one_tile(mask, t, carry):
                    total, found = carry

                    def between():
                        # The rows of the tile before, while this one is multiplied.
                        keep(found, jnp.maximum(t - 1, 0))
                        turns.change()

                    columns = own if sharing else own.at[me]
                    s = stream.times(columns, sent + t * stride + mine, between)
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
                carry = kernel.zeros(shape), kernel.zero_rows()
                bound, own_steps = masked(steps) // stride, steps // stride
                carry = lax.fori_loop(
                    0, bound, functools.partial(one_tile, True), carry
                )
                total, found = lax.fori_loop(
                    bound, own_steps, functools.partial(one_tile, False), carry
                )
                keep(found, own_steps - 1)
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
                here = columns_ref.at[down_at, mine, pl.ds(first, WIDTH)]
                plgpu.copy_smem_to_gmem(of_columns.at[me], here)
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
                for w in range(block // WIDTH):
                    columns = across_at * cut.columns + b * block + w * WIDTH
                    plgpu.copy_gmem_to_smem(
                        y_ref.at[pl.ds(columns, WIDTH)],
                        own if sharing else own.at[w],
                        own_full,
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
            jax.ShapeDtypeStruct((down, stride, across * cut.columns), jnp.float32),
        ],
        scratch=(
            *Stream.scratch(cut.buffers, chunk, x.dtype, in_turns=sharing),
            kernel.tile_of(
                (WIDTH, dim) if sharing else (WARPGROUPS, WIDTH, dim), x.dtype
            ),
            plgpu.Barrier(num_arrivals=block // WIDTH),
            plgpu.Barrier(num_arrivals=WARPGROUPS),
            kernel.numbers(WARPGROUPS, cut.rows),
            kernel.numbers(WARPGROUPS, WIDTH),
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
        return rows.sum((0, 1))[:n], columns.sum((0, 1))[:m]
    # What lies below the diagonal was written by nobody.
    done = np.triu(np.ones((down, across), bool))
    rows = rows.reshape(across, WARPGROUPS, down, cut.rows)
    rows = jnp.where(done.T[:, None, :, None], rows, 0.0).sum((0, 1))
    columns = columns.reshape(down, stride, across, cut.columns)
    columns = jnp.where(done[:, None, :, None], columns, 0.0).sum((0, 1))
    return (rows + columns).reshape(-1)[:n]


def _order(down: int, across: int, itself: bool) -> np.ndarray:
    """Jobs [J, 2] as (down, across); the short ones, on the diagonal, come last."""
    if not itself:
        pairs = np.stack(np.indices((down, across)), -1).reshape(-1, 2)
        return pairs.astype(np.int32)
    i, j = np.triu_indices(down)
    return np.stack([i, j], 1)[np.argsort(i == j, kind="stable")].astype(np.int32)
