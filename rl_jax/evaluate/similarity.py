"""Cosines of positive and negative pairs, and the softmax over them."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.directions import unit_rows
from rl_jax.pairwise import logsumexp, tiles
from rl_jax.pairwise.top_k import top_k


class SimilarityHistogram(NamedTuple):
    """Counts of cosines in equal bins of [−1, 1], the upper end of each left out.

    Attributes:
      edges: float64 [bins + 1].
      positive: int64 [bins], of the n pairs (a_i, b_i).
      negative: int64 [bins], of the n(n − 1) pairs (a_i, b_j), i ≠ j.
      positive_mean, negative_mean: of the cosines themselves.
    """

    edges: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    positive_mean: float
    negative_mean: float


class SoftmaxSharpness(NamedTuple):
    """How decided the softmax over candidates is, as means over the rows.

    Attributes:
      entropy: share of log K, in [0, 1]: 1 where all candidates count the same.
      max_softmax: probability of the likeliest candidate, in [1/K, 1].
    """

    entropy: float
    max_softmax: float


@checked
def similarity_histogram(
    a: chex.Array, b: chex.Array, *, bins: int = 50, block_size: int | None = None
) -> SimilarityHistogram:
    """Histograms of the cosines of positives and of negatives.

    All n² cosines are counted one tile at a time; they are never held.

    Args:
      a, b: [n, D], n ≥ 2, two views of the same examples; normalised here, in float32.
      bins: ≥ 1; the last one holds cosine 1.
      block_size: rows of a tile; None: see `pairwise.block_size_for`.

    Returns:
      A `SimilarityHistogram`.

    Raises:
      UsageError: for shapes that do not fit together, NaN, rows of zeros, or bins < 1.
    """
    n = arguments.directions("similarity_histogram", least=2, a=a, b=b)
    arguments.same_width("similarity_histogram", a=a, b=b)
    arguments.counts("similarity_histogram", bins=bins)
    a, b = unit_rows(jnp.asarray(a)), unit_rows(jnp.asarray(b))
    size = min(block_size or tiles.block_size_for(n, jax.default_backend()), n)
    with jax.enable_x64(True):
        positive, negative = (np.asarray(v) for v in _count(a, b, bins=bins, size=size))
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    together = np.sum(x * y)
    apart = x.sum(0) @ y.sum(0) - together
    return SimilarityHistogram(
        np.linspace(-1.0, 1.0, bins + 1),
        positive,
        negative,
        float(together / n),
        float(apart / (n * (n - 1))),
    )


@checked
def softmax_sharpness(
    a: chex.Array, b: chex.Array | None = None, *, temperature: float
) -> SoftmaxSharpness:
    """Entropy and peak of softmax(cosines/τ) (Wang & Liu 2021, arXiv:2012.09740).

    Of row i, over cos(a_i, b_j). Candidates are all K rows of b, the positive among
    them; without b the K = n − 1 other rows of a. The entropy is H = log Z − ⟨s⟩, and
    the mean logit ⟨s⟩ under the softmax is κ ∂log Z/∂κ, κ = 1/τ: nothing is held
    (`pairwise.logsumexp`).

    Args:
      a: [n, D] of any float dtype; normalised here, in float32.
      b: [m, D], m ≥ 2; None: the other rows of a, n ≥ 3.
      temperature: τ > 0; at 0.005 the entropy is within 1e-4.

    Returns:
      A `SoftmaxSharpness`.

    Raises:
      UsageError: for shapes that do not fit together, NaN, rows of zeros, or τ ≤ 0.
    """
    name = "softmax_sharpness"
    arguments.directions(name, least=3 if b is None else 1, a=a)
    if not 0 < temperature < np.inf:
        raise UsageError(
            f"{name}: temperature must be > 0 and finite, got {temperature}"
        )
    if b is not None:
        arguments.directions(name, least=2, b=b)
        arguments.same_width(name, a=a, b=b)
    a = unit_rows(jnp.asarray(a))
    b = None if b is None else unit_rows(jnp.asarray(b))
    scale = jnp.float32(1.0 / temperature)
    rows, logit = (np.asarray(v, np.float64) for v in _partition(a, b, scale))
    exclude = jnp.arange(len(a), dtype=jnp.int32) if b is None else None
    best = np.asarray(top_k(a, a if b is None else b, k=1, exclude=exclude)[0][:, 0])
    candidates = len(a) - 1 if b is None else len(b)
    share = (rows.mean() - logit) / np.log(candidates)
    peak = np.exp(float(scale) * best.astype(np.float64) - rows)
    # Rounding of logits of size 1/τ may leave either range.
    return SoftmaxSharpness(
        float(np.clip(share, 0, 1)), float(np.clip(peak, 1 / candidates, 1).mean())
    )


@jax.jit
def _partition(a, b, scale):
    """Log Z of each row, and the mean logit over rows and candidates."""

    def mean(scale):
        rows = logsumexp(a, b, scale=scale, max_norm=1.0)
        return rows.mean(), rows

    (_, rows), slope = jax.value_and_grad(mean, has_aux=True)(scale)
    return rows, scale * slope


@functools.partial(jax.jit, static_argnames=("bins", "size"))
def _count(a, b, *, bins: int, size: int):
    """Histograms int64 [bins] of the diagonal and of the rest."""
    n = len(a)
    x, y = tiles.blocks(a, size), tiles.blocks(b, size)
    number = tiles.blocks(jnp.arange(n, dtype=jnp.int32), size, fill=-1)

    def counted(totals, i, j):
        cosine = tiles.outer((x[i],), (y[j],))
        place = jnp.floor((cosine + 1.0) * (bins / 2)).astype(jnp.int32)
        place = jnp.clip(place, 0, bins - 1)
        row, column = number[i][:, None], number[j][None]
        place = jnp.where(row == column, place + bins, place)
        place = jnp.where((row < 0) | (column < 0), 2 * bins, place)
        new = jnp.bincount(place.ravel(), length=2 * bins + 1)
        return totals + new.astype(jnp.int64)

    start = jnp.zeros(2 * bins + 1, jnp.int64)
    totals = tiles.loop(counted, start, tiles.grid(len(x), len(x)))
    return totals[bins : 2 * bins], totals[:bins]
