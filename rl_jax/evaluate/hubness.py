"""Hubs: rows that are among the nearest of far more rows than others are."""

from typing import Literal, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.pairwise.top_k import top_k

Metric = Literal["cosine", "euclidean", "dot"]


class Hubness(NamedTuple):
    """How unevenly rows are the neighbours of others.

    Attributes:
      skewness: E(N − k)³ / (E(N − k)²)^{3/2} of the k-occurrence N, whose mean is k; 0
        where all are equal.
      orphans: share of rows that are nobody's neighbour.
      occurrence: int [n], N itself: how many rows have this one among their k nearest.
    """

    skewness: float
    orphans: float
    occurrence: np.ndarray


@checked
def hubness(features: chex.Array, *, k: int = 10, metric: Metric = "cosine") -> Hubness:
    """Skewness of the k-occurrence (Radovanović et al. 2010, JMLR 11:2487-2531).

    A row is not its own neighbour. "cosine" is the geometry after ℓ₂ normalisation,
    "euclidean" and "dot" that before it; by inner products long rows are hubs. The
    similarities are never held (`pairwise.top_k`).

    Args:
      features: [n, D], n ≥ 2, of any float dtype.
      k: neighbours, in [1, n − 1].
      metric: "cosine", "euclidean" or "dot": what the nearest are nearest by. Of equals
        the lower row comes first.

    Returns:
      A `Hubness`.

    Raises:
      UsageError: for another shape, NaN, k or metric out of range, rows that are all
        equal, or, with "cosine", a row of zeros.
    """
    check = arguments.directions if metric == "cosine" else arguments.features
    n = check("hubness", least=2, features=features)
    if not 1 <= k < n:
        raise UsageError(f"hubness: k must be in [1, {n - 1}], the other rows, got {k}")
    query, bank = _operands(np.asarray(features).astype(np.float64), metric)
    others = jnp.arange(n, dtype=jnp.int32)
    if bool((query == query[:1]).all()):
        raise UsageError(
            "hubness: all rows point the same way, so that which are nearest is "
            "arbitrary: the features have collapsed"
        )
    index = np.asarray(top_k(query, bank, k=k, exclude=others)[1])
    occurrence = np.bincount(index.ravel(), minlength=n)
    apart = occurrence - float(k)
    spread = np.mean(apart**2)
    skewness = np.mean(apart**3) / spread**1.5 if spread > 0 else 0.0
    return Hubness(float(skewness), float(np.mean(occurrence == 0)), occurrence)


def _operands(x: np.ndarray, metric: Metric):
    """Rows whose inner products are in the order of the metric, float32."""
    if metric == "cosine":
        x = x / np.abs(x).max(1, keepdims=True)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    elif metric == "euclidean":
        x = x - x.mean(0, keepdims=True)
    elif metric != "dot":
        raise UsageError(
            f"hubness: metric must be 'cosine', 'euclidean' or 'dot', got {metric!r}"
        )
    x = x / (np.abs(x).max() or 1.0)
    bank = x
    if metric == "euclidean":
        # ⟨q, x⟩ − ‖x‖²/2 orders the rows x as −‖q − x‖² does.
        bank = np.concatenate([x, -np.sum(x * x, axis=1, keepdims=True) / 2], axis=1)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    return jnp.asarray(x, jnp.float32), jnp.asarray(bank, jnp.float32)
