"""Losses that spread embeddings over their dimensions instead of against negatives.

All of them see the batch through [D, D] moments: sums over rows, which stay the same
however the rows are shared out over devices.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError, checked
from rl_jax.pairwise import sharded


@checked
def barlow_twins(
    a: chex.Array,
    b: chex.Array,
    *,
    off_diagonal: chex.Numeric = 0.0051,
    scale: chex.Numeric = 1.0,
    unbiased: bool = False,
) -> chex.Array:
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230).

    With c the [D, D] cross-correlation of the two views over the batch,
    Σ_i (1 − c_ii)² + λ Σ_{i≠j} c_ij². As in the authors' code each column is
    normalised as BatchNorm without affine does it, (x − μ)/√(σ² + 1e-5) with the biased
    σ², and c = Σ_rows / B.

    Args:
      a, b: [B, D] embeddings of the two views, B ≥ 2; normalised here, in float32.
      off_diagonal: λ ≥ 0; the authors' 0.0051.
      scale: factor of the whole loss. It is not idle under LARS, which leaves biases
        and BatchNorm without adaptation: published settings come with a value (0.024
        was the authors' first, 0.1 is common on CIFAR).
      unbiased: (x − μ)/(s + 1e-5) with the unbiased s, ε outside the root: the paper's
        pseudo-code, and the libraries that follow it. The diagonal of c then ends at
        (B − 1)/B. For carrying over results; on large batches there is no difference.

    Returns:
      Scalar float32 ≥ 0; 0 when the views are equal and their dimensions uncorrelated
      (up to ε).

    Raises:
      UsageError: for shapes other than [B, D] twice, or a single row.
    """
    on, off = barlow_twins_terms(a, b, unbiased=unbiased)
    return scale * (on + off_diagonal * off)


@checked
def vicreg(
    a: chex.Array,
    b: chex.Array,
    *,
    invariance: chex.Numeric = 25.0,
    variance: chex.Numeric = 25.0,
    covariance: chex.Numeric = 1.0,
    halve: bool = True,
) -> chex.Array:
    """VICReg (Bardes, Ponce & LeCun 2022, arXiv:2105.04906).

    λ·mean (a − b)² + μ·½[v(a) + v(b)] + ν·[c(a) + c(b)], where the mean is over all B·D
    entries, v(z) = mean_j max(0, 1 − √(Var z_j + 1e-4)) and c(z) = 1/D Σ_{i≠j} Cov_ij²,
    variances and covariances unbiased (B − 1).

    Args:
      a, b: [B, D] embeddings of the two views, B ≥ 2; raw, they are not normalised.
      invariance, variance, covariance: λ, μ, ν ≥ 0; the authors' 25, 25 and 1.
      halve: the ½ of v, which the authors' code has and the paper's equation has not;
        False reproduces the libraries that add the two variance terms.

    Returns:
      Scalar float32 ≥ 0.

    Raises:
      UsageError: for shapes other than [B, D] twice, or a single row.
    """
    terms = vicreg_terms(a, b)
    spread = terms.variance if halve else 2 * terms.variance
    return (
        invariance * terms.invariance
        + variance * spread
        + covariance * terms.covariance
    )


class BarlowTerms(NamedTuple):
    """What Barlow Twins adds up.

    Attributes:
      on_diagonal: Σ_i (1 − c_ii)².
      off_diagonal: Σ_{i≠j} c_ij².
    """

    on_diagonal: chex.Array
    off_diagonal: chex.Array


@checked
def barlow_twins_terms(
    a: chex.Array, b: chex.Array, *, unbiased: bool = False
) -> BarlowTerms:
    """The two terms of `barlow_twins` without their factors.

    Args:
      a, b, unbiased: as there.

    Returns:
      Scalars float32.

    Raises:
      UsageError: as there.
    """
    _check_pair("barlow_twins", a, b)
    a, b = (_standardise(x, unbiased=unbiased) for x in (a, b))
    c = _product(a, b) / len(a)
    return BarlowTerms(jnp.sum(jnp.square(1 - jnp.diagonal(c))), _off_diagonal(c))


class VICRegTerms(NamedTuple):
    """What VICReg adds up.

    Attributes:
      invariance: mean (a − b)² over all entries.
      variance: ½[v(a) + v(b)], 0 when every dimension has a standard deviation of 1.
      covariance: c(a) + c(b).
    """

    invariance: chex.Array
    variance: chex.Array
    covariance: chex.Array


@checked
def vicreg_terms(a: chex.Array, b: chex.Array) -> VICRegTerms:
    """The three terms of `vicreg` without their factors, the variance term halved.

    Args:
      a, b: as there.

    Returns:
      Scalars float32.

    Raises:
      UsageError: as there.
    """
    _check_pair("vicreg", a, b)
    a, b = (x.astype(jnp.float32) for x in (a, b))
    apart = jnp.mean(jnp.square(a - b))
    variance, covariance = 0.0, 0.0
    for x in (a, b):
        x = x - jnp.mean(x, axis=0, keepdims=True)
        std = jnp.sqrt(jnp.sum(x * x, axis=0) / (len(x) - 1) + 1e-4)
        variance += jnp.mean(jax.nn.relu(1 - std)) / 2
        covariance += _off_diagonal(_product(x, x) / (len(x) - 1)) / x.shape[1]
    return VICRegTerms(apart, jnp.asarray(variance), jnp.asarray(covariance))


def _standardise(x: chex.Array, *, unbiased: bool) -> chex.Array:
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    square = jnp.sum(x * x, axis=0, keepdims=True)
    if not unbiased:
        return x * jax.lax.rsqrt(square / len(x) + 1e-5)
    # The root has no gradient at 0: a constant column counts as 0 with gradient 0.
    alive = square > 0
    std = jnp.sqrt(jnp.where(alive, square, 1.0) / (len(x) - 1))
    return x / (jnp.where(alive, std, 0.0) + 1e-5)


def _product(a: chex.Array, b: chex.Array) -> chex.Array:
    """aᵀb [D, D]; in full float32 where the hardware would round to less."""
    return jnp.matmul(a.T, b, precision=jax.lax.Precision.HIGHEST)


def _off_diagonal(c: chex.Array) -> chex.Array:
    """Σ_{i≠j} c_ij², without the diagonal's share ever being added."""
    return jnp.sum(jnp.where(jnp.eye(len(c), dtype=bool), 0.0, jnp.square(c)))


def _check_pair(name: str, a: chex.Array, b: chex.Array) -> None:
    if a.ndim != 2 or a.shape != b.shape or not math.prod(a.shape):
        raise UsageError(
            f"{name}: expected two [B, D] arrays, got {a.shape}, {b.shape}"
        )
    if len(a) < 2:
        raise UsageError(
            f"{name}: one row has no variance, got {a.shape}; use a larger batch"
        )
    sharded.check_axes(name, a, b)
    for x in (a, b):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UsageError(
                f"{name}: embeddings must be floating, float32 say, got {x.dtype}"
            )
