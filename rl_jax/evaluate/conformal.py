"""Sets of classes that hold the right one with a promised probability."""

import math
from typing import NamedTuple

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.probabilities import checked_labels, checked_probabilities


class PredictionSets(NamedTuple):
    """Sets of classes, and the thresholds that made them.

    Attributes:
      sets: bool [m, C], the classes in the set of each test example.
      threshold: float [C], the largest score a class may have; the same for all classes
        unless `per_class`. Infinite where too few examples calibrate it.
    """

    sets: np.ndarray
    threshold: np.ndarray


class Coverage(NamedTuple):
    """How often sets hold the label, and what that costs.

    Attributes:
      coverage: share of examples whose set holds their label.
      size: mean number of classes in a set.
      class_coverage: float [C], over the examples of each class; NaN without any.
      class_size: float [C], likewise.
    """

    coverage: float
    size: float
    class_coverage: np.ndarray
    class_size: np.ndarray


@checked
def lac_sets(
    probabilities: chex.Array,
    labels: chex.Array,
    test_probabilities: chex.Array,
    *,
    alpha: float = 0.1,
    per_class: bool = False,
) -> PredictionSets:
    """LAC, the smallest sets on average (Sadinle et al. 2019, arXiv:1609.00451).

    {c: 1 − p_c ≤ q}, q the `conformal_quantile` of 1 − p_y on calibration examples.
    Hard examples may get an empty set, and a coverage below 1 − α of their own.

    Args:
      probabilities, labels: [n, C] and int [n] in [0, C), the calibration examples: not
        seen in training, exchangeable with the test examples.
      test_probabilities: [m, C].
      alpha: α in (0, 1), the probability of a miss.
      per_class: a q for each class, from its own examples: coverage 1 − α holds within
        each class. A class with none is in every set.

    Returns:
      `PredictionSets`. P(label in set) ≥ 1 − α over calibration and test examples, and
      ≤ 1 − α + 1/(n + 1) where no scores are equal.

    Raises:
      UsageError: for probabilities or labels that are none, or alpha out of range.
    """
    p, labels, test = _checked("lac_sets", probabilities, labels, test_probabilities)
    return _sets("lac_sets", 1 - p, labels, 1 - test, alpha, per_class)


@checked
def aps_sets(
    probabilities: chex.Array,
    labels: chex.Array,
    test_probabilities: chex.Array,
    *,
    alpha: float = 0.1,
    per_class: bool = False,
    seed: int | None = 0,
) -> PredictionSets:
    """APS, adaptive sets (Romano et al. 2020, arXiv:2006.02544).

    Classes in falling order of probability until their sum reaches a level. The score
    of a class is Σ_{c before it} p_c + v p, v uniform in [0, 1) for each example.
    Sets grow where the classifier is unsure, so that coverage is nearer to 1 − α for
    easy and hard examples alike than with `lac_sets`.

    Args:
      probabilities, labels, test_probabilities, alpha, per_class: see `lac_sets`.
      seed: of v; a randomised set can be empty. None: v = 0, so that the most probable
        class is in every set.

    Returns:
      `PredictionSets`, with the promise of `lac_sets`.

    Raises:
      UsageError: as `lac_sets`.
    """
    p, labels, test = _checked("aps_sets", probabilities, labels, test_probabilities)
    rng = None if seed is None else np.random.default_rng(seed)
    scores, test_scores = (_mass_before(x, rng) for x in (p, test))
    return _sets("aps_sets", scores, labels, test_scores, alpha, per_class)


@checked
def conformal_quantile(scores: chex.Array, *, alpha: float = 0.1) -> float:
    """The ⌈(n + 1)(1 − α)⌉-th smallest score (Vovk et al. 2005).

    A new score, exchangeable with these n, is at most this with probability ≥ 1 − α.

    Args:
      scores: [n] of calibration examples, n >= 0.
      alpha: α in (0, 1).

    Returns:
      One of the scores; inf for n < 1/α − 1, where none is large enough.

    Raises:
      UsageError: for scores that are not [n] or NaN, or alpha out of range.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise UsageError(
            f"conformal_quantile: expected scores [n] without NaN, got {scores.shape}"
        )
    _check_alpha("conformal_quantile", alpha)
    # (n + 1)(1 − α) is often a whole number, which rounding must not lift to the next.
    rank = math.ceil(round((len(scores) + 1) * (1 - alpha), 9))
    if rank > len(scores):
        return math.inf
    return float(np.partition(scores, rank - 1)[rank - 1])


@checked
def set_coverage(sets: chex.Array, labels: chex.Array) -> Coverage:
    """Coverage and size of prediction sets, in all and by class.

    Args:
      sets: bool [m, C], for instance of `lac_sets`.
      labels: int [m] in [0, C), of the test examples.

    Returns:
      A `Coverage`.

    Raises:
      UsageError: for shapes that do not fit together or labels out of range.
    """
    sets = np.asarray(sets)
    if sets.ndim != 2 or not len(sets) or sets.dtype != bool:
        raise UsageError(
            f"set_coverage: expected sets bool [m, C], got {sets.dtype} "
            f"{list(sets.shape)}"
        )
    labels = checked_labels("set_coverage", labels, sets.shape)
    held, size = sets[np.arange(len(sets)), labels], sets.sum(1)
    count = np.bincount(labels, minlength=sets.shape[1])

    def by_class(value):
        total = np.bincount(labels, value, sets.shape[1])
        return np.where(count, total / np.maximum(count, 1), np.nan)

    return Coverage(
        float(held.mean()), float(size.mean()), by_class(held), by_class(size)
    )


def _checked(name, probabilities, labels, test_probabilities):
    p = checked_probabilities(name, probabilities)
    labels = checked_labels(name, labels, p.shape)
    test = checked_probabilities(name, test_probabilities)
    if test.shape[1] != p.shape[1]:
        raise UsageError(
            f"{name}: test_probabilities must be [m, {p.shape[1]}] as those of "
            f"calibration, got {test.shape}"
        )
    return p, labels, test


def _check_alpha(name, alpha):
    if not 0 < alpha < 1:
        raise UsageError(f"{name}: alpha must be in (0, 1), got {alpha}")


def _mass_before(p: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """[n, C], the mass of the classes before each, and a share of its own."""
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, 1)
    before = np.cumsum(ranked, 1) - ranked
    if rng is not None:
        before += rng.random((len(p), 1)) * ranked
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, before, 1)
    return scores


def _sets(name, scores, labels, test_scores, alpha, per_class) -> PredictionSets:
    _check_alpha(name, alpha)
    own, classes = scores[np.arange(len(scores)), labels], scores.shape[1]
    groups = [own[labels == c] for c in range(classes)] if per_class else [own]
    thresholds = [conformal_quantile(group, alpha=alpha) for group in groups]
    threshold = np.broadcast_to(np.array(thresholds), classes)
    return PredictionSets(test_scores <= threshold[None], threshold)
