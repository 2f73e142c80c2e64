"""Ridge regression on frozen features, every strength from one eigendecomposition."""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.axes import to_axes
from rl_jax.evaluate.blocks import slices
from rl_jax.evaluate.parts import scoring_part, training_part
from rl_jax.evaluate.probe import ProbeResult

L2_SHARES = tuple(float(v) for v in np.logspace(3, -6, 19))
"""Strengths where none are given, in units of the mean variance of the features."""


class Ridge(NamedTuple):
    """Solutions for L strengths and T targets.

    Attributes:
      weights: float64 [L, D, T].
      bias: float64 [L, T].
      loo_error: float64 [L, T], mean squared error of the examples left out, each once.
      l2: float64 [L].
    """

    weights: np.ndarray
    bias: np.ndarray
    loo_error: np.ndarray
    l2: np.ndarray


class RegressionResult(NamedTuple):
    """How well targets are predicted on the test part.

    Attributes:
      r2: float64 [T], 1 at best, 0 for the mean of the test part, below for worse.
      mean: of the targets.
      l2: float64 [T], the strength chosen for each.
    """

    r2: np.ndarray
    mean: float
    l2: np.ndarray


@checked
def ridge(x: chex.Array, y: chex.Array, *, l2: Sequence[float] | None = None) -> Ridge:
    """Ridge regression (Hoerl & Kennard 1970), with errors left out one at a time.

    Minimises ½·mean_i ‖x_i W + b − y_i‖² + l2/2·‖W‖², the bias free. With X = U√S Vᵀ
    centred and g = 1/(S + n·l2): W = V g √S Uᵀ y. The prediction of example i by a fit
    without it is off by (y_i − ŷ_i)/(1 − h_i), h_i = 1/n + Σ_j U_ij² S_j g_j (Allen
    1974, PRESS): exact, for all strengths, from one decomposition; the fit without it
    keeps the penalty n·l2. In float64.

    Args:
      x: [n, D] features of any float dtype, n ≥ 2, as they are. Shifts and rotations of
        them change nothing; constant ones have W = 0 and predict the mean.
      y: [n, T] targets, or [n] for one.
      l2: strengths > 0; scikit-learn's alpha is n·l2. None: `L2_SHARES` of the mean
        variance of a column of x.

    Returns:
      A `Ridge`.

    Raises:
      UsageError: for shapes that do not fit together, NaN, or l2 out of range.
    """
    fit = _fit("ridge", x, y, l2)
    weights = np.stack([fit.basis @ (g[:, None] * fit.inner) for g in fit.gains])
    bias = fit.level - fit.mean @ weights
    return Ridge(weights, bias, fit.loo_error, fit.l2)


@checked
def ridge_r2(
    train_x: chex.Array,
    train_y: chex.Array,
    test_x: chex.Array,
    test_y: chex.Array,
    *,
    l2: Sequence[float] | None = None,
) -> RegressionResult:
    """R² of a linear readout of targets: factors, latents, other representations.

    1 − Σ(y − ŷ)²/Σ(y − ȳ)² over the test part, which is only scored; each target has
    the l2 of its least leave-one-out error on the training part.

    Args:
      train_x, train_y: [n, D] features and [n, T] or [n] targets, see `ridge`.
      test_x, test_y: [m, D] and [m, T] or [m], m ≥ 2.
      l2: see `ridge`.

    Returns:
      A `RegressionResult`. Constant features have an R² of at most 0.

    Raises:
      UsageError: as `ridge`, or a target that is constant in either part: its R² is
        undefined.
    """
    name = "ridge_r2"
    fit = _fit(name, train_x, train_y, l2)
    test_x, target = _pair(name, "test", test_x, test_y)
    if test_x.shape[1] != len(fit.mean) or target.shape[1] != len(fit.level):
        raise UsageError(
            f"{name}: expected test features [m, {len(fit.mean)}] and targets [m, "
            f"{len(fit.level)}] as those of training, got {test_x.shape} and "
            f"{target.shape}"
        )
    for part, y in (("training", np.asarray(train_y)), ("test", target)):
        constant = (y == y[:1]).all(0)
        if constant.any():
            raise UsageError(
                f"{name}: target {int(np.argmax(constant))} is constant in the "
                f"{part} part, so nothing can tell of it; leave it out"
            )
    best = fit.loo_error.argmin(0)
    missed = np.square(target - _predicted(fit, test_x, best)).sum(0)
    r2 = 1 - missed / np.square(target - target.mean(0)).sum(0)
    return RegressionResult(r2, float(r2.mean()), fit.l2[best])


@checked
def ridge_probe(
    train_x: chex.Array,
    train_labels: chex.Array,
    test_x: chex.Array,
    test_labels: chex.Array,
    *,
    l2: Sequence[float] | None = None,
) -> ProbeResult:
    """Test accuracy of ridge regression on labels as ±1, by the largest output.

    A linear probe in closed form: far faster than `linear_probe`, and often as good.
    One l2 for all classes, that of the least leave-one-out error on the training part.

    Args:
      train_x, train_labels: [n, D] features and int [n] labels ≥ 0.
      test_x, test_labels: [m, D] features and int [m] labels ≥ 0; one that training
        does not have counts as wrong.
      l2: see `ridge`.

    Returns:
      A `ProbeResult` of one draw, that of all labels. Of equal outputs, as constant
      features have for classes of equal size, the lower class is taken.

    Raises:
      UsageError: as `ridge`, labels < 0, or fewer than two classes.
    """
    name = "ridge_probe"
    x, classes, place = training_part(name, train_x, train_labels)
    test_x, labels = scoring_part(name, test_x, test_labels, x.shape)
    # ±1 in a byte: in float64 those of a thousand classes outweigh the features.
    fit = _fit(name, x, 2 * np.eye(len(classes), dtype=np.int8)[place] - 1, l2)
    best = np.full(len(classes), fit.loo_error.mean(1).argmin())
    right = classes[_predicted(fit, test_x, best).argmax(1)] == labels
    accuracy = float(right.mean())
    return ProbeResult(
        np.array([accuracy]), accuracy, 0.0, fit.l2[best[:1]], None, len(place)
    )


class _Fit(NamedTuple):
    """Features in their axes, and the gains of every strength in them.

    Attributes:
      mean, level: [D] and [T], of features and targets.
      basis: V [D, r].
      inner: √S Uᵀ y [r, T].
      gains: [L, r].
      loo_error: [L, T].
      l2: [L].
    """

    mean: np.ndarray
    level: np.ndarray
    basis: np.ndarray
    inner: np.ndarray
    gains: np.ndarray
    loo_error: np.ndarray
    l2: np.ndarray


def _fit(name, x, y, l2) -> _Fit:
    x, y = _pair(name, "training", x, y)
    n, mean, level = len(x), *(v.mean(0, dtype=np.float64) for v in (x, y))
    scores, basis = to_axes(x, mean)
    spread = sum(np.square(scores(rows)).sum(0) for rows in slices(x))
    if l2 is None:
        l2 = np.array(L2_SHARES) * ((spread.sum() / (n * x.shape[1])) or 1.0)
    else:
        l2 = np.asarray(l2, np.float64)
        if l2.ndim != 1 or not len(l2) or not ((l2 > 0) & (l2 < np.inf)).all():
            raise UsageError(
                f"{name}: l2 must be strengths > 0 and finite, got {l2.tolist()}"
            )
    gains = 1 / (spread + n * l2[:, None])
    inner = sum(scores(rows).T @ (y[rows] - level) for rows in slices(x))
    errors = np.zeros((len(l2), len(level)))
    for rows in slices(x):
        block, target = scores(rows), y[rows] - level
        squares = np.square(block)
        for error, g in zip(errors, gains, strict=True):
            residual = target - block @ (g[:, None] * inner)
            leverage = 1 / n + squares @ g
            error += np.square(residual / (1 - leverage)[:, None]).sum(0)
    return _Fit(mean, level, basis, inner, gains, errors / n, l2)


def _predicted(fit: _Fit, x: np.ndarray, best: np.ndarray) -> np.ndarray:
    """[m, T], each target by its strength best [T]."""
    weights = fit.basis @ (fit.gains[best].T * fit.inner)
    return (x - fit.mean) @ weights + fit.level


def _pair(name, part, x, y) -> tuple[np.ndarray, np.ndarray]:
    """[n, D] as given, and targets [n, T]."""
    x, y = np.asarray(x), np.asarray(y)
    arguments.features(name, least=2, **{f"{part} features": x})
    if y.ndim not in (1, 2) or len(y) != len(x) or not y.size:
        raise UsageError(
            f"{name}: {part} targets must be [{len(x)}] or [{len(x)}, T], one row for "
            f"each of the features, got {y.shape}"
        )
    y = y.reshape(len(x), -1)
    if y.dtype != np.int8:
        y = y.astype(np.float64)
    if not np.isfinite(y).all():
        raise UsageError(f"{name}: {part} targets must be finite, got NaN or inf")
    return x, y
