"""Sums over pairs and their gradients, as kernels for Hopper GPUs.

The XLA path writes every tile of logits to the device's memory and reads it again, and
so runs at the speed of that memory. Here a tile lives and dies in registers, or leaves
them as weights of 16 bits. What is computed is the same; `supports` says for what, and
the rest goes the other way.

  sums      `forward.py`: over rows and columns in one sweep, half of it for self pairs
  gradients `backward.py` of exponentials up to D = 256; else `weights.py` and cuBLAS
  parts     `parts.py`: what one call of a kernel is too small for
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
"""4,096², the fewest measured: there as fast as XLA's path, or faster."""

FEWEST_PAIRS_OTHERWISE = 2**28
"""16,384²: where columns are left out, or softplus is summed, in a sweep of its own."""

KINDS: tuple[reductions.Kind, ...] = ("exp", "softplus")
"""What is summed by kernels."""

ALIGNED = 64
"""Columns that rows are filled up to a multiple of: 128 bytes."""

TRIAL_DIMS = (64, 512)
"""One for each way to the gradient."""


def supports(plan: Plan, given: Operands, devices: int = 1) -> str | None:
    """Why these kernels cannot do this reduction; None: they can, on Hopper GPUs."""
    columns = len(given.x if given.y is None else given.y)
    rows = len(given.x) // devices
    if plan.kind not in KINDS:
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


def worthwhile(plan: Plan, given: Operands, devices: int = 1) -> bool:
    """Whether a device has so many pairs that XLA's path is slower."""
    columns = len(given.x if given.y is None else given.y)
    plain = plan.kind == "exp" and given.exclude is None
    fewest = FEWEST_PAIRS if plain or plan.with_value else FEWEST_PAIRS_OTHERWISE
    return len(given.x) // devices * columns >= fewest


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


_everywhere: set[reductions.Kind] = set()


def settle(any_of: Callable[[bool], bool]) -> None:
    """Lets several processes take the kernels by themselves, where each of them can.

    What a trial finds may differ from host to host, and their programs must not: before
    all have asked, none takes them unless told to. `train.fit` asks.

    Args:
      any_of: whether a flag is set on any process, as `train.any_of`.
    """
    if jax.process_count() == 1:
        return
    for kind in KINDS:
        if any_of(available(kind) is not None):
            _everywhere.discard(kind)
        else:
            _everywhere.add(kind)


def usable(kind: reductions.Kind) -> bool:
    """Whether the kernels of a reduction run on every host, as far as is known."""
    if jax.process_count() > 1:
        return kind in _everywhere
    return available(kind) is None


def _try(kind: reductions.Kind) -> str | None:
    """Runs every kernel on a little, and says what is wrong with it."""
    # 190 columns do not fill their tiles, 256 do, and are not counted.
    shapes = {
        "exp": ((200, None), (200, 190)), "softplus": ((200, 190), (256, 256)),
    }  # fmt: skip
    for dim in TRIAL_DIMS:
        for rows, columns in shapes[kind]:
            error = _trial(kind, dim, rows, columns)
            if not error < 1:
                pairs = "self pairs" if columns is None else "a rectangle"
                return (
                    f"a trial of {pairs} at D = {dim} was {error:.0e} times too far off"
                )
    return None


def _trial(kind: reductions.Kind, dim: int, rows: int, columns: int | None) -> float:
    """The largest error of sums and gradients, over what is allowed."""
    itself = columns is None
    rng = np.random.default_rng(0)
    x, y = (
        jnp.asarray(rng.normal(size=(n, dim)) / dim**0.5, jnp.bfloat16)
        for n in (rows, columns or rows)
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

    (of_rows, *of_columns), every = jax.jit(found)(given)
    one, two = (np.asarray(v, np.float64) for v in (x, x if itself else y))
    e = np.exp(2 * one @ two.T - (kind == "softplus"))
    if itself or kind == "softplus":
        np.fill_diagonal(e, 0.0)
    value, weight = (e, e) if kind == "exp" else (np.log1p(e), e / (1 + e))
    # Each pair has the weight of its row and, for both directions, of its column.
    twice = 2 if kind == "exp" else 1
    pairs = [(of_rows, value.sum(1), 1e-5)]
    if of_columns:
        pairs.append((of_columns[0], value.sum(0), 1e-5))
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
    from rl_jax.pairwise.mosaic_gpu import parts

    x, y, scale, shift = _operands(plan, given)
    run = _one_by_one(functools.partial(parts.sums, plan.kind))
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
    from rl_jax.pairwise.mosaic_gpu import backward, parts

    assert kept is None
    x, y, scale, shift = _operands(plan, given)
    a, b = _shares(plan, given, bars)
    dim = given.x.shape[1]
    fits = x.shape[1] <= NARROW and plan.kind == "exp" and given.exclude is None
    weighted = _one_by_one(backward.weighted)
    if y is None:
        if fits:
            dx = weighted(x, None, a, None, scale, shift)
        else:
            dx = _one_by_one(parts.multiplied_self)(x, a, scale, shift)
        return Gradients(dx[:, :dim], None, None, None)
    if not fits:
        run = _one_by_one(functools.partial(parts.multiplied, plan))
        out = run(x, y, a, b, _excluded(given), scale, shift)
        dy = None if out.y is None else out.y[:, :dim]
        return out._replace(x=out.x[:, :dim], y=dy)
    dx, dy = weighted(x, y, a, b, scale, shift)[:, :dim], None
    if plan.with_y:
        dy = weighted(y, x, b, a, scale, shift)[:, :dim]
    return Gradients(dx, dy, None, None)


def _shares(plan: Plan, given: Operands, bars: Cotangents):
    """What a row and a column give to a weight; None where all pairs weigh alike."""
    if plan.with_value:
        return None, None
    side = reductions.of(plan.kind, given.shift).side
    (a,) = side(*bars.rows)
    if bars.columns is not None:
        return a, side(*bars.columns)[0]
    return a, None if given.y is None else jnp.zeros(len(given.y), jnp.float32)


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
