"""The public all-pairs log-sum-exp: checks, choice of path, custom derivative."""

import functools
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.pairwise import dense, sharded, streaming

Precision = Literal["bf16", "bf16x3", "highest"]
Implementation = Literal["dense", "xla"]


def logsumexp(
    x: chex.Array,
    y: chex.Array | None = None,
    *,
    scale: chex.Numeric,
    valid: chex.Numeric | None = None,
    exclude: chex.Array | None = None,
    axis: Literal["rows", "both"] = "rows",
    precision: Precision | None = None,
    block_size: int | None = None,
    implementation: Implementation | None = None,
    max_norm: float | None = None,
):
    """Log-sum-exp of scaled inner products over all pairs, without the matrix.

    rows_i = log Σ_j exp(scale·⟨x_i, y_j⟩), and columns_j the same over i. Memory is one
    tile of logits, in the gradient too. Inside `jax.set_mesh(mesh)` with a `data` axis
    the rows are shared out over its devices and the result equals one device's.

    Differentiable once in reverse mode by x, y and scale; forward mode and second
    derivatives raise jax's error for `custom_vjp` (`implementation="dense"` has both).

    Args:
      x: [N, D] float32 or bfloat16 rows, as they are: nothing is normalised here.
      y: [M, D] of the same dtype; None: the rows of x, each without itself.
      scale: factor of the inner products, a float or a scalar array; 1/temperature.
      valid: count of leading rows of y that take part; what lies behind them, NaN
        included, has no influence. None: all.
      exclude: int32 [N], for each row one column to leave out, -1 for none.
      axis: "rows", or "both" for (rows, columns) in one sweep; only with y.
      precision: of the products. None: the operands' dtype; "bf16" rounds the operands,
        "bf16x3" splits them in two (error 1e-5), "highest" is full float32.
      block_size: rows and columns of a tile; None: see `block_size_for`.
      implementation: "xla" streams, "dense" forms the matrix; None chooses "xla".
      max_norm: a bound on the norm of every row, where one is known (1 for unit rows).
        It saves the search for it and, with a Python float `scale`, one code path.

    Returns:
      float32 [N], −inf where a row has no column; with axis="both" ([N], [M]).

    Raises:
      UsageError: for shapes, dtypes or options that do not fit together.
    """
    _check(x, y, valid, exclude, axis, precision, block_size, implementation)
    both = axis == "both"
    if valid is not None:
        assert y is not None
        keep = jnp.arange(len(y)) < valid
        y = jnp.where(keep[:, None], y, jnp.zeros_like(y))
    if implementation == "dense":
        return dense.logsumexp(
            x,
            y,
            scale=scale,
            valid=valid,
            exclude=exclude,
            both=both,
            precision=precision,
        )
    tiles = _tiles(x, y, block_size, precision)
    norm = None if max_norm is None else float(max_norm)
    bound = None
    if norm is not None and isinstance(scale, int | float):
        bound = abs(float(scale)) * norm**2
    config = _Config(tiles, both, norm, bound)
    return _logsumexp(config, x, y, jnp.asarray(scale, jnp.float32), valid, exclude)


def block_size_for(rows: int, dim: int, platform: str) -> int:
    """Rows of a tile when none are asked for.

    One tile up to 1,024 rows. On CPU 512 (1,024 from D = 512 on), so that a tile stays
    in cache; elsewhere 2,048, so that the products fill the device.
    """
    if rows <= 1024:
        return rows
    if platform == "cpu":
        return 512 if dim < 512 else 1024
    return 2048


class _Config(NamedTuple):
    """The static part of one call."""

    tiles: streaming.Tiles
    both: bool
    max_norm: float | None
    bound: float | None  # largest |logit| where it is known before tracing


def _tiles(x, y, block_size, precision) -> streaming.Tiles:
    def size(rows: int) -> int:
        platform = jax.default_backend()
        return max(
            1, min(block_size or block_size_for(rows, x.shape[1], platform), rows)
        )

    return streaming.Tiles(size(len(x)), size(len(x if y is None else y)), precision)


def _shifts(config: _Config, x, y, scale):
    """The constant shift and whether it is safe: floats if known, else arrays."""
    columns = max(len(x), len(x if y is None else y))
    if config.bound is not None:
        return streaming.safe_shift(config.bound, columns)
    if config.max_norm is not None:
        square = jnp.asarray(config.max_norm**2)
    else:
        square = _max_square(x)
        square = square if y is None else jnp.sqrt(square * _max_square(y))
    return streaming.safe_shift(jnp.abs(scale) * square, columns)


def _max_square(x):
    return jnp.max(jnp.sum(jnp.square(x.astype(jnp.float32)), axis=1))


def _choose(config: _Config, x, y, scale, run):
    """`run(shift)` with the constant shift where safe, else with `None`."""
    shift, safe = _shifts(config, x, y, scale)
    if isinstance(safe, bool):
        return run(shift if safe else None)
    return jax.lax.cond(safe, lambda: run(shift), lambda: run(None))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _logsumexp(config, x, y, scale, valid, exclude):
    def run(shift):
        options = {"scale": scale, "shift": shift, "tiles": config.tiles}
        if y is None and exclude is None:
            return sharded.triangle_lse(x, **options)
        options |= {"valid": valid, "exclude": exclude, "both": config.both}
        return sharded.rectangle_lse(x, y, **options)

    return _choose(config, x, y, scale, run)


def _forward(config, *inputs):
    values = jax.tree.map(lambda primal: primal.value, inputs)
    out = _logsumexp(config, *values)
    y = inputs[1]
    # Residuals are arrays, so what is static must lie in their structure.
    with_y = () if y is not None and y.perturbed else None
    return out, (values, out, with_y)


def _backward(config, residuals, g):
    (x, y, scale, valid, exclude), lse, with_y = residuals
    rows, columns = lse if config.both else (lse, None)
    g_rows, g_columns = g if config.both else (g, None)
    g_rows, g_columns = _instantiate(g_rows), _instantiate(g_columns)

    def run(shift):
        options = {"scale": scale, "shift": shift, "tiles": config.tiles}
        if y is None and exclude is None:
            return sharded.triangle_gradient(x, rows, g_rows, **options), None
        options |= {"valid": valid, "exclude": exclude, "with_y": with_y is not None}
        return sharded.rectangle_gradient(
            x, y, rows, g_rows, columns, g_columns, **options
        )

    dx, dy = _choose(config, x, y, scale, run)
    # Σ_ij g_i p_ij ⟨x_i, y_j⟩ = ⟨x, dx⟩; self pairs appear in both of their rows.
    dscale = jnp.vdot(x.astype(jnp.float32), dx)
    dscale = dscale / 2 if y is None else dscale
    dx = (scale * dx).astype(x.dtype)
    dy = None if dy is None else (scale * dy).astype(x.dtype)
    return dx, dy, dscale, None, None


def _instantiate(g):
    """A cotangent as an array, also where nothing depends on the output."""
    if isinstance(g, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros(g.shape, g.dtype)
    return g


_logsumexp.defvjp(_forward, _backward, symbolic_zeros=True)


def _check(x, y, valid, exclude, axis, precision, block_size, implementation):
    name = "pairwise.logsumexp"
    other = x if y is None else y
    if x.ndim != 2 or other.ndim != 2 or other.shape[1] != x.shape[1]:
        got = f"x {x.shape}" + ("" if y is None else f" and y {y.shape}")
        raise UsageError(f"{name}: expected x [N, D] and y [M, D], got {got}")
    if other.dtype != x.dtype:
        raise UsageError(
            f"{name}: x and y must have one dtype, got {x.dtype} and {other.dtype}"
        )
    if x.dtype not in (jnp.float32, jnp.bfloat16):
        raise UsageError(f"{name}: expected float32 or bfloat16, got {x.dtype}")
    if y is None and (valid is not None or exclude is not None or axis != "rows"):
        raise UsageError(
            f"{name}: valid, exclude and axis='both' need y; self pairs take none"
        )
    if exclude is not None and exclude.shape != (len(x),):
        raise UsageError(
            f"{name}: exclude must be int [N] = [{len(x)}], got {exclude.shape}"
        )
    for given, known, what in (
        (axis, ("rows", "both"), "axis"),
        (precision, (None, "bf16", "bf16x3", "highest"), "precision"),
        (implementation, (None, "dense", "xla"), "implementation"),
    ):
        if given not in known:
            raise UsageError(f"{name}: {what} must be one of {known}, got {given!r}")
    if block_size is not None and block_size < 1:
        raise UsageError(f"{name}: block_size must be at least 1, got {block_size}")
