"""Intervals of means and of differences: SciPy, coverage, cases by hand."""

import numpy as np
import pytest
from scipy import stats

from rl_jax import evaluate
from rl_jax.errors import UsageError


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_equals_scipy(confidence):
    for right, n in ((0, 10), (10, 10), (1, 1), (3, 10), (950, 1000)):
        found = evaluate.wilson_interval(right, n, confidence=confidence)
        target = stats.binomtest(right, n).proportion_ci(confidence, "wilson")
        assert found.estimate == right / n
        np.testing.assert_allclose(found[1:], [target.low, target.high], atol=1e-14)


def test_wilson_of_arrays_and_by_hand():
    found = evaluate.wilson_interval(np.array([0, 5]), 10)
    for i, right in enumerate((0, 5)):
        one = evaluate.wilson_interval(right, 10)
        assert [v[i] for v in found] == list(one)
    # z² = n: middle (1/2 + 1/2)/2 and half width √(0 + 1/4)/2 of p = 1.
    confidence = 2 * stats.norm.cdf(2) - 1
    low, high = evaluate.wilson_interval(4, 4, confidence=confidence)[1:]
    assert (low, high) == (pytest.approx(0.5), 1.0)


def test_bootstrap_equals_scipy():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(90, 2))
    found = evaluate.bootstrap_interval(values, confidence=0.9)
    np.testing.assert_allclose(found.estimate, values.mean(0))
    target = stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = target.high - target.low
    assert (np.abs(found.low - target.low) < 0.05 * width).all()
    assert (np.abs(found.high - target.high) < 0.05 * width).all()
    alone = evaluate.bootstrap_interval(values[:, 0], confidence=0.9)
    assert isinstance(alone.low, float)
    assert alone == tuple(pytest.approx(v[0]) for v in found)


def test_right_or_wrong_is_resampled_as_any_value():
    """Two distinct rows take another path than many; both are the same bootstrap."""
    right = np.arange(200) < 140
    found = evaluate.bootstrap_interval(right)
    target = stats.binom(200, 0.7).ppf([0.025, 0.975]) / 200
    np.testing.assert_allclose(found[1:], target, atol=0.5 / 200 + 1e-9)
    noise = 1e-9 * np.random.default_rng(0).normal(size=200)
    np.testing.assert_allclose(
        evaluate.bootstrap_interval(right + noise)[1:], found[1:], atol=1 / 200
    )


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    trials, share = 500, 0.9
    error = 3.3 * np.sqrt(share * (1 - share) / trials)
    values = rng.gamma(4.0, size=(150, trials))
    low, high = evaluate.bootstrap_interval(values, confidence=share, resamples=2000)[
        1:
    ]
    assert abs(np.mean((low <= 4) & (high >= 4)) - share) < error
    right = rng.binomial(300, 0.93, trials)
    low, high = evaluate.wilson_interval(right, 300, confidence=share)[1:]
    assert abs(np.mean((low <= 0.93) & (high >= 0.93)) - share) < error


def test_the_difference_is_paired():
    """Examples differ far more than the models do."""
    rng = np.random.default_rng(0)
    easy = 10 * rng.normal(size=80)
    a, b = easy + 0.1 + 0.2 * rng.normal(size=80), easy
    found = evaluate.paired_difference(a, b)
    assert found.difference == pytest.approx(np.mean(a - b))
    assert 0 < found.low < found.difference < found.high < 0.25
    assert found.better > 0.99
    target = evaluate.bootstrap_interval(a - b)
    np.testing.assert_allclose(found[1:3], target[1:], rtol=1e-9)
    other = evaluate.paired_difference(b, a)
    np.testing.assert_allclose(other[:3], [-found[0], -found[2], -found[1]], rtol=0.1)
    assert other.better == pytest.approx(1 - found.better)


def test_correctness_by_hand():
    """A is right where b is wrong on 3 of 100 examples, and wrong on 1 where b is."""
    a, b = np.ones(100, bool), np.ones(100, bool)
    a[0], b[1:4] = False, False
    found = evaluate.paired_difference(a, b)
    assert found.difference == pytest.approx(0.02)
    outcomes = [-0.01, 0.0, 0.01]
    counts = np.random.default_rng(1).multinomial(100, [0.01, 0.96, 0.03], 200_000)
    means = counts @ outcomes
    target = np.mean(means > 1e-12) + np.mean(np.abs(means) < 1e-12) / 2
    assert found.better == pytest.approx(target, abs=0.012)
    low, high = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose(found[1:3], [low, high], atol=1e-12)


def test_identical_scores_do_not_differ():
    for scores in (np.random.default_rng(0).normal(size=(3, 90)), np.ones(5)):
        found = evaluate.paired_difference(scores, scores)
        assert found == (0.0, 0.0, 0.0, 0.5)
    shift = evaluate.paired_difference(np.ones(9), np.zeros((4, 9)))
    assert shift == (1.0, 1.0, 1.0, 1.0)
    # The order of the draws is no difference, though their sums round differently.
    draws = np.random.default_rng(1).random((7, 50)) / 3
    found = evaluate.paired_difference(draws, draws[::-1])
    assert found == (0.0, 0.0, 0.0, 0.5)


def test_draws_are_averaged_and_a_seed_decides():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 60)) < 0.5
    found = evaluate.paired_difference(a, b, seed=3)
    assert found == evaluate.paired_difference(a.mean(0), b.mean(0), seed=3)
    assert found != evaluate.paired_difference(a, b, seed=4)
    assert found == evaluate.paired_difference(a, b, seed=3)


GOOD = np.arange(6.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: evaluate.wilson_interval(11, 10),
            r"right must be in \[0, n\], got 11",
        ),
        (lambda: evaluate.wilson_interval(0, 0), "n must be >= 1, got 0"),
        (lambda: evaluate.wilson_interval(0.95, 9), "multiply a share by n"),
        (lambda: evaluate.wilson_interval(np.nan, 3), "right must be in"),
        (lambda: evaluate.wilson_interval(1, 2, confidence=1), r"in \(0, 1\), got 1"),
        (lambda: evaluate.bootstrap_interval(GOOD * np.nan), "values must be finite"),
        (lambda: evaluate.bootstrap_interval(GOOD[:1]), "at least 2 examples, got 1"),
        (lambda: evaluate.bootstrap_interval(np.ones((2, 2, 2))), "1 or 2 axes"),
        (lambda: evaluate.bootstrap_interval(GOOD[:0]), r"not be empty, got \(0,\)"),
        (lambda: evaluate.bootstrap_interval(GOOD, resamples=9), ">= 100, got 9"),
        (lambda: evaluate.bootstrap_interval(GOOD, confidence=0.0), "got 0.0"),
        (
            lambda: evaluate.paired_difference(GOOD, GOOD[1:]),
            r"of the same examples, got \(6,\) and \(5,\)",
        ),
        (lambda: evaluate.paired_difference(GOOD, GOOD * np.inf), "b must be finite"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(UsageError, match=message), np.errstate(all="ignore"):
        call()
