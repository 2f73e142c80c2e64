"""Sums of exponentials over pairs and their gradients, as kernels for Hopper GPUs.

The XLA path writes every tile of logits to the device's memory and reads it again, and
so runs at the speed of that memory. Here a tile lives and dies in registers. What is
computed is the same; `supports` says for what, and the rest goes the other way.

  sums      `forward.py`: over rows and columns in one sweep, half of it for self pairs
  gradients `backward.py` up to D = 256; `weights.py` and cuBLAS up to D = 512

Compute capability 9.0 (H100, H200), 16-bit operands, float32 sums, the same result each
time. Written in Pallas for Mosaic GPU, whose API is not settled: `available` tries it.
"""

import concurrent.futures
import functools
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError
from rl_jax.pairwise import reductions, tiles
from rl_jax.pairwise.streaming import Cotangents, Gradients, Operands, Plan

# The kernels' modules are imported where they are used: Pallas takes a while.

NARROW = 256
"""Columns up to which the sums of 64 rows fit into the registers of a warpgroup."""

WIDE = 512
"""Columns up to which 128 rows and a few tiles fit into shared memory."""

FEWEST_PAIRS = 2**24
"""4,096 × 4,096, the fewest that were measured; fewer are a single tile of XLA's."""

TILE = 8192
"""Rows and columns of a tile of weights: 128 MiB."""

TRIAL_DIMS = (64, 512)
"""One for each way to the gradient."""

STRIP = 2**17
"""Rows and columns of one call for sums, whose partial sums then take 100 MiB."""


def supports(plan: Plan, given: Operands) -> str | None:
    """Why these kernels cannot do this reduction; None: they can, on a Hopper GPU."""
    columns = len(given.x if given.y is None else given.y)
    if plan.kind != "exp":
        return "only sums of exponentials with a constant shift are made"
    if given.bias is not None or given.exclude is not None or given.offset is not None:
        return "valid, exclude and bias are not"
    if plan.precision not in (None, "bf16"):
        return f"operands are of 16 bits, not precision={plan.precision!r}"
    if plan.precision is None and given.x.dtype == jnp.float32:
        return "operands are of 16 bits: bfloat16 rows or precision='bf16'"
    if given.x.shape[1] > WIDE:
        return f"D is at most {WIDE}, got {given.x.shape[1]}"
    if min(len(given.x), columns) < 64:
        return f"N and M are at least 64, got {len(given.x)} and {columns}"
    return None


def worthwhile(given: Operands) -> bool:
    """Whether there are so many pairs that XLA's path is slower."""
    columns = len(given.x if given.y is None else given.y)
    return len(given.x) * columns >= FEWEST_PAIRS


@functools.cache
def available() -> str | None:
    """Why the kernels do not run here; None: they do.

    Compiles each and compares it with NumPy, once for each process.
    """
    if jax.default_backend() != "gpu":
        return f"the device is {jax.default_backend()}, not an NVIDIA GPU"
    capability = getattr(jax.devices()[0], "compute_capability", "unknown")
    if capability != "9.0":
        return f"compute capability is {capability}, not 9.0 (H100, H200)"
    # In a thread of its own: whoever asks may be tracing, or inside a mesh.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            reason = pool.submit(_try).result()
        except Exception as error:
            reason = f"a trial failed: {type(error).__name__}: {str(error)[:200]}"
    if reason is not None:
        warnings.warn(f"kernels for Hopper GPUs are not used: {reason}", stacklevel=2)
    return reason


def _try() -> str | None:
    """Runs every kernel on a little, and says what is wrong with it."""
    rng = np.random.default_rng(0)
    for dim in TRIAL_DIMS:
        x = jnp.asarray(rng.normal(size=(256, dim)) / dim**0.5, jnp.bfloat16)
        exact = np.asarray(x, np.float64)
        e = np.exp(2 * exact @ exact.T)
        np.fill_diagonal(e, 0.0)
        a = jnp.ones(len(x), jnp.float32)
        plan = Plan("exp", len(x), len(x), None)
        given = Operands(x, None, jnp.float32(2.0), None, 0.0, None, None, None)

        def both(given, a, plan=plan):
            (total, _), _ = sums(plan, given)
            bars = Cotangents(((total, jnp.zeros_like(total)), a * total), None)
            return total, gradients(plan, given, bars).x

        total, dx = jax.jit(both)(given, a)
        expected = 2 * e @ exact
        errors = (
            np.max(np.abs(np.asarray(total, np.float64) / e.sum(1) - 1)) / 1e-5,
            np.linalg.norm(dx - expected) / np.linalg.norm(expected) / 1e-2,
        )
        if not max(errors) < 1:
            return f"a trial at D = {dim} was {max(errors):.0e} times too far off"
    return None


def sums(plan: Plan, given: Operands):
    """As `streaming.sums`, keeping nothing."""
    x, y, scale, shift = _operands(plan, given)
    found = _sums(x, y, scale, shift)
    rows, columns = (found, None) if y is None else found

    def with_shift(total):
        return total, jnp.full(total.shape, shift, jnp.float32)

    if plan.both:
        return (with_shift(rows), with_shift(columns)), None
    return with_shift(rows), None


def gradients(plan: Plan, given: Operands, bars: Cotangents, kept=None) -> Gradients:
    """As `streaming.gradients`; nothing was kept."""
    assert kept is None
    x, y, scale, shift = _operands(plan, given)
    side = reductions.exp_sums(shift).side
    (a,) = side(*bars.rows)
    if bars.columns is not None:
        (b,) = side(*bars.columns)
    else:
        b = a if y is None else jnp.zeros(len(y), jnp.float32)
    dim = given.x.shape[1]
    narrow = x.shape[1] <= NARROW
    if y is None:
        self_pairs = _weighted_self if narrow else _multiplied_self
        return Gradients(self_pairs(x, a, scale, shift)[:, :dim], None, None)
    dy = None
    if narrow:
        dx = _weighted(x, y, a, b, scale, shift)
        if plan.with_y:
            dy = _weighted(y, x, b, a, scale, shift)
    else:
        pair = _multiplied if plan.with_y else _multiplied_rows
        dx, dy = pair(x, y, a, b, scale, shift)
    return Gradients(dx[:, :dim], None if dy is None else dy[:, :dim], None)


def _operands(plan: Plan, given: Operands):
    """Rows as the kernels take them: 16 bits, D a multiple of 64."""
    assert given.shift is not None

    def ready(x):
        if plan.precision == "bf16":
            (x,) = tiles.split(x, "bf16")
        return jnp.pad(x, ((0, 0), (0, -x.shape[1] % 64)))

    y = None if given.y is None else ready(given.y)
    return ready(given.x), y, given.scale, jnp.asarray(given.shift, jnp.float32)


def _one_by_one(f: Callable) -> Callable:
    """Under vmap a kernel runs for one after another: it fills the device by itself."""

    @jax.custom_jvp
    def kernels(*args):
        return jax.custom_batching.sequential_vmap(f)(*args)

    @kernels.defjvp
    def _(*_):
        raise UsageError(
            "pairwise: the kernels for Hopper GPUs have no second derivative; give the "
            "loss implementation='xla', which has"
        )

    return kernels


@_one_by_one
def _sums(x, y, scale, shift):
    """Strip by strip, for partial sums grow with both sides."""
    from rl_jax.pairwise.mosaic_gpu import forward

    if max(len(x), 0 if y is None else len(y)) <= STRIP:
        return forward.sums(x, y, scale, shift)
    rows, count = _strips(x)
    if y is None:

        def on(total, i, j):
            counts = (count(i), count(i))
            return total.at[i].add(
                forward.sums(rows[i], None, scale, shift, counts=counts)
            )

        def off(total, i, j):
            counts = (count(i), count(j))
            one, two = forward.sums(rows[i], rows[j], scale, shift, counts=counts)
            return total.at[i].add(one).at[j].add(two)

        total = jnp.zeros(rows.shape[:2], jnp.float32)
        total = tiles.loop(on, total, tiles.diagonal(len(rows)))
        if len(rows) > 1:
            total = tiles.loop(off, total, tiles.above(len(rows)))
        return tiles.unblock(total, len(x))
    columns, column_count = _strips(y)

    def body(totals, i, j):
        counts = (count(i), column_count(j))
        one, two = forward.sums(rows[i], columns[j], scale, shift, counts=counts)
        return totals[0].at[i].add(one), totals[1].at[j].add(two)

    totals = (
        jnp.zeros(rows.shape[:2], jnp.float32),
        jnp.zeros(columns.shape[:2], jnp.float32),
    )
    totals = tiles.loop(body, totals, tiles.grid(len(rows), len(columns)))
    return tiles.unblock(totals[0], len(x)), tiles.unblock(totals[1], len(y))


def _strips(x):
    """Rows cut into strips of one size, and how many of strip i are rows of x."""
    count = -(-len(x) // STRIP)
    size = -(-len(x) // count)
    return tiles.blocks(x, size), lambda i: jnp.minimum(len(x) - i * size, size)


@_one_by_one
def _weighted_self(x, a, scale, shift):
    from rl_jax.pairwise.mosaic_gpu import backward

    return backward.weighted(x, None, a, None, scale, shift)


@_one_by_one
def _weighted(x, y, a, b, scale, shift):
    from rl_jax.pairwise.mosaic_gpu import backward

    return backward.weighted(x, y, a, b, scale, shift)


@_one_by_one
def _multiplied_self(x, a, scale, shift):
    """Large tiles of weights on and above the diagonal; each serves both its sides."""
    from rl_jax.pairwise.mosaic_gpu import weights

    size = _tile(len(x))
    rows, share = tiles.blocks(x, size), tiles.blocks(a, size)

    def on(dx, i, j):
        w = weights.weights(
            rows[i], rows[j], share[i], share[j], scale, shift, diagonal=True
        )
        return dx.at[i].add(tiles.product((w,), (rows[j],)))

    def off(dx, i, j):
        w = weights.weights(rows[i], rows[j], share[i], share[j], scale, shift)
        dx = dx.at[i].add(tiles.product((w,), (rows[j],)))
        return dx.at[j].add(tiles.product((w.T,), (rows[i],)))

    dx = tiles.loop(on, jnp.zeros(rows.shape, jnp.float32), tiles.diagonal(len(rows)))
    if len(rows) > 1:
        dx = tiles.loop(off, dx, tiles.above(len(rows)))
    return tiles.unblock(dx, len(x))


@_one_by_one
def _multiplied(x, y, a, b, scale, shift):
    return _tiled(x, y, a, b, scale, shift, with_y=True)


@_one_by_one
def _multiplied_rows(x, y, a, b, scale, shift):
    return _tiled(x, y, a, b, scale, shift, with_y=False)


def _tiled(x, y, a, b, scale, shift, *, with_y: bool):
    """W y, and Wᵀ x where asked for, from large tiles of weights W."""
    from rl_jax.pairwise.mosaic_gpu import weights

    sizes = _tile(len(x)), _tile(len(y))
    x_rows, a_rows = (tiles.blocks(v, sizes[0]) for v in (x, a))
    y_rows, b_rows = (tiles.blocks(v, sizes[1]) for v in (y, b))

    def body(out, i, j):
        dx, dy = out
        w = weights.weights(x_rows[i], y_rows[j], a_rows[i], b_rows[j], scale, shift)
        dx = dx.at[i].add(tiles.product((w,), (y_rows[j],)))
        if dy is not None:
            dy = dy.at[j].add(tiles.product((w.T,), (x_rows[i],)))
        return dx, dy

    start = (
        jnp.zeros(x_rows.shape, jnp.float32),
        jnp.zeros(y_rows.shape, jnp.float32) if with_y else None,
    )
    dx, dy = tiles.loop(body, start, tiles.grid(len(x_rows), len(y_rows)))
    return tiles.unblock(dx, len(x)), None if dy is None else tiles.unblock(dy, len(y))


def _tile(rows: int) -> int:
    """Rows of a tile: all alike, and a multiple of what the kernel cuts them to."""
    count = -(-rows // TILE)
    step = 512 if rows > 512 else 128
    return -(-rows // (count * step)) * step
