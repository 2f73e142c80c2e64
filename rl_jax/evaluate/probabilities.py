"""Predicted probabilities of classes, and labels beside them, checked."""

import numpy as np

from rl_jax.errors import UsageError

_TOLERANCE = 1e-3
"""How far from 1 a row may sum: a softmax in float32, not one in bfloat16."""


def checked_probabilities(name: str, probabilities) -> np.ndarray:
    """Float64 [n, C] with C ≥ 2, in [0, 1], each row summing to 1.

    Raises:
      UsageError: for anything else.
    """
    p = checked_scores(name, "probabilities", probabilities)
    if p.min() < 0 or p.max() > 1 + _TOLERANCE:
        raise UsageError(
            f"{name}: probabilities must be in [0, 1], got {p.min():.4g} .. "
            f"{p.max():.4g}; apply softmax to logits first"
        )
    total = p.sum(1)
    worst = int(np.abs(total - 1).argmax())
    if abs(total[worst] - 1) > _TOLERANCE:
        raise UsageError(
            f"{name}: each row of probabilities must sum to 1, row {worst} sums to "
            f"{total[worst]:.4g}; normalise in float32"
        )
    return p


def checked_scores(name: str, what: str, scores) -> np.ndarray:
    """Float64 [n, C], finite, with n ≥ 1 and C ≥ 2.

    Raises:
      UsageError: for anything else.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or not len(scores) or scores.shape[1] < 2:
        raise UsageError(
            f"{name}: expected {what} [n, C] with n >= 1 and two classes or more, got "
            f"{scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise UsageError(f"{name}: {what} must be finite, got NaN or inf")
    return scores


def checked_labels(name: str, labels, shape: tuple[int, int]) -> np.ndarray:
    """Int [n] in [0, C), for scores of shape [n, C].

    Raises:
      UsageError: for anything else.
    """
    labels = np.asarray(labels)
    if labels.shape != shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"{name}: labels must be int [{shape[0]}], one for each row, got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= shape[1]:
        raise UsageError(
            f"{name}: labels must be in [0, {shape[1]}), got {labels.min()} .. "
            f"{labels.max()}; leave unlabelled rows (-1) out"
        )
    return labels
