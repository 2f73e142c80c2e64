"""Weighted k-nearest-neighbour classification of frozen features."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError
from rl_jax.losses.normalize import normalize
from rl_jax.pairwise.top_k import top_k


def knn(
    features: chex.Array,
    labels: chex.Array,
    queries: chex.Array,
    *,
    k: int = 20,
    temperature: float = 0.07,
    num_classes: int | None = None,
) -> chex.Array:
    """Weighted k-nearest-neighbour vote (Wu et al. 2018, arXiv:1805.01978).

    argmax_c Σ_{j in the k nearest} exp(cos(q, f_j)/τ)·1[y_j = c]; equal votes go to the
    lower class. The similarity matrix is never held (`pairwise.top_k`).

    Args:
      features: [n, D] of the training part; normalised here, in float32.
      labels: int [n] in [0, num_classes).
      queries: [Q, D].
      k: neighbours that vote, >= 1; no more than n do.
      temperature: τ > 0.
      num_classes: None: 1 + the largest training label. Never from the test labels.

    Returns:
      int32 [Q], predicted labels.

    Raises:
      UsageError: shapes that do not fit together or arguments out of range.
    """
    bank, rows = jnp.asarray(features), jnp.asarray(queries)
    labels, n = np.asarray(labels), bank.shape[0]
    if not n or bank.ndim != 2 or labels.shape != (n,):
        raise UsageError(
            "knn: expected features [n, D] and labels [n], got "
            f"{bank.shape} and {labels.shape}"
        )
    if k < 1:
        raise UsageError(f"knn: k must be >= 1, got {k}")
    if not temperature > 0:
        raise UsageError(f"knn: temperature must be > 0, got {temperature}")
    low, high = int(labels.min()), int(labels.max())
    num_classes = high + 1 if num_classes is None else num_classes
    if low < 0 or high >= num_classes:
        raise UsageError(
            f"knn: labels must be in [0, {num_classes}), got {low} .. {high}; leave "
            "unlabelled rows (-1) out"
        )
    return _predict(
        bank, labels, rows, temperature, k=min(k, n), num_classes=num_classes
    )


def knn_accuracy(
    features: chex.Array,
    labels: chex.Array,
    queries: chex.Array,
    query_labels: chex.Array,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of queries whose `knn` prediction is right, in [0, 1].

    Args:
      features, labels, queries, k, temperature: see `knn`.
      query_labels: int [Q]; only compared with the predictions.

    Returns:
      The accuracy, a float.

    Raises:
      UsageError: as `knn`, or a label missing.
    """
    queries, query_labels = jnp.asarray(queries), np.asarray(query_labels)
    count = len(queries)
    if not count or query_labels.shape != (count,):
        raise UsageError(
            f"knn_accuracy: query_labels must be [{count}], one for each query, and at "
            f"least one, got {query_labels.shape}"
        )
    found = knn(features, labels, queries, k=k, temperature=temperature)
    return float(np.mean(np.asarray(found) == query_labels))


@functools.partial(jax.jit, static_argnames=("k", "num_classes"))
def _predict(features, labels, queries, temperature, *, k: int, num_classes: int):
    scores, index = top_k(normalize(queries), normalize(features), k=k)
    # Relative to the nearest, so that no temperature overflows.
    weight = jnp.exp((scores - scores[:, :1]) / temperature)
    rows = jnp.arange(len(scores))[:, None]
    votes = jnp.zeros((len(scores), num_classes)).at[rows, labels[index]].add(weight)
    return votes.argmax(1).astype(jnp.int32)
