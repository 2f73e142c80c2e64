"""The all-pairs sum of log(1 + e^s), on which SigLIP is."""

from typing import Literal

import chex

from rl_jax.errors import UsageError, checked
from rl_jax.pairwise.reduce import Implementation, reduce
from rl_jax.pairwise.tiles import Precision


@checked
def sigmoid(
    x: chex.Array,
    y: chex.Array | None = None,
    *,
    scale: chex.Numeric,
    bias: chex.Numeric,
    valid: chex.Numeric | None = None,
    exclude: chex.Array | None = None,
    group: chex.Array | None = None,
    axis: Literal["rows", "all"] = "rows",
    precision: Precision | None = None,
    block_size: int | None = None,
    implementation: Implementation | None = None,
) -> chex.Array:
    """Sum of −log σ(−s_ij) over all pairs, without the matrix.

    rows_i = Σ_j log(1 + exp(scale·⟨x_i, y_j⟩ + bias)): the loss of a logistic
    regression that should call every pair negative (Zhai et al. 2023,
    arXiv:2303.15343). Memory, devices and derivatives as `logsumexp`; kernels for
    Hopper GPUs are for rectangles, and chosen from 2²⁸ pairs of a device on.

    With axis="all" it is Σ_ij of them. Then the derivative of every pair is known when
    its logit is, and where one is asked for, value and gradient are made in one sweep:
    three products a pair instead of four, by the kernels from 2²⁴ pairs on.

    Args:
      x: [N, D] float32 or bfloat16 rows, as they are: nothing is normalised here.
      y: [M, D] of the same dtype; None: the rows of x, each without itself.
      scale, bias: factor and offset of the logits, floats or scalar arrays.
      axis: "rows", or "all" for one sum over all pairs.
      valid, exclude, group, precision, block_size, implementation: as in `logsumexp`.

    Returns:
      float32 [N] ≥ 0, 0 where a row has no column; with axis="all" a scalar.

    Raises:
      UsageError: as `logsumexp`.
    """
    if axis not in ("rows", "all"):
        raise UsageError(
            f"pairwise.sigmoid: axis must be 'rows' or 'all', got {axis!r}"
        )
    return reduce(
        "pairwise.sigmoid",
        x,
        y,
        kind="softplus",
        scale=scale,
        offset=bias,
        valid=valid,
        exclude=exclude,
        group=group,
        every=axis == "all",
        precision=precision,
        block_size=block_size,
        implementation=implementation,
    )
