"""The all-pairs log-sum-exp, on which NT-Xent, InfoNCE, CLIP and SupCon stand."""

from typing import Literal

import chex

from rl_jax.errors import UsageError, checked
from rl_jax.pairwise.reduce import Implementation, reduce
from rl_jax.pairwise.tiles import Precision


@checked
def logsumexp(
    x: chex.Array,
    y: chex.Array | None = None,
    *,
    scale: chex.Numeric,
    valid: chex.Numeric | None = None,
    exclude: chex.Array | None = None,
    group: chex.Array | None = None,
    axis: Literal["rows", "both"] = "rows",
    precision: Precision | None = None,
    block_size: int | None = None,
    implementation: Implementation | None = None,
    max_norm: chex.Numeric | None = None,
):
    """Log-sum-exp of scaled inner products over all pairs, without the matrix.

    rows_i = log Σ_j exp(scale·⟨x_i, y_j⟩), and columns_j the same over i. Memory is one
    tile of logits, in the gradient too. Inside `jax.set_mesh(mesh)` with a `data` axis
    the rows are shared out over its devices and the result equals one device's; inside
    somebody's `shard_map` over that axis, it is that of the rows at hand.

    Differentiable in reverse mode by x, y and scale, by a gradient of its own; a second
    derivative keeps every tile. Forward mode raises jax's error for `custom_vjp`
    (`implementation="dense"` has it).

    Args:
      x: [N, D] float32 or bfloat16 rows, as they are: nothing is normalised here.
      y: [M, D] of the same dtype; None: the rows of x, each without itself.
      scale: factor of the inner products, a float or a scalar array; 1/temperature.
      valid: count of leading rows of y that take part; what lies behind them, NaN
        included, has no influence. None: all.
      exclude: int32 [N], for each row one column to leave out, -1 for none.
      group: int32 [M] ≥ 0; where given, `exclude` names a group for each row, and all
        columns of it are left out: other rows of the same class or caption, say.
      axis: "rows", or "both" for (rows, columns) in one sweep; only with y.
      precision: of the products. None: the operands' dtype, float32 in full on every
        platform; "bf16" rounds the operands, "bf16x3" splits them in two (error 1e-5),
        "highest" is full float32.
      block_size: rows and columns of a tile; None: see `block_size_for`.
      implementation: "xla" and "ring" stream; of several devices each gathers all rows,
        or passes them on to the next. "dense" forms the matrix. "mosaic_gpu": kernels
        for Hopper GPUs (H100, H200): 16-bit operands, D ≤ 512, no valid and no group;
        logits too large for a constant shift go the way of "xla". No second derivative,
        and block_size is theirs. None chooses those where they run, a device has 2²⁴
        pairs (2²⁸ with exclude) and the program is of one process; else "xla", and
        "ring" where more than 1 GiB would be gathered.
      max_norm: a bound on the norm of every row, where one is known (1 for unit rows).
        It saves the search for it and, where both it and `scale` are Python numbers,
        one of two code paths. Not differentiated.

    Returns:
      float32 [N], −inf where a row has no column; with axis="both" ([N], [M]).

    Raises:
      UsageError: for shapes, dtypes or options that do not fit together, and for rows
        that the devices of the mesh cannot share evenly.
    """
    if axis not in ("rows", "both"):
        raise UsageError(
            f"pairwise.logsumexp: axis must be 'rows' or 'both', got {axis!r}"
        )
    if axis == "both" and y is None:
        raise UsageError("pairwise.logsumexp: axis='both' needs y; self pairs have one")
    return reduce(
        "pairwise.logsumexp",
        x,
        y,
        kind="exp",
        scale=scale,
        valid=valid,
        exclude=exclude,
        group=group,
        both=axis == "both",
        precision=precision,
        block_size=block_size,
        implementation=implementation,
        max_norm=max_norm,
    )
