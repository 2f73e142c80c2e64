"""How far a number of a test part may be from that of all examples."""

from typing import NamedTuple

import chex
import numpy as np
from scipy.special import ndtri

from rl_jax.errors import UsageError, checked

_CHUNK = 2**22
"""Counts held at a time."""
_FEW = 64
"""Up to this many distinct rows, a multinomial draw is faster than one row by row."""


class Interval(NamedTuple):
    """A number and its confidence interval; floats, or arrays of the same shape.

    Attributes:
      estimate: of all examples given.
      low, high: the ends.
    """

    estimate: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray


class Difference(NamedTuple):
    """How much better a is than b on the same examples.

    Attributes:
      difference: mean of a − b.
      low, high: the ends of its confidence interval.
      better: share of the resamples in which a is above b, equal ones counted half: 0.5
        where nothing tells them apart.
    """

    difference: float
    low: float
    high: float
    better: float


@checked
def wilson_interval(
    right: int | chex.Array, n: int | chex.Array, *, confidence: float = 0.95
) -> Interval:
    """Interval of a proportion (Wilson 1927, JASA 22:209-212), for an accuracy.

    With p = right/n and z the normal quantile of (1 + confidence)/2, the values q with
    |p − q| ≤ z √(q(1 − q)/n): (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n). It
    lies in [0, 1] and has a width also where all are right.

    Args:
      right: how many of the examples are right, a whole number in [0, n], or an array
        of such.
      n: how many there are, ≥ 1; independent of each other.
      confidence: in (0, 1).

    Returns:
      An `Interval` around `right / n`; the estimate is not its middle.

    Raises:
      UsageError: for counts or a confidence out of range.
    """
    _check_confidence("wilson_interval", confidence)
    right, n = np.asarray(right, np.float64), np.asarray(n, np.float64)
    # Written so that NaN is refused.
    if not (n >= 1).all():
        raise UsageError(f"wilson_interval: n must be >= 1, got {n.min()}")
    if not ((right >= 0) & (right <= n)).all():
        raise UsageError(
            f"wilson_interval: right must be in [0, n], got {right.tolist()} of "
            f"{n.tolist()}"
        )
    if (right % 1).any() or (n % 1).any():
        raise UsageError(
            f"wilson_interval: right and n count examples, got {right.tolist()} of "
            f"{n.tolist()}; multiply a share by n"
        )
    p, z = right / n, ndtri((1 + confidence) / 2)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low = np.where(right == 0, 0.0, middle - half)
    high = np.where(right == n, 1.0, middle + half)
    return Interval(*(v.item() if v.ndim == 0 else v for v in (p, low, high)))


@checked
def bootstrap_interval(
    values: chex.Array,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean over examples (Efron 1979, Ann. Stat. 7:1-26).

    The quantiles (1 ∓ confidence)/2 of the means of m examples drawn with replacement.
    For small m it is too narrow, by about √((m − 1)/m) and what a t distribution adds.

    Args:
      values: [m] of the examples, m ≥ 2, or [m, K] for K measures of them, which share
        the resamples.
      confidence: in (0, 1).
      resamples: ≥ 100.
      seed: of the resamples.

    Returns:
      An `Interval`, floats or [K].

    Raises:
      UsageError: for another shape, NaN, or an argument out of range.
    """
    name = "bootstrap_interval"
    values = _checked(name, "values", values, ranks=(1, 2))
    _check_resampling(name, len(values), confidence, resamples)
    columns = values.reshape(len(values), -1)
    means = _resampled_means(columns, resamples, seed)
    low, high = _percentiles(means, columns, confidence)
    found = columns.mean(0), low, high
    if values.ndim == 1:
        return Interval(*(v.item() for v in found))
    return Interval(*found)


@checked
def paired_difference(
    a: chex.Array,
    b: chex.Array,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Paired bootstrap of two models on the same test examples (Koehn 2004, EMNLP).

    Both are resampled alike, so what makes an example hard for both drops out. Draws of
    labels are averaged first: the interval is that of the examples, with the draws as
    they are.

    Args:
      a, b: [m] scores of the same examples in the same order, m ≥ 2: 0 or 1 for wrong
        or right, or any number of which more is better; or [draws, m].
      confidence, resamples, seed: see `bootstrap_interval`.

    Returns:
      A `Difference`; for identical scores 0 in [0, 0] and `better` 0.5.

    Raises:
      UsageError: for scores of different examples, NaN, or an argument out of range.
    """
    name = "paired_difference"
    a, b = (_checked(name, what, v, ranks=(1, 2)) for what, v in (("a", a), ("b", b)))
    if a.shape[-1] != b.shape[-1]:
        raise UsageError(
            f"{name}: a and b must be of the same examples, got {a.shape} and {b.shape}"
        )
    _check_resampling(name, a.shape[-1], confidence, resamples)
    a, b = (v.mean(0) if v.ndim == 2 else v for v in (a, b))
    # What is equal must not be told apart by the rounding of means.
    rounding = 1e-13 * float(np.maximum(np.abs(a), np.abs(b)).max())
    apart = np.where(np.abs(a - b) > rounding, a - b, 0.0)[:, None]
    means = _resampled_means(apart, resamples, seed)
    means = np.where(np.abs(means) > rounding, means, 0.0)
    low, high = _percentiles(means, apart, confidence)
    better = np.mean((1 + np.sign(means)) / 2)
    return Difference(apart.mean().item(), low.item(), high.item(), float(better))


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """[resamples, K] means of m rows drawn with replacement from [m, K]."""
    rng, m = np.random.default_rng(seed), len(values)
    # How often each distinct row is drawn is multinomial; right or wrong are two rows.
    rows, counts = np.unique(values, axis=0, return_counts=True)
    few = len(rows) <= _FEW
    if not few:
        rows = values
    size = max(_CHUNK // len(rows), 1)
    means = []
    for first in range(0, resamples, size):
        count = min(size, resamples - first)
        if few:
            drawn = rng.multinomial(m, counts / m, size=count)
        else:
            index = rng.integers(m, size=(count, m), dtype=np.int32)
            index += np.arange(count, dtype=np.int32)[:, None] * np.int32(m)
            drawn = np.bincount(index.ravel(), minlength=count * m).reshape(count, m)
        means.append(drawn.astype(np.float64) @ rows / m)
    return np.concatenate(means)


def _percentiles(means, values, confidence):
    """The ends [2, K]; exactly the mean where all values of a column are equal."""
    ends = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2), axis=0)
    constant = values.min(0) == values.max(0)
    return np.where(constant[None], values[:1], ends)


def _checked(name, what, values, *, ranks) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim not in ranks or 0 in values.shape:
        raise UsageError(
            f"{name}: {what} must have {' or '.join(map(str, ranks))} axes and not be "
            f"empty, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: {what} must be finite, got NaN or inf")
    return values


def _check_resampling(name, m, confidence, resamples):
    if m < 2:
        raise UsageError(f"{name}: needs at least 2 examples, got {m}")
    _check_confidence(name, confidence)
    if resamples < 100:
        raise UsageError(f"{name}: resamples must be >= 100, got {resamples}")


def _check_confidence(name, confidence):
    if not 0 < confidence < 1:
        raise UsageError(f"{name}: confidence must be in (0, 1), got {confidence}")
