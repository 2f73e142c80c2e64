"""Which labelled examples a probe may see: stratified draws and folds."""

import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments


@checked
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
    name, labels = "label_draws", np.asarray(labels)
    _check_labels(name, labels)
    return _draws(
        name, labels, _each(name, "per_class", labels, per_class), draws, seed
    )


@checked
def fraction_draws(
    labels: np.ndarray, fraction: float, draws: int, seed: int
) -> np.ndarray:
    """Stratified draws of a fraction of the labels, as of 1 % or 10 %.

    Of the n_c examples of class c a draw takes max(1, ⌊fraction·n_c + ½⌋), the first
    ones in the order of `label_draws`: a draw of a smaller fraction, or of no more
    labels per class, is part of it.

    Args:
      labels: int [n], >= 0.
      fraction: of the examples of each class that occurs, in (0, 1].
      draws: number of draws, >= 1.
      seed: in [0, 2^64).

    Returns:
      int32 [draws, Σ_c max(1, ⌊fraction·n_c + ½⌋)], indices into `labels`, class after
      class.

    Raises:
      UsageError: an argument out of range.
    """
    name, labels = "fraction_draws", np.asarray(labels)
    _check_labels(name, labels)
    return _draws(name, labels, _parts(name, "fraction", labels, fraction), draws, seed)


def chosen_labels(
    function: str,
    labels: np.ndarray,
    labels_per_class: int | None,
    label_fraction: float | None,
    draws: int,
    seed: int,
) -> np.ndarray:
    """The draws for a probe, named in its messages; None, None: one of everything.

    Raises:
      UsageError: both a number and a fraction, one of them out of range, or a class
        with too few examples.
    """
    if labels_per_class is not None and label_fraction is not None:
        raise UsageError(
            f"{function}: give labels_per_class or label_fraction, not both, got "
            f"{labels_per_class} and {label_fraction}"
        )
    if labels_per_class is not None:
        counts = _each(function, "labels_per_class", labels, labels_per_class)
    elif label_fraction is not None:
        counts = _parts(function, "label_fraction", labels, label_fraction)
    else:
        return np.arange(len(labels), dtype=np.int32)[None]
    return _draws(function, labels, counts, draws, seed)


def _check_labels(function: str, labels: np.ndarray) -> None:
    if labels.ndim != 1 or not len(labels) or labels.min() < 0:
        raise UsageError(
            f"{function}: labels must be [n] and >= 0, got shape "
            f"{labels.shape}; leave unlabelled rows (-1) out"
        )


def _each(function, what, labels, per_class) -> np.ndarray:
    """The same number of every class: int [classes]."""
    arguments.counts(function, **{what: per_class})
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < per_class:
        raise UsageError(
            f"{function}: {what} must be <= {counts.min()}, the examples of class "
            f"{classes[counts.argmin()]}, got {per_class}"
        )
    return np.full(len(classes), per_class)


def _parts(function, what, labels, fraction) -> np.ndarray:
    """The same fraction of every class, at least one example: int [classes]."""
    if not 0 < fraction <= 1:
        raise UsageError(f"{function}: {what} must be in (0, 1], got {fraction}")
    _, counts = np.unique(labels, return_counts=True)
    return np.maximum(np.floor(fraction * counts + 0.5), 1).astype(int)


def _draws(function, labels, counts, draws, seed) -> np.ndarray:
    """The first `counts` of each class in the order of every draw."""
    arguments.counts(function, draws=draws)
    if not 0 <= seed < 2**64:
        raise UsageError(f"{function}: seed must be in [0, 2^64), got {seed}")
    _, place = np.unique(labels, return_inverse=True)
    chosen = []
    for draw in range(draws):
        key = np.array([seed, draw], np.uint64)
        bits = np.random.Philox(key=key).random_raw(len(labels))
        order = np.argsort(bits, kind="stable")
        order = order[np.argsort(labels[order], kind="stable")]
        chosen.append(order[_place(labels[order]) < counts[place[order]]])
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


def common(labels: np.ndarray, folds: int) -> np.ndarray:
    """Bool [n], which labels occur often enough that every fold has the class.

    None where that holds for fewer than half of the classes that occur: then folds tell
    nothing.
    """
    counts = np.bincount(labels)
    often = counts >= folds
    if 2 * often.sum() < (counts > 0).sum():
        return np.zeros(len(labels), bool)
    return often[labels]


def _place(labels: np.ndarray) -> np.ndarray:
    """How many equal labels stand before each, in sorted labels."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.arange(len(labels)) - first[inverse]
