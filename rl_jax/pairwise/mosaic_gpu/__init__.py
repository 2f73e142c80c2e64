"""Sums over pairs and their gradients, as kernels for Hopper GPUs.

The XLA path writes every tile of logits to the device's memory and reads it again, and
so runs at the speed of that memory. Here a tile lives and dies in registers, or leaves
them as weights of 16 bits. What is computed is the same; `supports` says for what, and
the rest goes the other way.

  sums      `forward.py`: over rows and columns in one sweep, half of it for self pairs
  gradients `backward.py` of exponentials up to D = 256; else `weights.py` and cuBLAS
  terms     `terms.py`: what a pair adds, an exponential or log(1 + e^s)

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
"""4,096², the fewest for which they were measured to be faster."""

TILE = 8192
"""Rows and columns of a tile of weights: 128 MiB. Of larger ones a larger part of the
tiles on the diagonal of self pairs would be in vain."""

LARGE_TILE = 16384
"""Those of a rectangle of more than four tiles a side: 512 MiB, 6 % less time."""

ALIGNED = 64
"""Columns that rows are filled up to a multiple of: 128 bytes."""

TRIAL_DIMS = (64, 512)
"""One for each way to the gradient."""

STRIP = 2**17
"""Rows and columns of one call for sums, whose partial sums then take 100 MiB."""


def supports(plan: Plan, given: Operands, devices: int = 1) -> str | None:
    """Why these kernels cannot do this reduction; None: they can, on Hopper GPUs."""
    columns = len(given.x if given.y is None else given.y)
    rows = len(given.x) // devices
    if plan.kind not in ("exp", "softplus"):
        return "a running maximum is not kept, only a constant shift"
    if plan.kind == "softplus" and (given.y is None or plan.both):
        return "sums of softplus are those of rows of a rectangle"
    if given.bias is not None or given.group is not None:
        return "valid and group are not"
    if plan.kind == "exp" and given.offset is not None:
        return "exponentials have no bias"
    if plan.precision not in (None, "bf16"):
        return f"operands are of 16 bits, not precision={plan.precision!r}"
    if plan.precision is None and given.x.dtype == jnp.float32:
        return "operands are of 16 bits: bfloat16 rows or precision='bf16'"
    if given.x.shape[1] > WIDE:
        return f"D is at most {WIDE}, got {given.x.shape[1]}"
    if min(rows, columns) < 64:
        return f"N on a device and M are at least 64, got {rows} and {columns}"
    return None


def worthwhile(given: Operands, devices: int = 1) -> bool:
    """Whether a device has so many pairs that XLA's path is slower."""
    columns = len(given.x if given.y is None else given.y)
    return len(given.x) // devices * columns >= FEWEST_PAIRS


@functools.cache
def available(kind: reductions.Kind) -> str | None:
    """Why the kernels of a reduction do not run here; None: they do.

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
            reason = pool.submit(_try, kind).result()
        except Exception as error:
            reason = f"a trial failed: {type(error).__name__}: {str(error)[:200]}"
    if reason is not None:
        warnings.warn(f"kernels for Hopper GPUs are not used: {reason}", stacklevel=2)
    return reason


def _try(kind: reductions.Kind) -> str | None:
    """Runs every kernel on a little, and says what is wrong with it."""
    for dim in TRIAL_DIMS:
        for itself in (True, False) if kind == "exp" else (False,):
            error = _trial(kind, dim, itself)
            if not error < 1:
                pairs = "self pairs" if itself else "a rectangle"
                return (
                    f"a trial of {pairs} at D = {dim} was {error:.0e} times too far off"
                )
    return None


def _trial(kind: reductions.Kind, dim: int, itself: bool) -> float:
    """The largest error of sums and gradients, over what is allowed."""
    rng = np.random.default_rng(0)
    x, y = (
        jnp.asarray(rng.normal(size=(rows, dim)) / dim**0.5, jnp.bfloat16)
        for rows in (200, 190)
    )
    plan = Plan(kind, len(x), len(y), None, both=kind == "exp" and not itself)
    given = Operands(x, y, jnp.float32(2.0), None, 0.0, None, None, None)
    if itself:
        given = given._replace(y=None)
    elif kind == "softplus":
        exclude = jnp.arange(len(x), dtype=jnp.int32)
        given = given._replace(offset=jnp.float32(-1.0), shift=None, exclude=exclude)
        plan = plan._replace(with_total=True)
    plan = plan._replace(with_y=not itself)
    at_once = (False, True) if kind == "softplus" else (False,)

    def found(given):
        of, _ = sums(plan, given)
        of = of if plan.both else (of,)
        # Of sums of exponentials l, the weights are those of g / l.
        g = [s[0] if kind == "exp" else jnp.ones_like(s[0]) for s in of]
        bars = Cotangents(*[*zip(of, g, strict=True), None][:2])
        plans = [plan._replace(with_value=with_value) for with_value in at_once]
        return [s[0] for s in of], [gradients(plan, given, bars) for plan in plans]

    (rows, *columns), every = jax.jit(found)(given)
    one, two = (np.asarray(v, np.float64) for v in (x, x if itself else y))
    e = np.exp(2 * one @ two.T - (kind == "softplus"))
    if itself or kind == "softplus":
        np.fill_diagonal(e, 0.0)
    value, weight = (e, e) if kind == "exp" else (np.log1p(e), e / (1 + e))
    # Each pair has the weight of its row and, for both directions, of its column.
    twice = 2 if kind == "exp" else 1
    pairs = [(rows, value.sum(1), 1e-5)]
    if columns:
        pairs.append((columns[0], value.sum(0), 1e-5))
    for out in every:
        expected = Gradients(
            twice * weight @ two, twice * weight.T @ one, weight.sum(), value.sum()
        )
        pairs += [
            (f, r, allowed)
            for f, r, allowed in zip(
                out, expected, (1e-2, 1e-2, 1e-5, 1e-5), strict=True
            )
            if f is not None
        ]
    return max(
        np.linalg.norm(np.asarray(f, np.float64) - r) / np.linalg.norm(r) / allowed
        for f, r, allowed in pairs
    )


def sums(plan: Plan, given: Operands):
    """As `streaming.sums`, keeping nothing."""
    x, y, scale, shift = _operands(plan, given)
    run = _one_by_one(functools.partial(_sums, plan.kind))
    found = run(x, y, _excluded(given), scale, shift)
    rows, columns = (found, None) if y is None else found

    def known(total):
        if plan.kind == "softplus":
            return (total,)
        return total, jnp.full(total.shape, shift, jnp.float32)

    if plan.both:
        return (known(rows), known(columns)), None
    return known(rows), None


def gradients(plan: Plan, given: Operands, bars: Cotangents, kept=None) -> Gradients:
    """As `streaming.gradients`; nothing was kept."""
    assert kept is None
    x, y, scale, shift = _operands(plan, given)
    side = reductions.of(plan.kind, given.shift).side
    (a,) = side(*bars.rows)
    if bars.columns is not None:
        (b,) = side(*bars.columns)
    else:
        b = a if y is None else jnp.zeros(len(y), jnp.float32)
    if plan.with_value:
        a = b = None  # every cotangent is 1
    dim = given.x.shape[1]
    fits = x.shape[1] <= NARROW and plan.kind == "exp" and given.exclude is None
    if y is None:
        run = _one_by_one(_weighted_self if fits else _multiplied_self)
        return Gradients(run(x, a, scale, shift)[:, :dim], None, None, None)
    if not fits:
        run = _one_by_one(functools.partial(_multiplied, plan))
        out = run(x, y, a, b, _excluded(given), scale, shift)
        dy = None if out.y is None else out.y[:, :dim]
        return out._replace(x=out.x[:, :dim], y=dy)
    dx, dy = _one_by_one(_weighted)(x, y, a, b, scale, shift)[:, :dim], None
    if plan.with_y:
        dy = _one_by_one(_weighted)(y, x, b, a, scale, shift)[:, :dim]
    return Gradients(dx, dy, None, None)


def _operands(plan: Plan, given: Operands):
    """Rows of 16 bits, D a multiple of 64; the scale, and what is taken away then."""
    shift = 0.0 if given.shift is None else given.shift
    if given.offset is not None:
        shift = shift - given.offset

    def ready(x):
        if plan.precision == "bf16":
            (x,) = tiles.split(x, "bf16")
        return jnp.pad(x, ((0, 0), (0, -x.shape[1] % ALIGNED)))

    y = None if given.y is None else ready(given.y)
    return ready(given.x), y, given.scale, jnp.asarray(shift, jnp.float32)


def _excluded(given: Operands):
    """Numbers of columns that there are, and −1."""
    if given.exclude is None or given.y is None:
        return None
    return jnp.where(given.exclude < len(given.y), given.exclude, -1)


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


def _sums(kind, x, y, exclude, scale, shift):
    """Strip by strip, for partial sums grow with both sides."""
    from rl_jax.pairwise.mosaic_gpu import forward

    make = functools.partial(forward.sums, kind=kind)
    if max(len(x), 0 if y is None else len(y)) <= STRIP:
        return make(x, y, scale, shift, exclude=exclude)
    rows, count = _strips(x)
    if y is None:

        def on(total, i, j):
            counts = (count(i), count(i))
            return total.at[i].add(make(rows[i], None, scale, shift, counts=counts))

        def off(total, i, j):
            counts = (count(i), count(j))
            one, two = make(rows[i], rows[j], scale, shift, counts=counts)
            return total.at[i].add(one).at[j].add(two)

        total = jnp.zeros(rows.shape[:2], jnp.float32)
        total = tiles.loop(on, total, tiles.diagonal(len(rows)))
        if len(rows) > 1:
            total = tiles.loop(off, total, tiles.above(len(rows)))
        return tiles.unblock(total, len(x))
    columns, column_count = _strips(y)
    of_tile = _renumbered(exclude, rows.shape[1], columns.shape[1])

    def body(totals, i, j):
        one, two = make(
            *(rows[i], columns[j], scale, shift),
            exclude=of_tile(i, j),
            counts=(count(i), column_count(j)),
        )
        return totals[0].at[i].add(one), totals[1].at[j].add(two)

    totals = (
        jnp.zeros(rows.shape[:2], jnp.float32),
        jnp.zeros(columns.shape[:2], jnp.float32),
    )
    totals = tiles.loop(body, totals, tiles.grid(len(rows), len(columns)))
    return tiles.unblock(totals[0], len(x)), tiles.unblock(totals[1], len(y))


def _renumbered(exclude, rows: int, columns: int):
    """For tile (i, j), its own number of the column that each row leaves out."""
    if exclude is None:
        return lambda i, j: None
    blocks = tiles.blocks(exclude, rows, fill=-1)
    # Numbers below 0 meet no column of a tile, nor do those beyond it.
    return lambda i, j: jnp.where(blocks[i] < 0, -1, blocks[i] - j * columns)


def _strips(x):
    """Rows cut into strips of one size, and how many of strip i are rows of x."""
    count = -(-len(x) // STRIP)
    size = -(-len(x) // count)
    return tiles.blocks(x, size), lambda i: jnp.minimum(len(x) - i * size, size)


def _weighted_self(x, a, scale, shift):
    from rl_jax.pairwise.mosaic_gpu import backward

    return backward.weighted(x, None, a, None, scale, shift)


def _weighted(x, y, a, b, scale, shift):
    from rl_jax.pairwise.mosaic_gpu import backward

    return backward.weighted(x, y, a, b, scale, shift)


def _multiplied_self(x, a, scale, shift):
    """Large tiles of weights on and above the diagonal; each serves both its sides."""
    from rl_jax.pairwise.mosaic_gpu import weights

    size = _tile(len(x), TILE)
    rows, share = tiles.blocks(x, size), tiles.blocks(a, size)

    def on(dx, i, j):
        (w,) = weights.weights(
            rows[i], rows[j], share[i], share[j], scale, shift, diagonal=True
        )
        return dx.at[i].add(tiles.product((w,), (rows[j],)))

    def off(dx, i, j):
        (w,) = weights.weights(rows[i], rows[j], share[i], share[j], scale, shift)
        dx = dx.at[i].add(tiles.product((w,), (rows[j],)))
        return dx.at[j].add(tiles.product((w.T,), (rows[i],)))

    dx = tiles.loop(on, jnp.zeros(rows.shape, jnp.float32), tiles.diagonal(len(rows)))
    if len(rows) > 1:
        dx = tiles.loop(off, dx, tiles.above(len(rows)))
    return tiles.unblock(dx, len(x))


def _multiplied(plan: Plan, x, y, a, b, exclude, scale, shift) -> Gradients:
    """W y, and what else the plan wants, from large tiles of weights W."""
    from rl_jax.pairwise.mosaic_gpu import weights

    sizes = _tile(len(x), LARGE_TILE), _tile(len(y), LARGE_TILE)
    x_rows, y_rows = tiles.blocks(x, sizes[0]), tiles.blocks(y, sizes[1])
    # Without shares all pairs weigh alike.
    shared = a is not None
    a_rows, b_rows = (
        (tiles.blocks(a, sizes[0]), tiles.blocks(b, sizes[1])) if shared else ([], [])
    )
    of_tile = _renumbered(exclude, *sizes)
    asked: dict[weights.Sum, bool] = {
        "weight": plan.with_total, "value": plan.with_value,
    }  # fmt: skip
    sums = tuple(name for name, wanted in asked.items() if wanted)
    # What fills up the last tiles has weights, which nothing but these sums would see.
    ragged = sums and (len(x) % sizes[0] or len(y) % sizes[1])

    def body(out, i, j):
        dx, dy, totals = out
        w, *found = weights.weights(
            *(x_rows[i], y_rows[j]),
            *((a_rows[i], b_rows[j]) if shared else (None, None)),
            *(scale, shift),
            kind=plan.kind,
            exclude=of_tile(i, j),
            counts=(len(x) - i * sizes[0], len(y) - j * sizes[1]) if ragged else None,
            sums=sums,
        )
        dx = dx.at[i].add(tiles.product((w,), (y_rows[j],)))
        if dy is not None:
            dy = dy.at[j].add(tiles.product((w.T,), (x_rows[i],)))
        return dx, dy, [t.at[i].add(f) for t, f in zip(totals, found, strict=True)]

    start = (
        jnp.zeros(x_rows.shape, jnp.float32),
        jnp.zeros(y_rows.shape, jnp.float32) if plan.with_y else None,
        [jnp.zeros(len(x_rows), jnp.float32) for _ in sums],
    )
    dx, dy, totals = tiles.loop(body, start, tiles.grid(len(x_rows), len(y_rows)))
    total_of = {n: t.sum() for n, t in zip(sums, totals, strict=True)}
    dy = None if dy is None else tiles.unblock(dy, len(y))
    return Gradients(
        tiles.unblock(dx, len(x)), dy, total_of.get("weight"), total_of.get("value")
    )


def _tile(rows: int, most: int) -> int:
    """Rows of a tile: all alike, and a multiple of what the kernel cuts them to."""
    count = max(-(-rows // most), min(-(-rows // TILE), 4))
    step = 512 if rows > 512 else 128
    return -(-rows // (count * step)) * step
