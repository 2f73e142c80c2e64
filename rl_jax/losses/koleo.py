"""KoLeo: embeddings apart from their nearest neighbours."""

import math

import chex
import jax
import jax.numpy as jnp

from rl_jax import pairwise
from rl_jax.errors import UsageError, checked
from rl_jax.losses.normalize import normalize
from rl_jax.pairwise import sharded


@checked
def koleo(z: chex.Array, *, epsilon: float = 1e-8) -> chex.Array:
    """Kozachenko-Leonenko regulariser (Sablayrolles et al. 2019, arXiv:1806.03198).

    −mean_i log(‖z_i − z_n(i)‖ + ε) of unit rows, n(i) the other row nearest to z_i: but
    for a factor and a constant the estimate of Kozachenko & Leonenko (1987) of their
    differential entropy, with its sign changed. Smallest where rows are spread evenly
    on the sphere. As in DINOv2 (Oquab et al. 2023, arXiv:2304.07193).

    The gradient is that of both rows of a pair, at the pairs as they are. They are
    searched tile by tile in the whole batch, without the matrix of similarities. Rows
    within 5e-4 of the nearest may be taken for it: so fine is the cosine in float32.

    Args:
      z: [N, D] embeddings, N ≥ 2; normalised here, in float32.
      epsilon: ε > 0. A row that is there twice adds −log ε, and its gradient is 0, for
        there is no direction; that of PyTorch's `PairwiseDistance` is along ones.

    Returns:
      Scalar float32, at least −log(2 + ε).

    Raises:
      UsageError: for N < 2, another rank, rows that are not floating, or ε out of
        range.
    """
    if z.ndim != 2 or len(z) < 2 or not z.shape[1]:
        raise UsageError(f"koleo: expected [N, D] with N >= 2, got {z.shape}")
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise UsageError(
            f"koleo: embeddings must be floating, float32 say, got {z.dtype}"
        )
    if not 0 < epsilon < math.inf:
        raise UsageError(f"koleo: epsilon must be > 0 and finite, got {epsilon}")
    sharded.check_axes("koleo", z)
    z = normalize(z)
    fixed = jax.lax.stop_gradient(z)
    own = jnp.arange(len(z), dtype=jnp.int32)
    _, nearest = pairwise.top_k(fixed, fixed, k=1, exclude=own)
    square = jnp.sum(jnp.square(z - z[nearest[:, 0]]), axis=-1)
    # The root has no derivative at 0. NaN is not 0, and stays.
    equal = square == 0
    distance = jnp.where(equal, 0.0, jnp.sqrt(jnp.where(equal, 1.0, square)))
    return -jnp.mean(jnp.log(distance + epsilon))
