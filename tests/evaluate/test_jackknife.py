"""Intervals by leaving groups out: what is known of means, and coverage."""

import numpy as np
import pytest
from scipy import stats

from rl_jax import evaluate
from rl_jax.errors import UsageError


def test_of_a_mean_it_is_the_interval_of_the_group_means():
    x = np.random.default_rng(0).normal(2.0, 3.0, 200)
    found = evaluate.jackknife(np.mean, x, groups=10)
    place = np.random.default_rng(0).permutation(200) % 10
    groups = np.array([x[place == g].mean() for g in range(10)])
    error = groups.std(ddof=1) / 10**0.5
    half = stats.t.ppf(0.975, 9) * error
    np.testing.assert_allclose(found, (x.mean(), x.mean() - half, x.mean() + half))


def test_a_vector_is_each_of_its_entries_and_extra_rows_stay_in():
    x, y = np.random.default_rng(1).normal(size=(2, 47))

    def both(x, y):
        assert len(x) in (47, 47 - 4)
        return np.array([x.mean(), (x * y).mean()])

    found = evaluate.jackknife(both, x, y)
    alone = evaluate.jackknife(lambda x, y: (x * y).mean(), x, y)
    np.testing.assert_allclose([v[1] for v in found], alone)
    assert found.low.shape == (2,)


@pytest.mark.parametrize("statistic", [np.mean, np.var, np.median])
def test_it_covers_the_truth_as_often_as_it_says(statistic):
    truth = {np.mean: 0.0, np.var: 1.0, np.median: 0.0}[statistic]
    hits = []
    for seed in range(300):
        x = np.random.default_rng(seed).normal(size=300)
        _, low, high = evaluate.jackknife(statistic, x, confidence=0.9)
        hits.append(low <= truth <= high)
    assert stats.binomtest(sum(hits), 300, 0.9).pvalue > 1e-3


def test_corrected_it_covers_where_few_rows_make_the_value_too_small():
    """The plain variance is (n − 1)/n of the truth: of 23 rows that has a bias."""
    hits = {False: 0, True: 0}
    for seed in range(300):
        x = np.random.default_rng(seed).normal(size=(23, 30))
        for corrected in hits:
            found = evaluate.jackknife(
                lambda x: x.var(0).mean(), x, corrected=corrected
            )
            hits[corrected] += found.low <= 1 <= found.high
            assert found.low <= found.estimate <= found.high
    assert stats.binomtest(hits[True], 300, 0.95).pvalue > 1e-3
    assert hits[False] < 0.9 * 300


@pytest.mark.parametrize("count", [20, 29, 39, 45])
def test_rows_that_stay_in_always_do_not_narrow_it(count):
    """Coverage of the mean of normal rows, where groups do not divide their number."""
    hits = []
    for seed in range(1500):
        x = np.random.default_rng(seed).normal(size=count)
        _, low, high = evaluate.jackknife(np.mean, x)
        hits.append(low <= 0 <= high)
    assert stats.binomtest(sum(hits), 1500, 0.95).pvalue > 1e-3


def test_a_constant_has_no_width():
    found = evaluate.jackknife(lambda x: 3.0, np.arange(40))
    assert found == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    "odd",
    [
        lambda x: np.inf,
        lambda x: np.inf if len(x) == 40 else 1.0,
        lambda x: np.inf if x.min() > 0 else 1.0,
        lambda x: (np.inf if x.min() > 0 else -np.inf) if len(x) < 40 else 1.0,
        lambda x: np.nan,
    ],
    ids=["always", "of all rows", "without a group", "of both signs", "NaN"],
)
def test_what_is_not_finite_has_no_interval_and_warns_of_nothing(odd):
    x = np.arange(40.0)
    value, low, high = evaluate.jackknife(lambda x: np.array([x.mean(), odd(x)]), x)
    np.testing.assert_array_equal(value, [x.mean(), odd(x)])
    np.testing.assert_array_equal(np.isnan([low, high]), [[False, True]] * 2)


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ((np.zeros(19),), {}, "n >= 20 rows, got [19]"),
        ((np.zeros(30), np.zeros(31)), {}, "the same n >= 20 rows, got [30, 31]"),
        ((), {}, "got []"),
        ((np.zeros(30),), {"groups": 1}, "groups must be >= 2, got 1"),
        ((np.zeros(30),), {"confidence": 1.0}, "confidence must be in (0, 1), got 1.0"),
    ],
)
def test_refused(rows, options, words):
    with pytest.raises(UsageError, match="jackknife: ") as error:
        evaluate.jackknife(lambda *x: 0.0, *rows, **options)
    assert words in str(error.value)


def test_no_group_is_a_class_of_rows_in_order():
    labels = np.arange(200) % 10

    def classes(labels):
        return float(len(np.unique(labels)))

    assert evaluate.jackknife(classes, labels) == (10.0, 10.0, 10.0)
