"""Whether predicted probabilities are the frequencies they claim to be."""

from typing import NamedTuple

import chex
import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.probabilities import (
    checked_labels,
    checked_probabilities,
    checked_scores,
)

HOTTEST = 1e3
"""Temperatures are looked for in [1/HOTTEST, HOTTEST]."""


class Reliability(NamedTuple):
    """A reliability diagram: the examples by the probability of their prediction.

    Attributes:
      edges: float [bins + 1]; bin b holds confidences in (edges[b], edges[b + 1]].
      confidence: float [bins], the mean largest probability; NaN in an empty bin.
      accuracy: float [bins], the share predicted right; NaN in an empty bin.
      count: int [bins].
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


class Temperature(NamedTuple):
    """A fitted temperature, to divide logits by.

    Attributes:
      temperature: T; above 1 the logits were over-confident.
      before: cross-entropy in nats of the logits as they are.
      after: that of logits / T, on the same examples; never above `before`.
    """

    temperature: float
    before: float
    after: float


@checked
def reliability(
    probabilities: chex.Array,
    labels: chex.Array,
    *,
    bins: int = 15,
    equal_mass: bool = False,
) -> Reliability:
    """Reliability diagram (Guo et al. 2017, arXiv:1706.04599, section 2).

    The prediction is the class of largest probability (of equals the lower), and that
    probability its confidence.

    Args:
      probabilities: [n, C], C >= 2, rows in [0, 1] that sum to 1.
      labels: int [n] in [0, C).
      bins: how many, in [1, n].
      equal_mass: bins between the quantiles of the confidence (Nguyen & O'Connor 2015,
        arXiv:1508.05154) instead of equal widths of [0, 1]. Equal confidences share a
        bin, so many of them make bins of unequal mass.

    Returns:
      A `Reliability`.

    Raises:
      UsageError: for probabilities or labels that are none, or more bins than examples.
    """
    return _reliability("reliability", probabilities, labels, bins, equal_mass)


@checked
def expected_calibration_error(
    probabilities: chex.Array,
    labels: chex.Array,
    *,
    bins: int = 15,
    equal_mass: bool = False,
) -> float:
    """ECE (Naeini et al. 2015; Guo et al. 2017): Σ_b n_b/n |accuracy_b − confidence_b|.

    Never exactly 0 on a sample: with n_b examples a perfectly calibrated bin gives
    about √(2/π · accuracy(1 − accuracy)/n_b).

    Args:
      probabilities, labels, bins, equal_mass: see `reliability`.

    Returns:
      In [0, 1].

    Raises:
      UsageError: as `reliability`.
    """
    found = _reliability(
        "expected_calibration_error", probabilities, labels, bins, equal_mass
    )
    weight = found.count / found.count.sum()
    return float(np.sum(weight * _gaps(found)))


@checked
def maximum_calibration_error(
    probabilities: chex.Array,
    labels: chex.Array,
    *,
    bins: int = 15,
    equal_mass: bool = False,
) -> float:
    """MCE (Naeini et al. 2015; Guo et al. 2017): max_b |accuracy_b − confidence_b|.

    Over bins that hold an example. One that holds few decides it by chance;
    `equal_mass` has none of them.

    Args:
      probabilities, labels, bins, equal_mass: see `reliability`.

    Returns:
      In [0, 1].

    Raises:
      UsageError: as `reliability`.
    """
    found = _reliability(
        "maximum_calibration_error", probabilities, labels, bins, equal_mass
    )
    return float(_gaps(found).max())


@checked
def brier_score(probabilities: chex.Array, labels: chex.Array) -> float:
    """Brier (1950) score of all classes: 1/n Σ_i Σ_c (p_ic − 1[y_i = c])².

    For two classes it is twice the score of the positive class alone.

    Args:
      probabilities, labels: see `reliability`.

    Returns:
      In [0, 2].

    Raises:
      UsageError: for probabilities or labels that are none.
    """
    p = checked_probabilities("brier_score", probabilities)
    labels = checked_labels("brier_score", labels, p.shape)
    own = p[np.arange(len(p)), labels]
    return float(np.mean(np.square(p).sum(1) - 2 * own + 1))


@checked
def negative_log_likelihood(probabilities: chex.Array, labels: chex.Array) -> float:
    """Cross-entropy of probabilities: −1/n Σ_i log p_i,y_i.

    Args:
      probabilities, labels: see `reliability`.

    Returns:
      In nats, >= 0; infinite where a label has probability 0.

    Raises:
      UsageError: for probabilities or labels that are none.
    """
    p = checked_probabilities("negative_log_likelihood", probabilities)
    labels = checked_labels("negative_log_likelihood", labels, p.shape)
    own = p[np.arange(len(p)), labels]
    with np.errstate(divide="ignore"):
        # Rounding may bring a probability above 1.
        return float(np.abs(np.log(np.minimum(own, 1.0))).mean())


@checked
def fit_temperature(logits: chex.Array, labels: chex.Array) -> Temperature:
    """Temperature scaling (Guo et al. 2017, arXiv:1706.04599): min_T CE(z/T, y).

    Convex in β = 1/T, with the derivative mean(z_c − z_y) under softmax(βz), whose root
    is found by Brent's method (1973) on log β. Fit it on held-out examples, never
    on those that trained the classifier nor on those reported; the predicted classes
    stay the same.

    Args:
      logits: z [n, C], C >= 2.
      labels: int [n] in [0, C).

    Returns:
      A `Temperature`, T in [1e-3, 1e3]: at the lower end where the logits separate all
      labels, at the upper one where they say nothing of them.

    Raises:
      UsageError: for logits that are not finite, or labels that do not fit.
    """
    z = checked_scores("fit_temperature", "logits", logits)
    labels = checked_labels("fit_temperature", labels, z.shape)
    margin = z - z[np.arange(len(z)), labels][:, None]

    def cross_entropy(beta):
        return float(logsumexp(beta * margin, axis=1).mean())

    def slope(log_beta):
        return (softmax(np.exp(log_beta) * margin, axis=1) * margin).sum(1).mean()

    limit = np.log(HOTTEST)
    if not margin.any():
        log_beta = -limit
    elif slope(limit) <= 0:
        log_beta = limit
    elif slope(-limit) >= 0:
        log_beta = -limit
    else:
        log_beta = brentq(slope, -limit, limit, xtol=1e-10)
    beta = np.exp(log_beta)
    before, after = cross_entropy(1.0), cross_entropy(beta)
    # Equally good up to rounding: the logits are calibrated as they are.
    if after > before:
        beta, after = 1.0, before
    return Temperature(float(1 / beta), before, after)


def _gaps(found: Reliability) -> np.ndarray:
    """|accuracy − confidence| of each bin, 0 where it is empty."""
    return np.where(found.count, np.abs(found.accuracy - found.confidence), 0.0)


def _reliability(name, probabilities, labels, bins, equal_mass) -> Reliability:
    p = checked_probabilities(name, probabilities)
    labels = checked_labels(name, labels, p.shape)
    if not 1 <= bins <= len(p):
        raise UsageError(
            f"{name}: bins must be in [1, {len(p)}], the number of examples, got {bins}"
        )
    confidence, right = p.max(1), p.argmax(1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    if equal_mass:
        edges = np.quantile(confidence, edges)
    place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, value, bins) for value in (confidence, right))
    means = [np.where(count, s / np.maximum(count, 1), np.nan) for s in sums]
    return Reliability(edges, *means, count)
