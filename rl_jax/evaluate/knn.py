"""Weighted k-nearest-neighbour classification of frozen features."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.directions import inverse_norms, unit_rows
from rl_jax.evaluate.labels import class_labels
from rl_jax.pairwise.top_k import top_k


@checked
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
      k: neighbours that vote, >= 1. With n < k all n of them do, by their cosines:
        a bank of few labels needs no k of its own.
      temperature: τ > 0.
      num_classes: None: 1 + the largest training label. Never from the test labels.

    Returns:
      int32 [Q], predicted labels. Of equal cosines the lower row is nearer, so features
        that are all equal give the vote of the first k rows; a row of zeros has cosine
        0 with every other.

    Raises:
      UsageError: shapes that do not fit together, NaN, labels < 0 or arguments out of
        range.
    """
    found = _knn("knn", features, labels, queries, k, temperature, num_classes)
    if found.size and found.max() >= 2**31:
        raise UsageError(f"knn: labels must be below 2^31, got {found.max()}")
    return jnp.asarray(found, jnp.int32)


@checked
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
      query_labels: int [Q], >= 0; only compared with the predictions. One that no
        training row has counts as wrong.

    Returns:
      The accuracy, a float.

    Raises:
      UsageError: as `knn`, or query labels that are not one for each query.
    """
    name = "knn_accuracy"
    query_labels = class_labels(name, "query_labels", query_labels, len(queries))
    found = _knn(name, features, labels, queries, k, temperature, None)
    return float(np.mean(np.asarray(found) == query_labels))


def _knn(name, features, labels, queries, k, temperature, num_classes):
    bank, rows = (_of_floats(jnp.asarray(x)) for x in (features, queries))
    n = arguments.features(name, features=bank)
    arguments.features(name, queries=rows)
    arguments.same_width(name, features=bank, queries=rows)
    labels = class_labels(name, "labels", labels, n)
    arguments.counts(name, k=k)
    if not temperature > 0:
        raise UsageError(f"{name}: temperature must be > 0, got {temperature}")
    high = int(labels.max())
    num_classes = high + 1 if num_classes is None else num_classes
    if high >= num_classes:
        raise UsageError(
            f"{name}: labels must be in [0, {num_classes}), got up to {high}"
        )
    # Votes are counted for the classes that there are, whatever their numbers.
    classes, compact = np.unique(np.asarray(labels), return_inverse=True)
    found = predict(
        *(bank, compact.astype(np.int32), rows, temperature),
        k=min(k, n),
        num_classes=len(classes),
    )
    return classes[np.asarray(found)]


def _of_floats(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.integer) else x


@functools.partial(jax.jit, static_argnames=("k", "num_classes"))
def predict(features, labels, queries, temperature, *, k: int, num_classes: int):
    """`knn` of checked arguments, compiled: int32 [Q]."""
    # The bank is not copied: its products are scaled by the lengths of its rows.
    inverse = inverse_norms(features)[:, 0]
    scores, index = top_k(unit_rows(queries), features, k=k, bank_scale=inverse)
    # Relative to the nearest, so that no temperature overflows.
    weight = jnp.exp((scores - scores[:, :1]) / temperature)
    rows = jnp.arange(len(scores))[:, None]
    votes = jnp.zeros((len(scores), num_classes)).at[rows, labels[index]].add(weight)
    return votes.argmax(1).astype(jnp.int32)
