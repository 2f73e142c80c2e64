"""Linear probe: what a linear classifier reads from frozen features."""

import functools
from typing import NamedTuple

import numpy as np

from rl_jax.errors import checked
from rl_jax.evaluate.axes import deviation, to_axes
from rl_jax.evaluate.blocks import slices
from rl_jax.evaluate.labels import chosen_labels, common, fold_weights
from rl_jax.evaluate.parts import scoring_part, training_part
from rl_jax.evaluate.regression import logistic_path

FOLDS = 5
L2_GRID = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
L2_MANY_LABELS = (3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
"""Beside them, as far as 1/2n: scikit-learn's C = 1/(n·l2) then goes up to 2."""
L2_FEW_LABELS = 0.1
"""Used where most classes have less than `FOLDS` labels. On digits with 1 to 4 labels,
accuracy is the same within 0.01 from 0.003 to 0.3."""

MANY_LABELS = 20_000
"""Labels above which the strength is chosen on one held-out fifth, of 4,000 examples or
more: one fit for each strength in the place of six."""


class Probe(NamedTuple):
    """Fitted probes, one for each draw of labels.

    Attributes:
      weights: float64 [draws, D, C], for raw features.
      bias: float64 [draws, C]; it takes back the mean of the features, which may be
        large.
      classes: int [C], the labels of the columns.
      l2: float [draws], the strength chosen inside each draw.
      n: labelled examples in a draw.
    """

    weights: np.ndarray
    bias: np.ndarray
    classes: np.ndarray
    l2: np.ndarray
    n: int


class ProbeResult(NamedTuple):
    """Test accuracy of a linear probe.

    Attributes:
      accuracies: float [draws], one for each draw of labels.
      mean: of the accuracies.
      std: their sample standard deviation (n − 1), 0 for one draw.
      l2: float [draws], the strength chosen inside each draw.
      labels_per_class: as asked for; None: all labels, or a fraction.
      n: labelled examples in a draw.
      label_fraction: as asked for; None: all labels, or a number per class.
    """

    accuracies: np.ndarray
    mean: float
    std: float
    l2: np.ndarray
    labels_per_class: int | None
    n: int
    label_fraction: float | None = None


@checked
def linear_probe(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    labels_per_class: int | None = None,
    label_fraction: float | None = None,
    draws: int = 10,
    seed: int = 0,
) -> ProbeResult:
    """Test accuracy of multinomial logistic regression on frozen features.

    The test part is only scored: `fit_probe`, which never sees it, does the rest.

    Args:
      train_x, train_y: [n, D] features and int [n] labels >= 0.
      test_x, test_y: [m, D] features and int [m] labels >= 0; a class that training
        does not have counts as wrong.
      labels_per_class: labels the probe may see of each class; None: all, in one fit.
      label_fraction: in their place, the share in (0, 1] of the labels of each class,
        at least one: 0.01 and 0.1 are the usual ones (`fraction_draws`).
      draws: number of seeded draws of the labels; without effect for all labels.
      seed: of the draws: the same labels for every representation compared.

    Returns:
      A `ProbeResult`. Constant features always give the most frequent class.

    Raises:
      UsageError: shapes that do not fit together, features that are not finite, labels
        < 0, fewer than two classes, fewer than labels_per_class of one, or both a
        number and a fraction.
    """
    name, like = "linear_probe", np.shape(train_x)
    train = training_part(name, train_x, train_y)
    test_x, test_y = scoring_part(name, test_x, test_y, like)
    shares = (labels_per_class, label_fraction)
    probe = _fit(name, *train, *shares, draws, seed)
    logits = np.matmul(test_x.astype(np.float64), probe.weights)
    logits += probe.bias[:, None]
    right = probe.classes[logits.argmax(-1)] == test_y[None]
    accuracies = right.mean(1)
    std = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0
    mean = float(accuracies.mean())
    return ProbeResult(
        *(accuracies, mean, std, probe.l2, labels_per_class, probe.n, label_fraction)
    )


@checked
def fit_probe(
    train_x: np.ndarray,
    train_y: np.ndarray,
    *,
    labels_per_class: int | None = None,
    label_fraction: float | None = None,
    draws: int = 10,
    seed: int = 0,
) -> Probe:
    """Logistic regression on draws of labels, its strength chosen inside each draw.

    Features are standardised by the standard deviation of the whole training part (the
    free bias absorbs any mean). The l2 of `strengths` with the least cross-entropy in 5
    stratified folds of the draw is taken, counted over the classes with 5 labels or
    more; where fewer than half have as many, `L2_FEW_LABELS`; of more than
    `MANY_LABELS` labels, one fold tells. All draws, folds and strengths are one
    compiled computation in min(n, D) dimensions (`to_axes`), which beside the features
    holds blocks of examples only.

    Args:
      train_x, train_y: [n, D] features and int [n] labels >= 0.
      labels_per_class, label_fraction, draws, seed: see `linear_probe`.

    Returns:
      A `Probe`.

    Raises:
      UsageError: as `linear_probe`.
    """
    name = "fit_probe"
    train = training_part(name, train_x, train_y)
    return _fit(name, *train, labels_per_class, label_fraction, draws, seed)


def strengths(n: int) -> tuple[float, ...]:
    """The l2 that are tried with n labels, from strong to weak."""
    return L2_GRID + tuple(l2 for l2 in L2_MANY_LABELS if 2 * n * l2 >= 1)


def _fit(name, x, classes, labels, per_class, fraction, draws, seed) -> Probe:
    chosen = chosen_labels(name, labels, per_class, fraction, draws, seed)
    n = chosen.shape[1]
    counted = np.stack([common(labels[i], FOLDS) for i in chosen])
    few = not counted.any()
    grid = np.asarray([L2_FEW_LABELS] if few else strengths(n))

    std = deviation(x)
    whole = per_class is None and fraction is None  # one draw, which is not copied
    drawn = [x] if whole else [x[i] for i in chosen]
    means = np.stack([part.mean(0, dtype=np.float64) for part in drawn])
    width = _width(n, min(n, x.shape[1]))
    rotated = np.zeros((len(drawn), n, width), np.float32)
    bases = []
    for out, part, mean in zip(rotated, drawn, means, strict=True):
        scores, basis = to_axes(part, mean, std)
        for rows in slices(part):
            out[rows, : basis.shape[1]] = scores(rows)
        bases.append(basis)
    folds = np.stack([fold_weights(labels[i], FOLDS) for i in chosen])
    best, fitted = _fitted(
        rotated,
        labels[chosen].astype(np.int32),
        folds[:, -1 if few else 0 :],
        grid.astype(np.float32),
        counted.astype(np.float32),
        len(classes),
    )
    weights = np.stack(
        [
            b @ w[: b.shape[1]] / std[:, None]
            for b, w in zip(bases, fitted[0], strict=True)
        ]
    )
    bias = fitted[1] - np.einsum("rd,rdc->rc", means, weights)
    return Probe(weights, bias, classes, grid[best], n)


def _fitted(x, labels, folds, l2, counted, num_classes):
    """The place of the best l2 [draws], and `(W, b)` of all examples with it."""
    fit = functools.partial(logistic_path, x, labels, num_classes=num_classes)
    every = np.arange(len(x))
    if len(l2) > 1 and x.shape[1] > MANY_LABELS:
        # One fold says which, and only the one chosen is fitted to all.
        path = fit(folds[:, :1], l2, counted=counted)
        best = np.asarray(path.held_out)[:, :, 0].argmin(0)
        path = fit(folds[:, -1:], l2[best][None])
        found = (path.weights[0, :, 0], path.bias[0, :, 0])
    else:
        path = fit(folds, l2, counted=counted)
        # argmin takes the first of equals: the strongest.
        best = np.asarray(path.held_out)[:, :, :-1].sum(2).argmin(0)
        found = (path.weights[best, every, -1], path.bias[best, every, -1])
    return best, tuple(np.asarray(v, np.float64) for v in found)


def _width(n: int, dim: int) -> int:
    """The width the features are padded to, so that representations share a program."""
    # With many examples, the zeros would cost more than one more compilation.
    unit = 256 if n <= 4096 else 64
    return max(dim, min(n, -(-dim // unit) * unit))
