"""What the kernels share: tiles in shared memory, products, and two versions of jax.

The API of Pallas Mosaic GPU still moves; what differs between jax 0.10 and 0.11 is told
apart here. The interpreter meets every barrier that the hardware does, in the same
order; what it does not show is a copy or a product that is read too early.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
import numpy as np
from jax import lax

ROWS = 64
"""Rows of a tile of one warpgroup: what a WGMMA instruction multiplies."""

WARPGROUPS = 2
"""That compute, taking turns: one multiplies while the other exponentiates."""

SHARED_MEMORY = 227 * 1024
"""Bytes of a Hopper multiprocessor that one block can have."""

PROCESSORS = 132
"""Multiprocessors of an H100 or H200 (SXM): work is cut so that none stands still."""

BY_ROW, BY_COLUMN = 1, 0
"""The axis that was summed away of a tile: a value for each row, for each column."""

interpret: Any = None
"""None: on the GPU. `InterpretGPUParams()`: in Pallas' interpreter, as tests do."""


def tile_of(shape: tuple[int, ...], dtype: Any) -> Any:
    """16-bit tiles in shared memory as WGMMA reads them."""
    transforms = (plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))
    return plgpu.SMEM(shape, dtype, transforms=transforms)


def numbers(*shape: int) -> Any:
    """Float32 values in shared memory."""
    return plgpu.SMEM(shape, jnp.float32)


def slices(size: int) -> list[tuple[int, int]]:
    """Starts and sizes of the copies of so many numbers: each takes up to 256."""
    return [(k, min(256, size - k)) for k in range(0, size, 256)]


def skipped(rows: int) -> list:
    """What holds the columns that so many rows leave out, and who waits for it."""
    full = plgpu.Barrier(num_arrivals=len(slices(rows)))
    return [plgpu.SMEM((rows,), jnp.int32), full]


def launch(body: Callable[..., None], *, out: Any, scratch: Any, grid: dict[str, int]):
    """A kernel of `grid` blocks, each of two computing warpgroups and one that moves.

    Args:
      body: `(inputs..., outputs..., scratch...)`; see `roles`.
      out: the type of the output, or of all.
      scratch: shared memory and barriers, in a tuple.
      grid: blocks along each named axis.

    Returns:
      A function of the inputs.
    """
    run = plgpu.kernel(
        body,
        out_type=out,
        scratch_types=scratch,
        grid=tuple(grid.values()),
        grid_names=tuple(grid),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(
            approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup
        ),
        interpret=interpret,
    )

    def call(*inputs):
        # Indices are of 32 bits, also where a program counts in 64.
        with jax.enable_x64(False):
            return run(*inputs)

    return call


def roles(compute: Callable[[jax.Array], None], move: Callable[[], None]) -> None:
    """Runs `compute(warpgroup)` on those that compute and `move()` on the other one."""
    me = lax.axis_index("warpgroup")

    @pl.when(me < WARPGROUPS)
    def _():
        if interpret is None:
            plgpu.set_max_registers(232, action="increase")
        compute(me)

    @pl.when(me == WARPGROUPS)
    def _():
        if interpret is None:
            plgpu.set_max_registers(40, action="decrease")
        move()


def zeros(shape: tuple[int, int]) -> jax.Array:
    """An accumulator in registers."""
    return _laid(jnp.zeros(shape, jnp.float32), plgpu.Layout.WGMMA)


def zero_rows() -> jax.Array:
    """A zero for each row of a tile."""
    return _laid(jnp.zeros(ROWS, jnp.float32), plgpu.Layout.WGMMA.reduce(BY_ROW))


def _laid(x: jax.Array, layout: Any) -> jax.Array:
    return x if interpret is not None else plgpu.layout_cast(x, layout)


def ordered(values: Any) -> Any:
    """The same, made before what follows and not later."""
    return values if interpret is not None else lax.optimization_barrier(values)


def load(ref: Any, axis: int) -> jax.Array:
    """Values of shared memory, one for each row (or column) of a tile."""
    if interpret is not None:
        return ref[...]
    layout = plgpu.Layout.WGMMA.reduce(axis)
    if jax.__version_info__ < (0, 11):
        return plgpu.load(ref, (), layout=layout)
    return plgpu.load(ref, layout=layout)


def spread(values: jax.Array, shape: tuple[int, int], axis: int) -> jax.Array:
    """Values for each row (or column) over a tile."""
    return lax.broadcast_in_dim(values, shape, [0 if axis == BY_ROW else 1])


def index(shape: tuple[int, int], axis: int) -> jax.Array:
    """Number of the row (axis 0) or column (axis 1) of each element of a tile."""
    if interpret is not None:
        return lax.broadcasted_iota(jnp.int32, shape, axis)
    layout = plgpu.Layout.WGMMA
    return plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=layout)


def transposed(ref: Any) -> Any:
    """A view of a tile with its axes swapped."""
    if hasattr(ref, "transpose"):
        return ref.transpose((1, 0))
    return plgpu.transpose_ref(ref, (1, 0))


def leave_out(tile: jax.Array, column: jax.Array, fill: float) -> jax.Array:
    """A tile filled where a row, [R], meets the column of that number, if it does."""
    j = index(tile.shape, 1)
    return jnp.where(j == spread(column, tile.shape, BY_ROW), fill, tile)


class Turns(NamedTuple):
    """The two computing warpgroups take turns at the tensor cores, or do not.

    Who has queued its products lets the other one queue its own, and exponentiates
    meanwhile. The second one starts half a step later, and the first one waits for it
    at the end. Where a tile comes in several chunks they go as they come: the first one
    would wait for a buffer that the second one, whose turn it is not, has yet to read.

    Attributes:
      barrier: met by both.
      taken: whether they do.
    """

    barrier: Any
    taken: bool

    @staticmethod
    def scratch() -> Any:
        """The barrier."""
        return plgpu.Barrier(num_arrivals=WARPGROUPS)

    def change(self) -> None:
        """Waits until the other one gets here too."""
        if self.taken:
            plgpu.barrier_arrive(self.barrier)
            plgpu.barrier_wait(self.barrier)

    def begin(self, me: jax.Array) -> None:
        """Before the first step of a loop."""
        pl.when(me == 1)(self.change)

    def end(self, me: jax.Array) -> None:
        """After its last step."""
        pl.when(me == 0)(self.change)


def wait_for_copies(left: int = 0) -> None:
    """Waits until all but `left` of the copies out have read shared memory."""
    if interpret is None:
        plgpu.wait_smem_to_gmem(left, wait_read_only=True)
    elif not left:
        plgpu.wait_smem_to_gmem(0)


def drain(free: Any, filled: Any, buffers: int) -> None:
    """Waits until each of the buffers, filled that often in turn, has been read."""

    def wait(k, _):
        plgpu.barrier_wait(free.at[lax.rem(k, jnp.int32(buffers))])

    filled = jnp.int32(filled)
    lax.fori_loop(jnp.maximum(filled - buffers, 0), filled, wait, None)


class Stream(NamedTuple):
    """Tiles of 64 rows, chunk by chunk of their columns, through a few buffers.

    Attributes:
      smem: [buffers, 64, chunk].
      full, free: barriers of each buffer.
      chunks: of a tile.
    """

    smem: Any
    full: Any
    free: Any
    chunks: int

    @staticmethod
    def scratch(buffers: int, chunk: int, dtype: Any) -> tuple:
        """Memory and barriers of a stream."""
        return (
            tile_of((buffers, ROWS, chunk), dtype),
            plgpu.Barrier(num_barriers=buffers),
            plgpu.Barrier(num_barriers=buffers, num_arrivals=WARPGROUPS),
        )

    def _slot(self, tile, chunk: int):
        buffers = jnp.int32(self.smem.shape[0])
        return lax.rem(tile * self.chunks + chunk, buffers)

    def send(self, x_ref: Any, row, tile) -> None:
        """Copies 64 rows of x into the buffers, as the `tile`-th tile sent."""
        buffers, _, width = self.smem.shape
        for k in range(self.chunks):
            slot = self._slot(tile, k)

            @pl.when(tile * self.chunks + k >= buffers)
            def _(slot=slot):
                plgpu.barrier_wait(self.free.at[slot])

            rows, columns = pl.ds(row, ROWS), pl.ds(k * width, width)
            plgpu.copy_gmem_to_smem(
                x_ref.at[rows, columns], self.smem.at[slot], self.full.at[slot]
            )

    def finish(self, tiles) -> None:
        """Waits until all tiles have been read."""
        drain(self.free, tiles * self.chunks, self.smem.shape[0])

    def times(self, other: Any, tile, between: Callable[[], None]) -> jax.Array:
        """The product of a tile with `otherᵀ`, float32 [64, U].

        Args:
          other: [U, D] in shared memory.
          tile: which of those sent.
          between: run once all products are queued, before the result is waited for.
        """
        _, _, width = self.smem.shape

        def part(k):
            slot = self._slot(tile, k)
            plgpu.barrier_wait(self.full.at[slot])
            return self.smem.at[slot], other.at[:, pl.ds(k * width, width)]

        def release(k):
            plgpu.barrier_arrive(self.free.at[self._slot(tile, k)])

        if interpret is not None:
            out = 0.0
            for k in range(self.chunks):
                a, b = part(k)
                out += jnp.dot(a[...], b[...].T, preferred_element_type=jnp.float32)
                if k:
                    release(k - 1)
            between()
            release(self.chunks - 1)
            return out

        def product(out):
            for k in range(self.chunks):
                a, b = part(k)
                plgpu.wgmma(out, a, transposed(b))
                if k:
                    plgpu.wgmma_wait(1)
                    release(k - 1)
            between()
            return out[...]

        shape = (ROWS, other.shape[0])
        s = pl.run_scoped(product, plgpu.WGMMAAccumulatorRef(shape, jnp.float32))
        release(self.chunks - 1)
        return s


def chunk_of(dim: int) -> int:
    """Columns of a chunk: all up to 256, then as many as divide D."""
    if dim <= 256:
        return dim
    return 128 if dim % 128 == 0 else 64


def padded(x: jax.Array, size: int) -> jax.Array:
    """[N, ...] filled up with zeros to a multiple of `size` rows."""
    return jnp.pad(x, ((0, -len(x) % size),) + ((0, 0),) * (x.ndim - 1))


def constants(scale: Any, shift: Any) -> jax.Array:
    """What turns ⟨x, y⟩ into the logarithm to base 2 of exp(scale·⟨x, y⟩ − shift)."""
    factors = jnp.stack([jnp.float32(scale), jnp.float32(shift)])
    return factors * np.float32(np.log2(np.e))
