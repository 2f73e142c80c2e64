"""What a hidden layer tells of the input: two estimates that disagree."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.errors import UsageError, checked, known

TILE = 2**20
"""Pairs of rows held at a time."""


@checked
def binned_information(
    h: chex.Array, *, bins: int, low: chex.Numeric, high: chex.Numeric
) -> chex.Array:
    """I(X;T) of T = h(X) cut into bins (Shwartz-Ziv & Tishby 2017, arXiv:1703.00810).

    With X uniform over the rows, T is a function of X, hence I(X;T) = H(T) =
    −Σ_c n_c/n log n_c/n over the cells c of bins^D that rows fall in. Without the bins
    it would be log n for any h that is one to one: the number says how the bins cut.

    Args:
      h: [n, D] activations, a row for each x, of any float dtype.
      bins: of each unit, ≥ 1, of equal width.
      low, high: the range that is cut, low < high; what is beyond falls in the outer
        bins.

    Returns:
      Scalar float32 in nats, in [0, log n]; NaN where h holds NaN or inf.

    Raises:
      UsageError: for a rank other than 2, no rows, fewer than one bin, or low ≥ high.
    """
    _check_rows("binned_information", h)
    if bins < 1:
        raise UsageError(f"binned_information: bins must be >= 1, got {bins}")
    traced = isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer)
    if not traced and not low < high:
        raise UsageError(
            f"binned_information: low must be below high, got {low}, {high}"
        )
    h = jnp.asarray(h, jnp.float32)
    share = (h - low) / (high - low)
    cell = jnp.clip(jnp.floor(share * bins), 0, bins - 1).astype(jnp.int32)
    # Equal rows side by side: bins^D cells would not fit an array, nor their number
    # an integer.
    cell = cell[jnp.lexsort(cell.T)]
    starts = jnp.any(cell[1:] != cell[:-1], axis=1).astype(jnp.int32)
    group = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(starts)])
    count = jax.ops.segment_sum(jnp.ones(len(cell)), group, len(cell))
    entropy = jax.scipy.special.entr(count / len(cell)).sum()
    return jnp.where(jnp.isfinite(h).all(), entropy, jnp.nan)


class NoisyInformation(NamedTuple):
    """Bounds of I(X;T) in nats, both in [0, log n].

    Attributes:
      lower: by Bhattacharyya distances of the components.
      upper: by their KL divergences.
    """

    lower: chex.Array
    upper: chex.Array


@checked
def noisy_information(h: chex.Array, *, variance: chex.Numeric) -> NoisyInformation:
    """I(X;T) of T = h(X) + noise (Kolchinsky & Tracey 2017, arXiv:1706.02419).

    With X uniform over the rows and Gaussian noise of variance σ² on each unit, T is a
    mixture of n components, and I(X;T) lies between
    −1/n Σ_i log 1/n Σ_j exp(−‖h_i − h_j‖²/(8σ²)) and the same with 2σ² for 8σ².

    Args:
      h: [n, D] activations, a row for each x, of any float dtype.
      variance: σ² > 0.

    Returns:
      A `NoisyInformation`. Memory is that of h and a tile of pairs.

    Raises:
      UsageError: for a rank other than 2, no rows, or a variance that is not positive.
    """
    _check_rows("noisy_information", h)
    number = known(variance)
    if number is not None and not 0 < number < np.inf:
        raise UsageError(f"noisy_information: variance must be > 0, got {variance}")
    h = jnp.asarray(h, jnp.float32)
    columns = h.T

    def row(x):
        square = jnp.sum(jnp.square(x[:, None] - columns), axis=0)
        scaled = square / variance
        return jnp.stack(
            [
                jax.nn.logsumexp(-scaled / 8),
                jax.nn.logsumexp(-scaled / 2),
            ]
        )

    at_a_time = max(TILE // len(h), 1)
    overlap = lax.map(row, h, batch_size=at_a_time)
    lower, upper = jnp.log(len(h)) - overlap.mean(axis=0)
    return NoisyInformation(lower, upper)


def _check_rows(name, h):
    if h.ndim != 2 or not len(h):
        raise UsageError(f"{name}: expected h [n, D] with n >= 1, got {h.shape}")
