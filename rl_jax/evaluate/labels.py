"""Which labelled examples a probe may see: stratified draws and folds."""

import numpy as np

from rl_jax.errors import UsageError
from rl_jax.evaluate import arguments


def label_draws(
    labels: np.ndarray, per_class: int, draws: int, seed: int
) -> np.ndarray:
    """Stratified draws of labelled examples: the same ones for every representation.

    Draw r takes the first `per_class` examples of each class in the order of a stable
    argsort of raw Philox-4x64 bits with key (seed, r), which NumPy keeps fixed between
    versions. A draw with fewer labels per class is part of the same draw with more.

    Args:
      labels: int [n], >= 0.
      per_class: examples of each class that occurs, >= 1.
      draws: number of draws, >= 1.
      seed: in [0, 2^64).

    Returns:
      int32 [draws, classes·per_class], indices into `labels`, class after class.

    Raises:
      UsageError: an argument out of range, or a class with too few examples.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.min() < 0:
        raise UsageError(
            "label_draws: labels must be [n] and >= 0, got shape "
            f"{labels.shape}; leave unlabelled rows (-1) out"
        )
    return _draws("label_draws", "per_class", labels, per_class, draws, seed)


def chosen_labels(
    function: str,
    labels: np.ndarray,
    labels_per_class: int | None,
    draws: int,
    seed: int,
) -> np.ndarray:
    """`label_draws` for a probe, named in its messages; None: one draw of everything.

    Raises:
      UsageError: an argument out of range, or a class with too few examples.
    """
    if labels_per_class is None:
        return np.arange(len(labels), dtype=np.int32)[None]
    each = labels_per_class
    return _draws(function, "labels_per_class", labels, each, draws, seed)


def _draws(function, what, labels, per_class, draws, seed) -> np.ndarray:
    arguments.counts(function, **{what: per_class, "draws": draws})
    if not 0 <= seed < 2**64:
        raise UsageError(f"{function}: seed must be in [0, 2^64), got {seed}")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < per_class:
        raise UsageError(
            f"{function}: {what} must be <= {counts.min()}, the examples of class "
            f"{classes[counts.argmin()]}, got {per_class}"
        )
    chosen = []
    for draw in range(draws):
        key = np.array([seed, draw], np.uint64)
        bits = np.random.Philox(key=key).random_raw(len(labels))
        order = np.argsort(bits, kind="stable")
        order = order[np.argsort(labels[order], kind="stable")]
        chosen.append(order[_place(labels[order]) < per_class])
    return np.stack(chosen).astype(np.int32)


def class_labels(function: str, name: str, labels, rows: int) -> np.ndarray:
    """Int [rows] ≥ 0, one label for each row.

    Args:
      function, name: of the measure and of the argument, for the message.
      labels: what was given.
      rows: how many there must be.

    Raises:
      UsageError: for another shape or dtype, or labels < 0.
    """
    labels = np.asarray(labels)
    if labels.shape != (rows,) or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"{function}: {name} must be int [{rows}], one for each row, got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    if rows and labels.min() < 0:
        raise UsageError(
            f"{function}: {name} must be >= 0, got {labels.min()}; leave unlabelled "
            "rows (-1) out"
        )
    return labels


def classes_of(function: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes that occur, in order, and for each example which of them: int [n].

    Args:
      function: named in the message.
      labels: int [n], >= 0.

    Raises:
      UsageError: for labels < 0, or fewer than two classes.
    """
    if labels.min() < 0:
        raise UsageError(
            f"{function}: labels must be >= 0, got {labels.min()}; leave unlabelled "
            "rows out"
        )
    classes, place = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(
            f"{function}: expected two classes or more, got only {classes[0]}"
        )
    return classes, place


def fold_weights(labels: np.ndarray, folds: int) -> np.ndarray:
    """Stratified folds as weights: float32 [folds + 1, n], the last one all ones.

    Row f is 0 on fold f and 1 elsewhere. The examples of a class go to the folds in
    turn, each class starting where the one before ended, so that sizes differ by one.
    """
    turn = np.empty(len(labels), int)
    turn[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % folds
    weights = turn[None] != np.arange(folds + 1)[:, None]
    return weights.astype(np.float32)


def _place(labels: np.ndarray) -> np.ndarray:
    """How many equal labels stand before each, in sorted labels."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.arange(len(labels)) - first[inverse]
