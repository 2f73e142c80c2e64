"""Prototype in work."""

import functools
import math
from typing import NamedTuple

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
import numpy as np
from jax import lax

ROWS = 64
"""Rows of a tile of one warpgroup: what one WGMMA instruction takes."""


class SumTiles(NamedTuple):
    """How the sums are cut.

    Attributes:
      width: columns that a warpgroup owns at a time.
      warpgroups: that compute; one more moves the data.
      stages: tiles of rows in flight.
      owned: buffers of owned columns, 2 where they fit.
      rows, columns: of a job.
    """

    width: int = 128
    warpgroups: int = 2
    stages: int = 3
    owned: int = 2
    rows: int = 2048
    columns: int = 2048
    ahead: bool = False
    chunk: int = 256
    pingpong: bool = False


def _transposed(ref):
    if hasattr(ref, "transpose"):
        return ref.transpose((1, 0))
    return plgpu.transpose_ref(ref, (1, 0))


def _swizzled(dtype=None):
    del dtype
    return (plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))


def _params():
    return plgpu.CompilerParams(
        approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup
    )


def _cast(x, layout, interpret):
    return x if interpret else plgpu.layout_cast(x, layout)


def _iota(shape, axis, interpret):
    if interpret:
        return lax.broadcasted_iota(jnp.int32, shape, axis)
    return plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=plgpu.Layout.WGMMA)


def _load(ref, layout, interpret):
    if interpret:
        return ref[...]
    if jax.__version_info__ < (0, 11):
        return plgpu.load(ref, (), layout=layout)
    return plgpu.load(ref, layout=layout)


def _drain(free, total, stages):
    """Waits until every buffer that was filled has been read."""

    def wait(t, _):
        plgpu.barrier_wait(free.at[lax.rem(t, jnp.int32(stages))])
        return _

    lax.fori_loop(jnp.maximum(total - stages, 0), total, wait, None)


def _scores(a_ref, b_ref, shape, interpret):
    """a bᵀ of two tiles in shared memory, float32."""
    if interpret:
        return jnp.dot(a_ref[...], b_ref[...].T, preferred_element_type=jnp.float32)

    def product(acc):
        plgpu.wgmma(acc, a_ref, _transposed(b_ref))
        return acc[...]

    return pl.run_scoped(product, plgpu.ACC(shape, jnp.float32))


def jobs_of(rows: int, columns: int, cut: SumTiles, triangle: bool) -> np.ndarray:
    """The jobs [J, 2] as (block of rows, block of columns), the long ones first."""
    nr, nc = -(-rows // cut.rows), -(-columns // cut.columns)
    if triangle:
        r, c = np.triu_indices(nr)
        order = np.argsort(r == c, kind="stable")
        return np.stack([r, c], 1)[order].astype(np.int32)
    return np.stack(np.indices((nr, nc)), -1).reshape(-1, 2).astype(np.int32)


def sums(x, y, scale, shift, *, cut: SumTiles = SumTiles(), interpret=None):
    """Row and column sums of exp2(scale·⟨x_i, y_j⟩ − shift); y None: pairs i < j."""
    triangle = y is None
    y = x if triangle else y
    n, m, d = len(x), len(y), x.shape[1]
    if triangle:
        assert cut.rows == cut.columns
    wide = cut.width * cut.warpgroups
    assert cut.columns % wide == 0 and cut.rows % ROWS == 0
    jobs = jobs_of(n, m, cut, triangle)
    nr, nc = -(-n // cut.rows), -(-m // cut.columns)
    pad = lambda z, size: jnp.pad(z, ((0, -len(z) % size), (0, 0)))
    xp, yp = pad(x, cut.rows), pad(y, cut.columns)
    blocks, tiles = cut.columns // wide, cut.rows // ROWS
    per_block = wide // ROWS
    chunk = min(cut.chunk, d)
    chunks = d // chunk
    assert chunks * chunk == d
    constants = jnp.stack([jnp.float32(scale), jnp.float32(shift)])
    rows_shape = jax.ShapeDtypeStruct((nc, cut.warpgroups, nr * cut.rows), jnp.float32)
    columns_shape = jax.ShapeDtypeStruct((nr, nc * cut.columns), jnp.float32)
    ragged = n % cut.rows != 0 or m % cut.columns != 0

    def count(diagonal, b):
        """Tiles of rows that meet block b."""
        if not triangle:
            return jnp.int32(tiles)
        return jnp.where(diagonal, jnp.minimum((b + 1) * per_block, tiles), tiles)

    def kernel(x_ref, y_ref, jobs_ref, constants_ref, rows_ref, columns_ref, scratch):
        x_smem, y_smem, rs, cs, full, free, y_full, y_free, may_reduce, turn = scratch
        wg = lax.axis_index("wg")
        job = lax.axis_index("job")
        r, c = jobs_ref[job, 0], jobs_ref[job, 1]
        diagonal = (r == c) if triangle else False

        @pl.when(wg < cut.warpgroups)
        def _compute():
            if interpret is None:
                plgpu.set_max_registers(232 if cut.warpgroups == 2 else 152, action="increase")
            k, shift = constants_ref[0], constants_ref[1]
            shape = (ROWS, cut.width)
            def take_turn():
                if cut.pingpong and interpret is None:
                    plgpu.barrier_arrive(turn)
                    plgpu.barrier_wait(turn)

            zero_rows = _cast(jnp.zeros((ROWS,), jnp.float32), plgpu.Layout.WGMMA.reduce(1), interpret)

            @pl.loop(0, tiles)
            def _(t):
                rs[wg, pl.ds(t * ROWS, ROWS)] = zero_rows

            def block(b, base):
                own = lax.rem(b, cut.owned)
                col0 = c * cut.columns + b * wide + wg * cut.width
                plgpu.barrier_wait(y_full.at[own])

                def fold(masked, t, s, acc):
                    e = jnp.exp2(s * k - shift)
                    # The tiles of a block go down from the highest row.
                    at = count(diagonal, b) - 1 - t
                    if masked:
                        row = _iota(shape, 0, interpret) + (r * cut.rows + at * ROWS)
                        column = _iota(shape, 1, interpret) + col0
                        keep = column < m
                        keep = keep & ((row < column) if triangle else (row < n))
                        e = jnp.where(keep, e, 0.0)
                    ref = rs.at[wg, pl.ds(at * ROWS, ROWS)]
                    old = _load(ref, plgpu.Layout.WGMMA.reduce(1), interpret)
                    ref[...] = old + e.sum(axis=1)
                    return acc + e

                def scores(t, meanwhile):
                    first = (base + t) * chunks

                    def part(ref, ch):
                        slot = lax.rem(first + ch, cut.stages)
                        plgpu.barrier_wait(full.at[slot])
                        at = pl.ds(ch * chunk, chunk)
                        if interpret is not None:
                            return jnp.dot(
                                x_smem[slot], y_smem[own, wg, :, at].T, preferred_element_type=jnp.float32
                            )
                        plgpu.wgmma(ref, x_smem.at[slot], _transposed(y_smem.at[own, wg, :, at]))

                    def release(ch):
                        plgpu.barrier_arrive(free.at[lax.rem(first + ch, cut.stages)])

                    if interpret is not None:
                        s = sum(part(None, ch) for ch in range(chunks))
                        done = meanwhile()
                        for ch in range(chunks):
                            release(ch)
                        return s, done

                    def product(ref):
                        for ch in range(chunks):
                            part(ref, ch)
                            if ch:
                                plgpu.wgmma_wait(1)
                                release(ch - 1)
                        take_turn()
                        done = meanwhile()
                        return ref[...], done

                    s, done = pl.run_scoped(product, plgpu.ACC(shape, jnp.float32))
                    release(chunks - 1)
                    return s, done

                def tile(masked, t, acc):
                    s, _ = scores(t, lambda: None)
                    acc = fold(masked, t, s, acc)
                    take_turn()
                    return acc

                def tile_ahead(masked, t, carry):
                    s, acc = carry
                    return scores(t + 1, lambda: fold(masked, t, s, acc))

                steps = count(diagonal, b)
                last = (r == nr - 1) | (c == nc - 1) if ragged else False
                masks = jnp.where(last, steps, 0) if ragged else 0
                if triangle:
                    masks = jnp.maximum(masks, jnp.where(diagonal, jnp.minimum(per_block, steps), 0))
                acc = _cast(jnp.zeros(shape, jnp.float32), plgpu.Layout.WGMMA, interpret)
                if cut.pingpong:
                    pl.when(wg == 1)(take_turn)
                if cut.ahead:
                    masks = jnp.minimum(masks, steps - 1)
                    carry = (scores(0, lambda: None)[0], acc)
                    carry = lax.fori_loop(0, masks, functools.partial(tile_ahead, True), carry)
                    carry = lax.fori_loop(masks, steps - 1, functools.partial(tile_ahead, False), carry)
                    acc = fold(True, steps - 1, *carry)
                else:
                    acc = lax.fori_loop(0, masks, functools.partial(tile, True), acc)
                    acc = lax.fori_loop(masks, steps, functools.partial(tile, False), acc)
                if cut.pingpong:
                    pl.when(wg == 0)(take_turn)
                plgpu.barrier_arrive(y_free.at[own])
                if interpret is None:
                    plgpu.wait_smem_to_gmem(0, wait_read_only=True)

                # A sum over rows goes through one scratch of all warpgroups.
                @pl.when((wg > 0) | (b > 0))
                def _():
                    plgpu.barrier_wait(may_reduce.at[wg])

                cs[wg] = acc.sum(axis=0)
                plgpu.barrier_arrive(may_reduce.at[lax.rem(wg + 1, cut.warpgroups)])
                plgpu.commit_smem()
                plgpu.copy_smem_to_gmem(
                    cs.at[wg], columns_ref.at[r, pl.ds(col0, cut.width)]
                )
                return base + steps

            lax.fori_loop(0, blocks, block, jnp.int32(0))

            @pl.when(wg == 0)
            def _():
                plgpu.barrier_wait(may_reduce.at[0])

            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(
                rs.at[wg], rows_ref.at[c, wg, pl.ds(r * cut.rows, cut.rows)]
            )
            plgpu.wait_smem_to_gmem(0)

        @pl.when(wg == cut.warpgroups)
        def _move():
            if interpret is None:
                plgpu.set_max_registers(40, action="decrease")

            def block(b, base):
                own = lax.rem(b, cut.owned)

                @pl.when(b >= cut.owned)
                def _():
                    plgpu.barrier_wait(y_free.at[own])

                for w in range(cut.warpgroups):
                    col0 = c * cut.columns + b * wide + w * cut.width
                    plgpu.copy_gmem_to_smem(
                        y_ref.at[pl.ds(col0, cut.width)], y_smem.at[own, w], y_full.at[own]
                    )
                steps = count(diagonal, b)

                def tile(t, _):
                    at = r * cut.rows + (steps - 1 - t) * ROWS
                    for ch in range(chunks):
                        g = (base + t) * chunks + ch
                        slot = lax.rem(g, cut.stages)

                        @pl.when(g >= cut.stages)
                        def _():
                            plgpu.barrier_wait(free.at[slot])

                        plgpu.copy_gmem_to_smem(
                            x_ref.at[pl.ds(at, ROWS), pl.ds(ch * chunk, chunk)],
                            x_smem.at[slot],
                            full.at[slot],
                        )
                    return _

                lax.fori_loop(0, steps, tile, None)
                return base + steps

            total = lax.fori_loop(0, blocks, block, jnp.int32(0))
            _drain(free, total * chunks, cut.stages)
            _drain(y_free, jnp.int32(blocks), cut.owned)

    scratch = (
        plgpu.SMEM((cut.stages, ROWS, chunk), x.dtype, transforms=_swizzled()),
        plgpu.SMEM((cut.owned, cut.warpgroups, cut.width, d), x.dtype, transforms=_swizzled()),
        plgpu.SMEM((cut.warpgroups, cut.rows), jnp.float32),
        plgpu.SMEM((cut.warpgroups, cut.width), jnp.float32),
        plgpu.Barrier(num_barriers=cut.stages),
        plgpu.Barrier(num_barriers=cut.stages, num_arrivals=cut.warpgroups),
        plgpu.Barrier(num_barriers=cut.owned, num_arrivals=cut.warpgroups),
        plgpu.Barrier(num_barriers=cut.owned, num_arrivals=cut.warpgroups),
        plgpu.Barrier(num_barriers=cut.warpgroups),
        plgpu.Barrier(num_arrivals=cut.warpgroups),
    )
    rows, columns = plgpu.kernel(
        lambda *refs: kernel(*refs[:6], refs[6:]),
        out_type=[rows_shape, columns_shape],
        scratch_types=scratch,
        grid=(len(jobs),),
        grid_names=("job",),
        num_threads=cut.warpgroups + 1,
        thread_name="wg",
        compiler_params=_params(),
        interpret=interpret,
    )(xp, yp, jnp.asarray(jobs), constants)
    if triangle:
        visited = np.triu(np.ones((nr, nc), bool))
        rows = jnp.where(np.repeat(visited.T, cut.rows, 1)[:, None], rows, 0.0)
        columns = jnp.where(np.repeat(visited, cut.columns, 1), columns, 0.0)
        return rows.sum((0, 1))[:n] + columns.sum(0)[:n]
    return rows.sum((0, 1))[:n], columns.sum(0)[:m]


class WeighTiles(NamedTuple):
    """How the weighted sums are cut.

    Attributes:
      width: columns of a tile.
      stages: tiles of columns in flight.
      splits: parts that the columns are shared out to, summed afterwards.
      pingpong: take turns at the tensor cores.
    """

    width: int = 128
    stages: int = 3
    splits: int = 1
    pingpong: bool = True
    overlap: bool = False


def weigh(x, y, a, b, scale, shift, *, cut: WeighTiles = WeighTiles(), interpret=None):
    """Σ_j exp2(scale·⟨x_i, y_j⟩ − shift)(a_i + b_j) y_j; y, b None: without j = i."""
    itself = y is None
    y, b = (x, a) if itself else (y, b)
    n, m, d = len(x), len(y), x.shape[1]
    own = 2 * ROWS
    pad = lambda z, size: jnp.pad(z, ((0, -len(z) % size),) + ((0, 0),) * (z.ndim - 1))
    masks = max(1, own // cut.width)
    unit = max(own, cut.width) * cut.splits
    xp, ap = pad(x, own), pad(a, own)
    yp, bp = pad(y, unit), pad(b, unit)
    steps = len(yp) // cut.width // cut.splits
    stages = min(cut.stages, steps)
    constants = jnp.stack([jnp.float32(scale), jnp.float32(shift)])
    shape = (ROWS, cut.width)

    def kernel(x_ref, y_ref, a_ref, b_ref, constants_ref, out_ref, scratch):
        x_smem, y_smem, a_smem, b_smem, x_full, full, free, turn = scratch
        wg = lax.axis_index("wg")
        i, part = lax.axis_index("rows"), lax.axis_index("part")
        first = part * steps
        if itself:
            home = lax.div(i * own, cut.width)
            inside = (home >= first) & (home < first + steps)
            offset = jnp.where(inside, home - first, 0)
        else:
            offset = jnp.int32(0)

        def place(t):
            """The tile of columns of step t: from the diagonal on, and round."""
            return first + lax.rem(offset + t, jnp.int32(steps))

        @pl.when(wg < 2)
        def _compute():
            if interpret is None:
                plgpu.set_max_registers(232, action="increase")
            k, shift = constants_ref[0], constants_ref[1]
            row0 = i * own + wg * ROWS
            plgpu.copy_gmem_to_smem(x_ref.at[pl.ds(row0, ROWS)], x_smem.at[wg], x_full.at[wg])
            plgpu.copy_gmem_to_smem(a_ref.at[pl.ds(row0, ROWS)], a_smem.at[wg], x_full.at[wg])
            plgpu.barrier_wait(x_full.at[wg])
            share = _load(a_smem.at[wg], plgpu.Layout.WGMMA.reduce(1), interpret)

            def take_turn():
                if cut.pingpong and interpret is None:
                    plgpu.barrier_arrive(turn)
                    plgpu.barrier_wait(turn)

            def tile(masked, t, acc):
                slot = lax.rem(t, jnp.int32(stages))
                def product(ref):
                    plgpu.wgmma(ref, x_smem.at[wg], _transposed(y_smem.at[slot]))
                    take_turn()
                    return ref[...]
                if interpret is not None:
                    plgpu.barrier_wait(full.at[slot])
                    s = jnp.dot(x_smem[wg], y_smem[slot].T, preferred_element_type=jnp.float32)
                else:
                    s = pl.run_scoped(product, plgpu.ACC(shape, jnp.float32))
                other = _load(b_smem.at[slot], plgpu.Layout.WGMMA.reduce(0), interpret)
                e = jnp.exp2(s * k - shift)
                w = e * (
                    lax.broadcast_in_dim(share, shape, [0])
                    + lax.broadcast_in_dim(other, shape, [1])
                )
                if masked:
                    row = _iota(shape, 0, interpret) + row0
                    column = _iota(shape, 1, interpret) + place(t) * cut.width
                    w = jnp.where(row == column, 0.0, w)
                w = w.astype(x.dtype)
                if interpret is not None:
                    acc = acc + jnp.dot(w, y_smem[slot], preferred_element_type=jnp.float32)
                    plgpu.barrier_arrive(free.at[slot])
                    return acc
                acc, w = lax.optimization_barrier((acc, w))
                take_turn()

                def add(ref):
                    plgpu.wgmma(ref, w, y_smem.at[slot])
                    after = t + 1

                    @pl.when(after < steps)
                    def _():
                        plgpu.barrier_wait(full.at[lax.rem(after, jnp.int32(stages))])

                acc = pl.run_state(add)(plgpu.ACC.init(acc))
                plgpu.barrier_arrive(free.at[slot])
                return acc

            masked = jnp.where(inside, min(masks, steps), 0) if itself else 0
            if cut.overlap and interpret is None:

                def weights(mask, t, s):
                    slot = lax.rem(t, jnp.int32(stages))
                    other = plgpu.load(b_smem.at[slot], layout=plgpu.Layout.WGMMA.reduce(0))
                    w = jnp.exp2(s * k - shift) * (
                        lax.broadcast_in_dim(share, shape, [0]) + lax.broadcast_in_dim(other, shape, [1])
                    )
                    if mask:
                        row = _iota(shape, 0, interpret) + row0
                        column = _iota(shape, 1, interpret) + place(t) * cut.width
                        w = jnp.where(row == column, 0.0, w)
                    return w.astype(x.dtype)

                def scores(t):
                    slot = lax.rem(t, jnp.int32(stages))
                    plgpu.barrier_wait(full.at[slot])

                    def product(ref):
                        plgpu.wgmma(ref, x_smem.at[wg], _transposed(y_smem.at[slot]))
                        return ref[...]

                    return pl.run_scoped(product, plgpu.ACC(shape, jnp.float32))

                def whole(acc_ref):
                    def step(mask, t, w):
                        """Scores of t + 1 and what t weighs, at once."""
                        slot, following = (lax.rem(u, jnp.int32(stages)) for u in (t, t + 1))
                        plgpu.barrier_wait(full.at[following])

                        def both(ref):
                            plgpu.wgmma(ref, x_smem.at[wg], _transposed(y_smem.at[following]))
                            plgpu.wgmma(acc_ref, w, y_smem.at[slot])
                            take_turn()
                            s = plgpu.wgmma_accumulator_load(ref, wait_n=1)
                            return weights(mask, t + 1, s)

                        new = pl.run_scoped(both, plgpu.ACC(shape, jnp.float32))
                        take_turn()
                        plgpu.wgmma_wait(0)
                        plgpu.barrier_arrive(free.at[slot])
                        return new

                    pl.when(wg == 1)(take_turn)
                    w = weights(True, 0, scores(0)) if itself else weights(False, 0, scores(0))
                    rest = jnp.maximum(masked - 1, 0)
                    if itself and masks > 1:
                        w = lax.fori_loop(0, rest, functools.partial(step, True), w)
                    else:
                        rest = 0
                    w = lax.fori_loop(rest, steps - 1, functools.partial(step, False), w)
                    slot = (steps - 1) % stages
                    plgpu.wgmma(acc_ref, w, y_smem.at[slot])
                    pl.when(wg == 0)(take_turn)
                    out = acc_ref[...]
                    plgpu.barrier_arrive(free.at[slot])
                    return out

                acc = pl.run_scoped(whole, plgpu.ACC((ROWS, d), jnp.float32))
            else:
                acc = _cast(jnp.zeros((ROWS, d), jnp.float32), plgpu.Layout.WGMMA, interpret)
                if interpret is None:
                    plgpu.barrier_wait(full.at[0])
                    pl.when(wg == 1)(take_turn)
                acc = lax.fori_loop(0, masked, functools.partial(tile, True), acc)
                acc = lax.fori_loop(masked, steps, functools.partial(tile, False), acc)
                if interpret is None:
                    pl.when(wg == 0)(take_turn)
            out_ref[part, pl.ds(row0, ROWS)] = acc

        @pl.when(wg == 2)
        def _move():
            if interpret is None:
                plgpu.set_max_registers(40, action="decrease")

            def tile(t, _):
                slot = lax.rem(t, jnp.int32(stages))

                @pl.when(t >= stages)
                def _():
                    plgpu.barrier_wait(free.at[slot])

                at = pl.ds(place(t) * cut.width, cut.width)
                plgpu.copy_gmem_to_smem(y_ref.at[at], y_smem.at[slot], full.at[slot])
                plgpu.copy_gmem_to_smem(b_ref.at[at], b_smem.at[slot], full.at[slot])
                return _

            lax.fori_loop(0, steps, tile, None)
            _drain(free, jnp.int32(steps), stages)

    scratch = (
        plgpu.SMEM((2, ROWS, d), x.dtype, transforms=_swizzled()),
        plgpu.SMEM((stages, cut.width, d), x.dtype, transforms=_swizzled()),
        plgpu.SMEM((2, ROWS), jnp.float32),
        plgpu.SMEM((stages, cut.width), jnp.float32),
        plgpu.Barrier(num_barriers=2, num_arrivals=2),
        plgpu.Barrier(num_barriers=stages, num_arrivals=2),
        plgpu.Barrier(num_barriers=stages, num_arrivals=2),
        plgpu.Barrier(num_arrivals=2),
    )
    out = plgpu.kernel(
        lambda *refs: kernel(*refs[:6], refs[6:]),
        out_type=jax.ShapeDtypeStruct((cut.splits, len(xp), d), jnp.float32),
        scratch_types=scratch,
        grid=(len(xp) // own, cut.splits),
        grid_names=("rows", "part"),
        num_threads=3,
        thread_name="wg",
        compiler_params=_params(),
        interpret=interpret,
    )(xp, yp, ap, bp, constants)
    return out.sum(0)[:n] if cut.splits > 1 else out[0, :n]
